"""Addresses of this machine."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from flowlib import addresses
from flowlib.errors import ConfigurationError


def test_loopback_interface() -> None:
    """The loopback interface has its address."""
    name = next(n for n, found in addresses._interfaces().items() if "127.0.0.1" in found)
    assert addresses.address_by_interface(name) == "127.0.0.1"
    assert "127.0.0.1" in addresses.get_all_addresses()


def test_all_are_addresses() -> None:
    """Whatever is found is an IPv4 address."""
    for address in (*addresses.get_all_addresses(), addresses.get_any_address()):
        assert ipaddress.ip_address(address).version == 4


def test_unknown_interface() -> None:
    """An unknown interface is refused with those there are."""
    with pytest.raises(ValueError, match=r"nosuch0.*lo"):
        addresses.address_by_interface("nosuch0")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without routes and name service still has its loopback address, and single questions fail clearly."""

    class Unroutable(socket.socket):
        def connect(self, address: Any) -> None:
            raise OSError(101, "Network is unreachable")

    def nothing(name: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "socket", Unroutable)
    monkeypatch.setattr(socket, "gethostbyname", nothing)
    monkeypatch.setattr(addresses, "_interfaces", lambda: {"lo": ["127.0.0.1"]})
    assert addresses.get_all_addresses() == {"127.0.0.1"}
    assert addresses.get_any_address() == "127.0.0.1"
    with pytest.raises(ConfigurationError, match="route"):
        addresses.address_by_route()
    with pytest.raises(ConfigurationError, match="address="):
        addresses.address_by_hostname()


def test_nothing_is_asked_of_the_internet() -> None:
    """The way that asks a server outside is refused with the ways that do not."""
    with pytest.raises(ConfigurationError, match="address_by_route"):
        addresses.address_by_query()
