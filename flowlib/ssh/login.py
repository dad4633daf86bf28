"""Logging in: which keys are tried, what the ssh_config says, and commands in the place of a network."""

from __future__ import annotations

import base64
import contextlib
import errno
import getpass
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from flowlib.errors import ConfigurationError
from flowlib.ssh import host_keys
from flowlib.ssh.targets import Target

if TYPE_CHECKING:
    import paramiko

_PROXY_ENDS = 5.0
_MANY = 3
"""Keys after which an SSH server may want to see no more (MaxAuthTries, usually 6)."""


def authenticate(transport: paramiko.Transport, target: Target) -> None:
    """Log in with the keys that were named, those of the agent, and the usual files, in this order."""
    paramiko = host_keys.load_paramiko()
    user = target.user or getpass.getuser()
    locked: Exception | None = None
    for tried, key in enumerate(_keys(target), 1):
        try:
            if not transport.auth_publickey(user, key()):
                return
        except paramiko.PasswordRequiredException as e:
            # The agent may have it; if not, this is the most useful thing to tell.
            locked = e
        except paramiko.BadAuthenticationType as e:
            raise e from None
        except paramiko.SSHException:
            # That one was not accepted; a lost connection is another matter.
            if not transport.is_active():
                if tried >= _MANY:
                    raise paramiko.SSHException("too many authentication failures") from None
                raise
    if locked is not None:
        raise locked
    missing = [name for name in target.key_files if not os.path.exists(os.path.expanduser(name))]
    text = f"there is no {', '.join(missing)}" if missing else "no key was accepted"
    raise paramiko.AuthenticationException(text)


def _keys(target: Target) -> Iterator[Callable[[], Any]]:
    """The keys to try, each read when its turn comes."""
    paramiko = host_keys.load_paramiko()
    for name in target.key_files:
        path = os.path.expanduser(name)
        if os.path.exists(path):
            yield partial(_load_key, path)
    if target.agent:
        agent = paramiko.Agent()
        try:
            named = _public_keys(target) if target.only_named else None
            for key in agent.get_keys():
                if named is None or key.asbytes() in named:
                    yield partial(_same, key)
        finally:
            agent.close()
    if target.default_keys:
        for kind in ("ed25519", "ecdsa", "rsa"):
            path = os.path.expanduser(f"~/.ssh/id_{kind}")
            if path not in target.key_files and os.path.exists(path):
                yield partial(_load_key, path)


def _public_keys(target: Target) -> set[bytes]:
    """The public halves of the target's keys, as far as their files are there."""
    found: set[bytes] = set()
    for name in target.key_files:
        with contextlib.suppress(OSError, IndexError, ValueError):
            path = os.path.expanduser(name.removesuffix(".pub"))
            with open(f"{path}.pub", encoding="utf-8") as file:
                found.add(base64.b64decode(file.read().split()[1]))
    return found


def _same(key: Any) -> Any:
    return key


def _load_key(path: str) -> Any:
    """A private key of whatever kind.

    Raises:
        paramiko.SSHException: It cannot be read; a PasswordRequiredException if it needs a passphrase.
    """
    paramiko = host_keys.load_paramiko()
    try:
        return paramiko.PKey.from_path(path)
    except TypeError:
        raise paramiko.PasswordRequiredException(f"{path} needs a passphrase") from None
    except (OSError, ValueError) as e:
        raise paramiko.SSHException(f"{path} is no private key that can be used: {e}") from e


def read_config(path: str | None) -> Any:
    """A function that gives the options for a host from an ssh_config.

    Args:
        path: The file; None for ``~/.ssh/config``, which need not exist; "" for none.

    Raises:
        ConfigurationError: It cannot be read, or makes no sense.
    """
    paramiko = host_keys.load_paramiko()
    name = os.path.expanduser("~/.ssh/config" if path is None else path)
    if path == "":
        return lambda host: {}
    try:
        config = paramiko.SSHConfig.from_path(name)
    except FileNotFoundError as e:
        if path is None:
            return lambda host: {}
        raise ConfigurationError(f"ssh_config={path!r}: {os.strerror(e.errno or errno.ENOENT)}") from e
    except (OSError, ValueError, paramiko.ConfigParseError) as e:
        raise ConfigurationError(f"ssh_config={path!r} cannot be read: {e}") from e
    return config.lookup


def proxy_by(command: str) -> Any:
    """A command in the place of a socket, which is waited for at its end."""
    proxy = host_keys.load_paramiko().ProxyCommand(command)
    process = proxy.process

    def close() -> None:
        process.kill()
        process.wait(_PROXY_ENDS)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    proxy.close = close
    return proxy
