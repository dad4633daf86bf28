"""Who is meant by "user@host:port", and by which way: host specifications, ssh_config and jump hosts, without I/O.

What the user wrote in the specification wins, then what the provider was given, then the ssh_config, as with ``ssh``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowlib.errors import ConfigurationError

Lookup = Callable[[str], Mapping[str, Any]]
"""Gives the options of an ssh_config for a host, keys in lower case, as paramiko's ``SSHConfig.lookup`` does."""

_Place = tuple[str, "int | None"]

PORT = 22
_SPEC = re.compile(r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<rest>[^@\s]+?)/?")
_BRACKETS = re.compile(r"\[(?P<host>[^\]]+)\](?::(?P<port>\d+))?")


@dataclass(frozen=True)
class Spec:
    """A host as somebody wrote it.

    Attributes:
        host: Name, alias of an ssh_config, or address.
        user: None if not given.
        port: None if not given.
    """

    host: str
    user: str | None = None
    port: int | None = None


@dataclass(frozen=True)
class Target:
    """One machine to log in to, with all that is needed for it.

    Attributes:
        name: As the user knows it; for messages.
        host: Name or address to connect to.
        port: TCP port.
        user: Account; "" for the name of the local one.
        key_files: Private keys to try.
        known_hosts: Files of known host keys.
        key_alias: Name under which the host's key is known; "" for host and port.
        accept_new: Whether the key of a host that is not known yet is taken and kept.
        agent: Whether to ask the SSH agent for keys.
        only_named: Whether of the agent's keys only those are tried that belong to ``key_files``.
        default_keys: Whether to try ``~/.ssh/id_*`` too.
        proxy_command: A command whose standard streams lead to the host; "" for none.
    """

    name: str
    host: str
    port: int = PORT
    user: str = ""
    key_files: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()
    key_alias: str = ""
    accept_new: bool = False
    agent: bool = True
    only_named: bool = False
    default_keys: bool = True
    proxy_command: str = ""

    @property
    def key_name(self) -> str:
        """The name of the host in files of known hosts."""
        if self.key_alias:
            return self.key_alias
        return self.host if self.port == PORT else f"[{self.host}]:{self.port}"


@dataclass(frozen=True)
class Login:
    """What a provider was given for all of its hosts.

    Attributes:
        user: Account on the hosts; None for the ssh_config's.
        key_filename: Private keys, tried before those of the ssh_config.
        jump: Jump hosts as for ``ssh -J``; None for the ssh_config's, "none" for none.
        known_hosts: Files of known host keys; None for the ssh_config's.
        accept_new: Whether keys of unknown hosts are taken and kept.
        agent: Whether to ask the SSH agent.
        default_keys: Whether to try ``~/.ssh/id_*``.
    """

    user: str | None = None
    key_filename: tuple[str, ...] = ()
    jump: str | None = None
    known_hosts: tuple[str, ...] | None = None
    accept_new: bool = False
    agent: bool = True
    default_keys: bool = True


def parse(text: object) -> Spec:
    """Read ``[ssh://][user@]host[:port]``.

    Raises:
        ConfigurationError: It is no such thing.

    Example:
        >>> parse("ann@node7:2222")
        Spec(host='node7', user='ann', port=2222)
        >>> parse("[::1]:2222").host
        '::1'
    """
    match = _SPEC.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise _refused(text)
    host, port = match["rest"], None
    brackets = _BRACKETS.fullmatch(host)
    if brackets is not None:
        host, port = brackets["host"], brackets["port"]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if not host or host.startswith("-") or "[" in host or (port is not None and not _is_port(port)):
        raise _refused(text)
    return Spec(host, match["user"], None if port is None else int(port))


def route(text: str, login: Login, lookup: Lookup) -> tuple[Target, ...]:
    """The machines to log in to one after another, each through the one before; the last is the host itself.

    Args:
        text: The host, see ``parse``.
        login: What goes for all hosts.
        lookup: The ssh_config.

    Raises:
        ConfigurationError: A specification makes no sense, or the jump hosts lead in a circle.
    """
    spec = parse(text)
    options = lookup(spec.host)
    target = _target(text, replace(spec, user=spec.user or login.user), login, options)
    jump = login.jump if login.jump is not None else str(options.get("proxyjump", "none"))
    return (*_through(jump, login, lookup, ((spec.host, spec.port),)), target)


def _through(jump: str, login: Login, lookup: Lookup, seen: tuple[_Place, ...]) -> tuple[Target, ...]:
    """The jump hosts of a ``ProxyJump``; the way to the first of them is its own."""
    if jump.strip().lower() in ("", "none"):
        return ()
    names = [name.strip() for name in jump.split(",")]
    first = parse(names[0])
    place = (first.host, first.port)
    if place == seen[-1]:
        return ()  # a pattern such as `Host *` gives the jump host itself as a jump host to itself
    if place in seen:
        circle = " through ".join(host for host, _ in (*seen, place))
        raise ConfigurationError(f"the jump hosts lead in a circle: {circle}")
    before = _through(str(lookup(first.host).get("proxyjump", "none")), login, lookup, (*seen, place))
    # The account and keys of a provider are those of its hosts; a jump host may have others, from its specification.
    plain = replace(login, user=None)
    return (*before, *(_target(name, parse(name), plain, lookup(parse(name).host)) for name in names))


def _target(name: str, spec: Spec, login: Login, options: Mapping[str, Any]) -> Target:
    checking = str(options.get("stricthostkeychecking", "ask")).lower()
    identities_only = str(options.get("identitiesonly", "no")).lower() == "yes"
    known: Sequence[str] = login.known_hosts if login.known_hosts is not None else _known_hosts(options)
    command = str(options.get("proxycommand", ""))
    return Target(
        name=name,
        host=str(options.get("hostname", spec.host)),
        port=spec.port or int(options.get("port", PORT)),
        user=spec.user or str(options.get("user", "")),
        key_files=(*login.key_filename, *_words(options.get("identityfile", ()))),
        known_hosts=tuple(known),
        key_alias=str(options.get("hostkeyalias", "")),
        accept_new=login.accept_new or checking in ("accept-new", "no", "off"),
        agent=login.agent,
        only_named=identities_only,
        default_keys=login.default_keys and not login.key_filename and not identities_only,
        proxy_command="" if command.lower() == "none" or login.jump is not None else command,
    )


def _known_hosts(options: Mapping[str, Any]) -> list[str]:
    user = _words(options.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"))
    return [*user, *_words(options.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts"))]


def _words(value: Any) -> list[str]:
    return value.split() if isinstance(value, str) else [str(word) for word in value]


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 65536


def _refused(text: object) -> ConfigurationError:
    return ConfigurationError(
        f"{text!r} names no SSH host: give 'host', 'user@host', 'host:port' or an alias of your ssh_config "
        "(IPv6 addresses with a port as '[::1]:22')"
    )
