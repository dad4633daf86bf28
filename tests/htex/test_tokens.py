"""Keys that may be used once, at the door to which managers come."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.doors import Letter, RemoteDoor

SERVER, ONCE, OWN, OTHER = (zmq.curve_keypair() for _ in range(4))


class Porch:
    """A door, and those who come to it."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.exchanged: list[tuple[str, bytes]] = []
        self.letters: list[Letter] = []
        self.door = RemoteDoor(self.selector, SERVER[1], lambda block, key: self.exchanged.append((block, key)))
        self.port = self.door.bind(["tcp://127.0.0.1"], (0, 0))
        self.context: zmq.Context[Any] = zmq.Context()
        self.sockets: list[zmq.Socket[bytes]] = []

    def come(self, keys: tuple[bytes, bytes]) -> zmq.Socket[bytes]:
        """Somebody with a key."""
        sock: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self.sockets.append(sock)
        sock.linger = 0
        sock.curve_serverkey, sock.curve_publickey, sock.curve_secretkey = SERVER[0], *keys
        sock.connect(f"tcp://127.0.0.1:{self.port}")
        return sock

    def say(self, sock: zmq.Socket[bytes], message: m.Message, seconds: float = 5) -> m.Message | None:
        """Say something; the answer, or None if there is none or the door passed it on."""
        said = False
        deadline, heard = time.monotonic() + seconds, len(self.letters)
        while time.monotonic() < deadline and len(self.letters) == heard:
            if not said:
                try:
                    sock.send(m.encode(message), zmq.NOBLOCK)
                    said = True
                except zmq.Again:
                    pass  # it was not let in, and tries again
            ready = {} if self.door.pending() else {key.fd: 1 for key, _ in self.selector.select(0.02)}
            self.letters += self.door.receive(ready)
            if sock.poll(0):
                return m.decode(sock.recv())
        return None

    def close(self) -> None:
        """End all."""
        self.context.destroy(linger=0)
        self.door.close(0)
        self.selector.close()


@pytest.fixture
def porch() -> Iterator[Porch]:
    """A door."""
    found = Porch()
    yield found
    found.close()


def test_key_is_exchanged_once(porch: Porch) -> None:
    """The first who comes names the block's key, may ask again, and nobody else may, however early he came."""
    porch.door.admit("3", ONCE[0], once=True)
    first, second = porch.come(ONCE), porch.come(ONCE)
    assert isinstance(porch.say(second, m.Heartbeat(0.0)), m.Rejected), "it is inside before the first use"
    assert isinstance(porch.say(first, m.Exchange(OWN[0])), m.Exchanged)
    assert porch.exchanged == [("3", OWN[0])]
    assert isinstance(porch.say(first, m.Exchange(OWN[0])), m.Exchanged)
    refused = porch.say(second, m.Exchange(OTHER[0]))
    assert isinstance(refused, m.Rejected) and "used before" in refused.reason
    assert porch.say(porch.come(ONCE), m.Exchange(OTHER[0]), 0.5) is None, "void"
    assert porch.say(porch.come(OTHER), m.Heartbeat(0.0), 0.5) is None
    assert porch.letters == []
    porch.say(porch.come(OWN), m.Heartbeat(0.0))
    (letter,) = porch.letters
    assert porch.door.block_of(letter) == "3"


def test_key_is_good_for_nothing_else(porch: Porch) -> None:
    """Results, registrations, nonsense and other blocks' keys from such a key are refused, and harm nobody."""
    porch.door.admit("3", ONCE[0], once=True)
    porch.door.admit("4", OTHER[0])
    sock = porch.come(ONCE)
    for message in (m.Results([]), m.Heartbeat(0.0), m.Exchange(b"x"), m.Exchange(b"#" * 40), m.Exchange(OTHER[0])):
        assert isinstance(porch.say(sock, message), m.Rejected), message
    assert porch.letters == [] and porch.exchanged == []
    assert isinstance(porch.say(sock, m.Exchange(OWN[0])), m.Exchanged)
    porch.say(porch.come(OTHER), m.Heartbeat(0.0))
    assert porch.door.block_of(porch.letters[0]) == "4"
