"""Links deliver whole messages, however the kernel cuts the stream."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlib.executors.high_throughput.link import Link, LinkClosed

DEADLINE = 20.0
LARGE = 64 * 1024


class Scripted:
    """A socket whose reads and writes are cut at given sizes."""

    def __init__(self, cuts: list[int], stream: bytes = b"") -> None:
        self.cuts = cuts
        self.turn = 0
        self.stream = memoryview(stream)
        self.written = bytearray()

    def _cut(self) -> int:
        self.turn += 1
        return self.cuts[self.turn % len(self.cuts)]

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def getsockopt(self, level: int, option: int) -> int:
        return 1 << 30

    def send(self, data: Any) -> int:
        cut = self._cut()
        if cut == 0:
            raise BlockingIOError
        self.written += bytes(data)[:cut]
        return min(cut, len(data))

    def sendmsg(self, buffers: list[Any]) -> int:
        return self.send(b"".join(buffers))

    def recv_into(self, buffer: memoryview) -> int:
        cut = min(self._cut(), len(buffer), len(self.stream))
        if cut == 0 and len(self.stream):
            raise BlockingIOError
        buffer[:cut] = self.stream[:cut]
        self.stream = self.stream[cut:]
        return cut


FRAME = st.binary(max_size=200) | st.integers(0, 3).map(lambda n: bytes([n]) * (LARGE + n * 40_000)) | st.just(b"")
MESSAGES = st.lists(st.lists(FRAME, max_size=5), max_size=6)
CUTS = st.lists(st.integers(0, 40) | st.integers(1000, 400_000), min_size=1, max_size=6).filter(any)


def written(messages: list[list[bytes]], cuts: list[int]) -> bytes:
    """What a link writes for these messages when the kernel takes it in pieces."""
    sock = Scripted([c * 50 for c in cuts])
    link = Link(sock)  # type: ignore[arg-type]
    for message in messages:
        link.send(message)
    while link.unsent:
        link.flush()
    return bytes(sock.written)


@settings(max_examples=60, deadline=None)
@given(messages=MESSAGES, out=CUTS, cuts=CUTS)
def test_any_split(messages: list[list[bytes]], out: list[int], cuts: list[int]) -> None:
    """Messages arrive whole and in order for any cuts of the stream on either side, followed by its end."""
    stream = written(messages, out)
    # Single bytes are tried where the stream is short enough for that.
    scale = 1 if len(stream) < 5000 else 997
    link = Link(Scripted([c * scale for c in cuts], stream))  # type: ignore[arg-type]
    received: list[list[bytes]] = []
    with pytest.raises(LinkClosed, match=r"^end of file$"):
        while True:
            received += link.receive()
    assert received == messages
    assert all(type(frame) is bytes for message in received for frame in message)


@settings(max_examples=60, deadline=None)
@given(messages=MESSAGES.filter(bool), data=st.data())
def test_end_in_the_middle(messages: list[list[bytes]], data: st.DataObject) -> None:
    """If the other end dies within a message, those before it arrive and then the link says what happened."""
    whole = written(messages[:-1], [1000])
    stream = written(messages, [1000])
    cut = data.draw(st.integers(len(whole) + 1, len(stream) - 1))
    link = Link(Scripted([300_000], stream[:cut]))  # type: ignore[arg-type]
    received: list[list[bytes]] = []
    with pytest.raises(LinkClosed, match="in the middle of a message"):
        while True:
            received += link.receive()
    assert received == messages[:-1]


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    """Both ends of a real pair."""
    a, b = map(Link, socket.socketpair())
    yield a, b
    a.close()
    b.close()


def receive_all(link: Link, count: int) -> list[list[bytes]]:
    """So many messages, within the deadline."""
    deadline, received = time.monotonic() + DEADLINE, list[list[bytes]]()
    while len(received) < count:
        assert select.select([link], [], [], max(0.0, deadline - time.monotonic()))[0], "nothing arrives"
        received += link.receive()
    return received


def test_large_and_small_frames_over_a_socket(ends: tuple[Link, Link]) -> None:
    """A message of 40 MB passes a real socket between small ones, whatever kind of buffer it is sent from."""
    a, b = ends
    large = bytes(range(256)) * 40_000
    sent: list[list[Any]] = [[b"1"], [b"h", memoryview(large), b"", bytearray(large), large, large, b"t"], [b"2"]]

    def feed() -> None:
        for message in sent:
            a.send(message)
        deadline = time.monotonic() + DEADLINE
        while a.unsent and time.monotonic() < deadline:
            select.select([], [a], [], DEADLINE)
            a.flush()

    thread = threading.Thread(target=feed)
    thread.start()
    received = receive_all(b, 3)
    thread.join(DEADLINE)
    assert received == [[bytes(f) for f in message] for message in sent]


def test_backpressure_keeps_order(ends: tuple[Link, Link]) -> None:
    """Messages queued while the other end does not read are sent later, in order."""
    a, b = ends
    messages = [[str(i).encode() * 100] for i in range(20_000)]
    for message in messages:
        a.send(message)
    assert a.unsent
    received: list[list[bytes]] = []
    deadline = time.monotonic() + DEADLINE
    while len(received) < len(messages):
        assert time.monotonic() < deadline
        received += b.receive()
        a.flush()
    assert not a.unsent
    assert received == messages


def test_messages_before_the_end_arrive(ends: tuple[Link, Link]) -> None:
    """What was sent before the other end closed is received before the link says that it is closed."""
    a, b = ends
    a.send([b"last words"])
    a.close()
    assert b.receive() == [[b"last words"]]
    with pytest.raises(LinkClosed):
        b.receive()


def test_sending_to_a_dead_end(ends: tuple[Link, Link]) -> None:
    """Sending to an end that is closed raises LinkClosed, not a signal or another error."""
    a, b = ends
    b.close()
    with pytest.raises(LinkClosed):
        a.send([b"x"])


def test_many_frames_in_one_message(ends: tuple[Link, Link]) -> None:
    """A message may have more frames than their lengths fit into the read buffer."""
    a, b = ends
    frames = [b"%d" % i for i in range(50_000)]
    thread = threading.Thread(target=lambda: (a.send(frames), select.select([], [a], [], DEADLINE)))
    thread.start()
    received: list[list[bytes]] = []
    deadline = time.monotonic() + DEADLINE
    while not received:
        assert time.monotonic() < deadline
        received = b.receive()
        if not thread.is_alive():
            a.flush()
    thread.join(DEADLINE)
    assert received == [frames]


def test_garbage_closes() -> None:
    """A stream that claims an absurd number of frames is given up, not allocated for."""
    link = Link(Scripted([100], b"\xff" * 100))  # type: ignore[arg-type]
    with pytest.raises(LinkClosed, match="frames"):
        link.receive()
