"""What is wrong with a host, in the user's words, and what to do about it: pure, from errors and from answers.

Errors are known by the names of their classes, so that reading a verdict needs no paramiko.
"""

from __future__ import annotations

import errno
from enum import Enum

from flowlib.errors import HostUnusable
from flowlib.ssh.targets import Target


class Problem(str, Enum):
    """Kinds of trouble; ``HostUnusable.kind`` is one of these."""

    NAME = "name"
    UNREACHABLE = "unreachable"
    HOST_KEY = "host key"
    AUTHENTICATION = "authentication"
    PROTOCOL = "protocol"
    LOST = "connection lost"
    SHELL = "shell"
    FILES = "files"
    DISK = "disk"
    PYTHON = "python"
    FLOWLIB = "flowlib"
    FORWARDING = "forwarding"

    def __str__(self) -> str:
        return self.value


PASSING = frozenset({Problem.UNREACHABLE, Problem.LOST, Problem.PROTOCOL, Problem.NAME, Problem.DISK})
"""What may be different in a minute; the rest waits for a person."""


def problem(host: str, kind: Problem, what: str, remedy: str) -> HostUnusable:
    """The error for a host that cannot be used."""
    error = HostUnusable(host, str(kind), what, remedy)
    error.retryable = kind in PASSING
    return error


def explain(error: BaseException, target: Target, host: str) -> HostUnusable:
    """What an error of a connection means.

    Args:
        error: What paramiko or the operating system raised.
        target: The machine to which it happened.
        host: The host that was to be reached; another name than the target's if that is a jump host.

    Example:
        >>> print(explain(ConnectionRefusedError(111, "refused"), Target("n7", "n7.lab"), "n7"))
        n7: nothing listens on port 22 of n7.lab (connection refused); start sshd there, or give its port: "n7:PORT"
    """
    if isinstance(error, HostUnusable):
        return error
    kind, what, remedy = _meaning(error, target)
    if target.name != host:
        what = f"jump host {target.name}: {what}"
    return problem(host, kind, what, remedy)


def _meaning(error: BaseException, target: Target) -> tuple[Problem, str, str]:
    names = {cls.__name__ for cls in type(error).__mro__}
    where = f"port {target.port} of {target.host}"
    account = f"{target.user}@{target.host}" if target.user else target.host
    if "gaierror" in names:
        what = f"the name {target.host!r} is unknown ({getattr(error, 'strerror', error)})"
        return Problem.NAME, what, "correct it, or give it a HostName in the ssh_config"
    if "PasswordRequiredException" in names:
        what = f"the private key for {account} is protected by a passphrase"
        return Problem.AUTHENTICATION, what, "load it into the SSH agent: ssh-add KEYFILE"
    if "BadAuthenticationType" in names:
        allowed = ", ".join(getattr(error, "allowed_types", [])) or "something else"
        what = f"{account} does not take keys, but {allowed}"
        return (
            Problem.AUTHENTICATION,
            what,
            "only keys (files or agent) are supported; ask its administrators for those",
        )
    if "AuthenticationException" in names:
        tried = ", ".join(target.key_files) or ("~/.ssh/id_*" if target.default_keys else "no key file")
        tried += " and the SSH agent" if target.agent else ""
        # Of files that were named and are not there.
        tried += f"; {error}" if "there is no" in str(error) else ""
        what = f"{account} accepts none of the keys that were tried ({tried})"
        remedy = f"add yours with: ssh-copy-id {_command_line(target)}; or give user= or key_filename="
        return Problem.AUTHENTICATION, what, remedy
    if "SSHException" in names and "too many authentication" in str(error).lower():
        what = f"{account} refused to try more keys"
        remedy = "name the right one: key_filename=, or IdentityFile with IdentitiesOnly yes in the ssh_config"
        return Problem.AUTHENTICATION, what, remedy
    if "NoValidConnectionsError" in names:
        errors = getattr(error, "errors", {})
        error = next(iter(errors.values()), error)
    number = getattr(error, "errno", None)
    if number == errno.ECONNREFUSED:
        remedy = f'start sshd there, or give its port: "{target.name.partition(":")[0]}:PORT"'
        return Problem.UNREACHABLE, f"nothing listens on {where} (connection refused)", remedy
    if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
        what = f"no answer from {where} in time"
        return Problem.UNREACHABLE, what, "it is down, behind a firewall (give jump=), or slow (raise connect_timeout)"
    if "ChannelException" in names:
        what = f"the connection to {where} through the jump host was refused ({error})"
        return Problem.UNREACHABLE, what, "the host is down, or the jump host may not forward (AllowTcpForwarding)"
    if "SSHException" in names and "banner" in str(error):
        what = f"what listens on {where} is no SSH server, or it is overloaded ({error})"
        return Problem.PROTOCOL, what, "check host and port; a login node may limit connections (MaxStartups)"
    if isinstance(error, OSError):
        return Problem.UNREACHABLE, f"{where} cannot be reached ({error})", "check that it is up, and the network"
    if isinstance(error, EOFError) or "SSHException" in names:
        return (
            Problem.PROTOCOL,
            f"{where} broke off: {str(error) or type(error).__name__}",
            "the sshd's log there says why",
        )
    return Problem.PROTOCOL, f"{type(error).__name__}: {error}", "this is unexpected; please report it"


def unknown_key(target: Target, host: str, kind: str, fingerprint: str) -> HostUnusable:
    """The host's key is not among the known ones."""
    files = ", ".join(target.known_hosts) or "no file of known hosts"
    what = f"its key ({kind} {fingerprint}) is unknown to {files}"
    if target.name != host:
        what = f"jump host {target.name}: {what}"
    remedy = f"log in once by hand to check and keep it: ssh {_command_line(target)}; or give accept_new_host_keys=True"
    return problem(host, Problem.HOST_KEY, what, remedy)


def changed_key(target: Target, host: str, kind: str, fingerprint: str) -> HostUnusable:
    """The host has another key than the known one."""
    what = f"ITS KEY HAS CHANGED, to {kind} {fingerprint}: the host was set up anew, or somebody listens in between"
    if target.name != host:
        what = f"jump host {target.name}: {what}"
    remedy = f"ask its administrators; if the new key is right: ssh-keygen -R '{target.key_name}', then log in by hand"
    return problem(host, Problem.HOST_KEY, what, remedy)


def _command_line(target: Target) -> str:
    port = "" if target.port == 22 else f"-p {target.port} "
    return port + (f"{target.user}@{target.host}" if target.user else target.host)
