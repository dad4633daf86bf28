"""By which managers come to an interchange: through ZeroMQ from anywhere, or the short way from its own machine.

A door lets in, receives and sends.  What the messages mean is the interchange's business; a door knows its peers by an
identity, which is unlike those of the other door.
"""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import msgspec
import zmq

from flowlib.executors.high_throughput import local
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.admission import Admission
from flowlib.executors.high_throughput.binding import bind
from flowlib.executors.high_throughput.link import Link, LinkClosed

log = logging.getLogger("flowlib.interchange")

BATCH = 1000
"""Most messages that are read from the managers before anything else is done."""

Payload = Any
"""Bytes, or a view of a ZeroMQ frame that was not copied."""


class Letter(NamedTuple):
    """A message from a manager.

    Attributes:
        identity: Who sent it, as the door knows it.
        header: The first frame.
        attachments: The others.
        origin: For ``block_of``.
    """

    identity: bytes
    header: Payload
    attachments: Sequence[Payload]
    origin: Any


class RemoteDoor:
    """A ZeroMQ ROUTER, and ZAP, by which ZeroMQ asks whom to let in.

    Args:
        selector: Told what to watch.
        server_secret: CURVE secret key; b"" for a door that is open to everybody.
        on_exchanged: Called with a block and its new key, which took the place of one that could be used once.
    """

    def __init__(
        self, selector: selectors.BaseSelector, server_secret: bytes, on_exchanged: Callable[[str, bytes], None]
    ) -> None:
        self._on_exchanged = on_exchanged
        self._context: zmq.Context[Any] = zmq.Context()
        self._admission = Admission(self._context)
        router: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        router.linger = 0
        router.sndhwm = router.rcvhwm = 0
        router.router_mandatory = 1
        router.router_handover = 1
        self._closed = bool(server_secret)
        if server_secret:
            self._admission.protect(router, server_secret)
        self._router = router
        self._descriptors = frozenset([router.fileno(), self._admission.socket.fileno()])
        for descriptor in self._descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        self._touched = True
        self._waiting = False

    def bind(self, addresses: Sequence[str], ports: tuple[int, int]) -> int:
        """Listen; returns the port.

        Raises:
            OSError: See ``binding.bind``.
        """
        return bind(self._router, addresses, ports)

    def admit(self, block: str, public_key: bytes, once: bool = False) -> None:
        """Let in the managers of a block, who have this key; ``once`` only to name another key."""
        self._admission.admit(block, public_key, once)

    def block_of(self, letter: Letter) -> str | None:
        """The block that the sender's key was issued for; "" if keys are not asked for."""
        return self._admission.block_of(letter.origin) if self._closed else ""

    def pending(self) -> bool:
        """Whether something came in already; to be asked before each wait.

        ZeroMQ's descriptors tell of changes only, and any use of a socket may take the news (zmq_getsockopt(3)).
        """
        if self._touched:
            self._touched = False
            self._waiting = bool((self._router.events | self._admission.socket.events) & zmq.POLLIN)
        return self._waiting

    def receive(self, ready: dict[int, int]) -> Iterator[Letter]:
        """What came in, given the descriptors that the selector found."""
        if not self._waiting and self._descriptors.isdisjoint(ready):
            return
        self._touched = True
        self._admission.answer()
        router = self._router
        tokens = bool(self._admission.tokens)
        for _ in range(BATCH):
            try:
                identity = router.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            header = router.recv(copy=False)
            attachments: list[Payload] = []
            while router.rcvmore:
                attachments.append(router.recv(copy=False).buffer)
            if tokens and self._admission.once_for(header) is not None:
                self._exchange(identity, header)
                continue
            yield Letter(identity, header.buffer, attachments, header)

    def _exchange(self, identity: bytes, header: zmq.Frame) -> None:
        """Hear somebody whose key is good for nothing but to name another one."""
        try:
            message = m.decode(header.buffer)
            if not isinstance(message, m.Exchange):
                raise ValueError(f"a {type(message).__name__}")
            block = self._admission.exchange(header, message.public_key)
        except (msgspec.DecodeError, ValueError) as e:
            log.warning("refused what came with a key that may only be used to name another one: %s", e)
            self.send(identity, [m.encode(m.Rejected("its key may only be used to name another one"))])
            return
        if block is None:
            log.error("a key that could be used once came again: somebody else has read it, or used it first")
            self.send(identity, [m.encode(m.Rejected("its key could be used once, and was used before"))])
            return
        # The driver first: should this process die, its successor must know the new key and not the old one.
        self._on_exchanged(block, message.public_key)
        self.send(identity, [m.encode(m.Exchanged())])

    def send(self, identity: bytes, frames: Sequence[Payload]) -> bool:
        """Send a message; False if the connection is gone."""
        router, last = self._router, len(frames) - 1
        self._touched = True
        try:
            router.send(identity, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.ZMQError as e:
            if e.errno != zmq.EHOSTUNREACH:
                raise
            return False
        for i, frame in enumerate(frames):
            # Small frames are cheaper to copy than to share.
            router.send(frame, zmq.SNDMORE if i < last else 0, copy=i == 0)
        return True

    def close(self, linger: float) -> None:
        """Close; what was sent has ``linger`` seconds to leave."""
        self._router.close(linger=int(linger * 1000))
        self._admission.close()
        self._context.term()


class LocalDoor:
    """Links to managers of the same user on the same machine.

    Args:
        selector: Told what to watch.
        name: What to listen on; "" for a door that nobody finds.
        on_gone: Called with the identity of a manager whose end of the link was closed: its process is gone.
    """

    def __init__(self, selector: selectors.BaseSelector, name: str, on_gone: Callable[[bytes], None]) -> None:
        self._selector = selector
        self._on_gone = on_gone
        self._links: dict[bytes, Link] = {}
        self._identities: dict[int, bytes] = {}
        self._full: set[bytes] = set()
        self._numbers = count()
        self._listener: socket.socket | None = None
        if name:
            self._listener = local.listen(name)
            selector.register(self._listener.fileno(), selectors.EVENT_READ)

    def block_of(self, letter: Letter) -> str | None:
        """Unknown, "": whoever can read a block's file may be a manager of it."""
        return ""

    def receive(self, ready: dict[int, int]) -> Iterator[Letter]:
        """What came in, given the descriptors that the selector found."""
        if self._listener is not None and self._listener.fileno() in ready:
            self._accept()
        for fd in ready.keys() & self._identities.keys():
            identity = self._identities[fd]
            link = self._links[identity]
            try:
                if identity in self._full and link.flush():
                    self._full.discard(identity)
                    self._selector.modify(fd, selectors.EVENT_READ)
                messages = link.receive()
            except LinkClosed:
                self._drop(identity)
                self._on_gone(identity)
                continue
            for frames in messages:
                yield Letter(identity, frames[0], frames[1:], None)

    def send(self, identity: bytes, frames: Sequence[Payload]) -> bool:
        """Send a message; False if the connection is gone."""
        link = self._links.get(identity)
        if link is None:
            return False
        try:
            sent = link.send(frames)
        except LinkClosed:
            # The selector finds it closed as well, and what it said last is still to be read.
            return False
        if not sent and identity not in self._full:
            self._full.add(identity)
            self._selector.modify(link.fileno(), selectors.EVENT_READ | selectors.EVENT_WRITE)
        return True

    def close(self, linger: float) -> None:
        """Close; what was sent has ``linger`` seconds to leave."""
        for identity in list(self._links):
            if identity in self._full:
                local.flush(self._links[identity], linger)
            self._drop(identity)
        if self._listener is not None:
            self._selector.unregister(self._listener.fileno())
            self._listener.close()

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as e:
                log.error("cannot take a manager's connection: %s", e)
                return
            if not local.is_ours(sock):
                log.warning("refused a connection of another user")
                sock.close()
                continue
            identity = b"local %d" % next(self._numbers)
            link = self._links[identity] = Link(sock)
            self._identities[link.fileno()] = identity
            self._selector.register(link.fileno(), selectors.EVENT_READ)

    def _drop(self, identity: bytes) -> None:
        link = self._links.pop(identity)
        self._full.discard(identity)
        del self._identities[link.fileno()]
        self._selector.unregister(link.fileno())
        link.close()


Door = RemoteDoor | LocalDoor
