"""Checking host keys: a host that is not known, or has changed, is an error that says what to do.

Also home of paramiko's late import, since nothing of SSH works without it.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowlib.errors import OptionalModuleMissing
from flowlib.ssh.problems import changed_key, unknown_key
from flowlib.ssh.targets import Target

if TYPE_CHECKING:
    import paramiko

logger = logging.getLogger(__name__)


def load_paramiko() -> Any:
    """The module paramiko.

    Raises:
        OptionalModuleMissing: It is not installed; the text names the extra.
    """
    try:
        import paramiko
    except ImportError as e:
        reason = "SSH hosts and login nodes need it; install it with: pip install 'flowlib[ssh]'"
        raise OptionalModuleMissing(["paramiko"], reason) from e
    # It logs each connection that fails, with traceback; the same comes as an error, and better said.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    return paramiko


def check(transport: paramiko.Transport, target: Target, host: str) -> None:
    """Check the key that a server has shown; to be called before anything is sent to it.

    Args:
        transport: With the key exchange done.
        target: The machine.
        host: The host that is to be reached in the end, for messages.

    Raises:
        HostUnusable: The key is unknown or has changed.
    """
    key = transport.get_remote_server_key()
    kind = key.get_name()
    found = known_keys(target).lookup(target.key_name)
    known: Mapping[str, paramiko.PKey] = {} if found is None else found
    if kind in known:
        if known[kind].asbytes() != key.asbytes():
            raise changed_key(target, host, kind, fingerprint(key))
        return
    if known:
        # With another kind of key; it was asked for the known kinds first.
        raise changed_key(target, host, kind, fingerprint(key))
    if not target.accept_new:
        raise unknown_key(target, host, kind, fingerprint(key))
    _keep(target, key)


def known_keys(target: Target) -> paramiko.HostKeys:
    """All keys in the target's files; a file that is not there is empty."""
    keys: paramiko.HostKeys = load_paramiko().HostKeys()
    for name in target.known_hosts:
        try:
            keys.load(os.path.expanduser(name))
        except OSError as e:
            logger.debug("known hosts in %s: %s", name, e)
    return keys


def fingerprint(key: paramiko.PKey) -> str:
    """As ``ssh-keygen -l`` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _keep(target: Target, key: paramiko.PKey) -> None:
    line = f"{target.key_name} {key.get_name()} {key.get_base64()}\n"
    for name in target.known_hosts:
        path = os.path.expanduser(name)
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with open(descriptor, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as e:
            logger.warning("the key of %s cannot be kept in %s: %s", target.name, path, e)
            continue
        logger.warning("the new key of %s (%s) was added to %s", target.name, fingerprint(key), path)
        return
