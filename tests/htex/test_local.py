"""The short way: a door for managers on the same machine, and their end of it."""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowlib.executors.high_throughput import local
from flowlib.executors.high_throughput.doors import LocalDoor
from flowlib.executors.high_throughput.local import LocalConnection

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract socket names")

PATIENCE = 10.0


class Manager:
    """A manager's loop around a ``LocalConnection``."""

    def __init__(self, name: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.events: list[str] = []
        sock = local.call(name)
        assert sock is not None
        self.connection = LocalConnection(
            sock, name, self.watch, self.selector.unregister,
            lambda: self.events.append("up"), lambda: self.events.append("down"),
        )  # fmt: skip
        self.received: list[list[bytes]] = []

    def watch(self, fd: int, call: Callable[[], None], writing: bool = False) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        if fd in self.selector.get_map():
            self.selector.modify(fd, events, call)
        else:
            self.selector.register(fd, events, call)

    def turn(self, timeout: float = 0.01) -> None:
        for key, _ in self.selector.select(0.0 if self.connection.readable() else timeout):
            key.data()
        while (frames := self.connection.receive()) is not None:
            self.received.append(frames)

    def close(self) -> None:
        self.connection.close(1.0)
        self.selector.close()


class House:
    """An interchange's loop around a ``LocalDoor``."""

    def __init__(self, name: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.gone: list[bytes] = []
        self.letters: list[tuple[bytes, list[bytes]]] = []
        self.door = LocalDoor(self.selector, name, self.gone.append)

    def close(self) -> None:
        self.door.close(1.0)
        self.selector.close()

    def turn(self) -> None:
        for letter in self.door.receive({key.fd: events for key, events in self.selector.select(0.01)}):
            self.letters.append((letter.identity, [bytes(letter.header), *map(bytes, letter.attachments)]))


def until(condition: Callable[[], object], *turns: Callable[[], None]) -> None:
    """Let the loops turn until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        for turn in turns:
            turn()


@pytest.fixture
def name() -> str:
    """A name that nobody listens on."""
    return local.new_name()


@pytest.fixture
def house(name: str) -> Iterator[House]:
    """An interchange's side."""
    house = House(name)
    yield house
    house.close()


@pytest.fixture
def manager(name: str, house: House) -> Iterator[Manager]:
    """A manager's side, connected."""
    manager = Manager(name)
    manager.connection.follow()
    yield manager
    manager.close()


def test_nobody_listens(name: str) -> None:
    """No connection, and no error: the other way remains."""
    assert local.call(name) is None
    assert local.call("") is None


def test_messages_go_both_ways(house: House, manager: Manager) -> None:
    """Large ones too, while the other side is not looking."""
    large = bytes(range(256)) * 40_000
    manager.connection.send([b"one"])
    manager.connection.send([b"two", large])
    until(lambda: len(house.letters) == 2, house.turn, manager.turn)
    (identity, first), (same, second) = house.letters
    assert identity == same and first == [b"one"] and second == [b"two", large]
    for n in range(20):
        assert house.door.send(identity, [b"%d" % n, large])
    assert house.door.send(identity, [b"last"])
    until(lambda: len(manager.received) == 21, house.turn, manager.turn)
    assert [frames[0] for frames in manager.received[:-1]] == [b"%d" % n for n in range(20)]
    assert all(frames[1] == large for frames in manager.received[:-1])
    assert manager.received[-1] == [b"last"]
    assert manager.events == ["up"]


def test_managers_are_told_apart(name: str, house: House, manager: Manager) -> None:
    """Each has its identity, and one that is gone is reported once, after its last words."""
    other = Manager(name)
    other.connection.follow()
    manager.connection.send([b"a"])
    other.connection.send([b"b"])
    until(lambda: len(house.letters) == 2, house.turn)
    identities = {frames[0]: identity for identity, frames in house.letters}
    assert identities[b"a"] != identities[b"b"]
    other.connection.send([b"last words"])
    other.close()
    until(lambda: house.gone, house.turn)
    assert house.gone == [identities[b"b"]]
    assert house.letters[-1] == (identities[b"b"], [b"last words"])
    assert not house.door.send(identities[b"b"], [b"too late"])
    assert house.door.send(identities[b"a"], [b"still here"])
    until(lambda: manager.received, manager.turn)


def test_comes_back(name: str) -> None:
    """When the interchange is replaced the manager calls again, and what it had to say has waited."""
    first = House(name)
    manager = Manager(name)
    try:
        manager.connection.follow()
        manager.connection.send([b"before"])
        until(lambda: first.letters, first.turn)
        first.close()
        until(lambda: manager.events == ["up", "down"], manager.turn)
        manager.connection.send([b"between"])
        manager.connection.follow()
        assert manager.events == ["up", "down"]
        second = House(name)
        try:
            manager.connection.follow()
            assert manager.events == ["up", "down", "up"]
            until(lambda: second.letters, second.turn)
            assert second.letters[0][1] == [b"between"]
        finally:
            second.close()
    finally:
        manager.close()


def test_strangers_are_refused(
    name: str, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process of another user gets no answer, and none is taken for an interchange."""
    monkeypatch.setattr(local, "is_ours", lambda sock: False)
    assert local.call(name) is None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"\0{name}")
        until(lambda: "another user" in caplog.text, house.turn)
        sock.settimeout(PATIENCE)
        assert sock.recv(1) == b""


def test_users_are_asked_of_the_kernel() -> None:
    """Two ends in one process belong to one user."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert local.is_ours(ours)
        other = local._CREDENTIALS.pack(1, -2, 1)

        class Other:
            def getsockopt(self, *_: Any) -> bytes:
                return other

        assert not local.is_ours(Other())  # type: ignore[arg-type]
