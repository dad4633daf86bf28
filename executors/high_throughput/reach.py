"""Where the interchange listens, and under which addresses managers look for it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.providers.base import RemoteSide


def stays_here(provider: Any) -> bool:
    """Whether all blocks of a provider are on this machine, whatever they do."""
    from flowlib.launchers import SimpleLauncher, SingleNodeLauncher
    from flowlib.providers.local import LocalProvider

    return type(provider) is LocalProvider and type(provider.launcher) in (SimpleLauncher, SingleNodeLauncher)


def comes_by_tunnel(provider: Any) -> bool:
    """Whether all managers come by connections that begin on this machine."""
    return bool(getattr(provider, "tunnel", False)) and hasattr(provider, "remote_side")


def remote_side(provider: Any, home: tuple[str, int], python: str | None, logdir: str) -> RemoteSide | None:
    """What is different for managers on the provider's machines; see ``ExecutionProvider.remote_side``.

    Plug-ins for the field's usual interface need not have that method.
    """
    ask = getattr(provider, "remote_side", None)
    side: RemoteSide | None = None if ask is None else ask(home, python, logdir)
    return side


def binds(address: str | None, loopback: str, provider: Any) -> list[str]:
    """The ZeroMQ addresses to bind, without port.

    Args:
        address: What the user gave; a name means that its addresses are unknown here, so all are bound.
        loopback: The address of this machine for itself.
        provider: The executor's provider.
    """
    if comes_by_tunnel(provider):
        return [f"tcp://{bracketed(loopback)}"]
    if address is None:
        return [f"tcp://{bracketed(loopback)}"] if stays_here(provider) else ["tcp://*"]
    return [f"tcp://{bracketed(address)}"] if _is_ip(address) else ["tcp://*"]


def addresses(address: str | None, loopback: str, provider: Any) -> list[str]:
    """The addresses at which managers may find this machine."""
    if address is not None:
        return [address]
    if stays_here(provider):
        return [loopback]
    from flowlib.addresses import get_all_addresses

    return sorted(get_all_addresses())


def bracketed(address: str) -> str:
    """The address as it stands in a URL.

    Example:
        >>> bracketed("::1"), bracketed("10.0.0.1")
        ('[::1]', '10.0.0.1')
    """
    return f"[{address}]" if ":" in address else address


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return True
