"""Addresses of this machine, for ``HighThroughputExecutor(address=...)``.

Everything is asked of the operating system; nothing is sent to the network, so nothing waits where there is none.
"""

from __future__ import annotations

import socket
from typing import NoReturn

from flowlib.errors import ConfigurationError

# Never assigned to a machine: only the route that packets to it would take is asked for.
_ELSEWHERE = ("203.0.113.1", 9)


def address_by_hostname() -> str:
    """The address that this machine's own name stands for.

    Raises:
        ConfigurationError: The name stands for none.
    """
    name = socket.gethostname()
    try:
        return socket.gethostbyname(name)
    except OSError as e:
        raise ConfigurationError(
            f"this machine's name {name!r} has no address ({e}); use address_by_interface(...) or give address= itself"
        ) from e


def address_by_interface(ifname: str) -> str:
    """The IPv4 address of a network interface.

    Args:
        ifname: Its name, as ``ip address`` shows it.

    Raises:
        ValueError: There is no such interface, or it has no IPv4 address; the text lists those that have.

    Example:
        >>> import flowlib.addresses
        >>> flowlib.addresses.address_by_interface("lo")
        '127.0.0.1'
    """
    found = _interfaces()
    if ifname not in found:
        from flowlib.suggest import nearest

        raise ValueError(f"no interface {ifname!r} with an IPv4 address{nearest(ifname, found)}")
    return found[ifname][0]


def address_by_route() -> str:
    """The address from which this machine would send to machines far away.

    Raises:
        ConfigurationError: There is no route to anywhere.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            # Connecting a datagram socket chooses the route; no packet leaves.
            sock.connect(_ELSEWHERE)
        except OSError as e:
            raise ConfigurationError(
                f"this machine has no route to other networks ({e}); use address_by_interface(...) or '127.0.0.1'"
            ) from e
        return str(sock.getsockname()[0])


def address_by_query(timeout: float = 30) -> NoReturn:
    """Not offered: it would ask a server in the internet what address it sees.

    Raises:
        ConfigurationError: Always; it names the alternatives.
    """
    raise ConfigurationError(
        "address_by_query is not offered, since it tells a server in the internet about this run; use "
        "address_by_route(), address_by_interface(...), or give the address itself"
    )


def get_all_addresses() -> set[str]:
    """All IPv4 addresses of this machine, the loopback one included."""
    addresses = {address for found in _interfaces().values() for address in found}
    for ask in (address_by_hostname, address_by_route):
        try:
            addresses.add(ask())
        except ConfigurationError:
            # One way among several.
            continue
    return addresses


def get_any_address() -> str:
    """An address at which other machines most likely reach this one; the loopback one if there is no other."""
    try:
        return address_by_route()
    except ConfigurationError:
        outside = sorted(a for a in get_all_addresses() if not a.startswith("127."))
        return outside[0] if outside else "127.0.0.1"


def _interfaces() -> dict[str, list[str]]:
    """IPv4 addresses by interface."""
    import psutil

    found: dict[str, list[str]] = {}
    for name, addresses in psutil.net_if_addrs().items():
        mine = [a.address for a in addresses if a.family == socket.AF_INET]
        if mine:
            found[name] = mine
    return found
