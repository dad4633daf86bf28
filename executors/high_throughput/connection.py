"""A manager's connection to the interchange: finding an address that works, and keeping it.

A login node has several addresses, and only some can be reached from a compute node.  All are tried at once; the first
with which ZeroMQ's handshake succeeds is taken.  Where none answers, each is named with what is wrong there, because
whoever reads that has to find out which network to name in the configuration.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from flowlib.executors.high_throughput.block import Block

log = logging.getLogger("flowlib.manager")

Payload = Any
"""Bytes, or a view of a received frame that was not copied."""

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
_FAILURES = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the interchange does not know this block's key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "what listens there is no interchange of this run",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "what listens there broke off the handshake",
}
_EVENT = struct.Struct("=HI")
_LARGE = 64 * 1024
_RECONNECT_MS = 100
_RECONNECT_MOST_MS = 2000
_DIAGNOSIS_PATIENCE = 1.0

Watch = Callable[[int, Callable[[], None]], None]
Unwatch = Callable[[int], None]


class _Attempt:
    """One address on trial, later the connection."""

    def __init__(self, context: zmq.Context[Any], block: Block, address: str, identity: bytes) -> None:
        self.address = address
        self.failure = ""
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.sndhwm = self.socket.rcvhwm = 0
        self.socket.identity = identity
        self.socket.reconnect_ivl = _RECONNECT_MS
        self.socket.reconnect_ivl_max = _RECONNECT_MOST_MS
        self.socket.ipv6 = True
        if block.server_public:
            self.socket.curve_serverkey = block.server_public.encode()
            self.socket.curve_publickey = block.client_public.encode()
            self.socket.curve_secretkey = block.client_secret.encode()
        self.monitor = self.socket.get_monitor_socket(_EVENTS)
        self.socket.connect(address)

    def events(self) -> list[int]:
        """What has happened to the connection."""
        found: list[int] = []
        while True:
            try:
                frames = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return found
            event, _ = _EVENT.unpack(frames[0])
            found.append(event)
            self.failure = _FAILURES.get(event, self.failure)

    def close(self, linger: float = 0) -> None:
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=int(linger * 1000))


class Connection:
    """The connection; the caller's loop watches its descriptors.

    Args:
        block: Addresses and keys.
        name: The manager's unique name.
        watch: Called with a descriptor and what to call when it is readable.
        unwatch: Ends that.
        on_up: Called when a connection is there, the first time and again after each loss.
        on_down: Called when it is lost; ZeroMQ goes on trying.

    Raises:
        zmq.ZMQError: An address or key is malformed.
    """

    def __init__(
        self,
        block: Block,
        name: str,
        watch: Watch,
        unwatch: Unwatch,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
    ) -> None:
        self._watch, self._unwatch = watch, unwatch
        self._on_up, self._on_down = on_up, on_down
        self._context: zmq.Context[Any] = zmq.Context()
        self._chosen: _Attempt | None = None
        self._attempts = [
            # An identity for each: the interchange would take a second connection with the same one for a successor.
            _Attempt(self._context, block, address, f"{name}.{i}".encode())
            for i, address in enumerate(block.addresses)
        ]
        for attempt in self._attempts:
            watch(attempt.monitor.fileno(), self.follow)

    @property
    def address(self) -> str:
        """The address in use, "" before one has answered."""
        return "" if self._chosen is None else self._chosen.address

    def follow(self) -> None:
        """Look what has happened to the connections. Cheap; to be called when in doubt."""
        for attempt in [*self._attempts]:
            if attempt not in self._attempts:
                # Another was chosen just now, and this one is closed.
                continue
            for event in attempt.events():
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    if self._chosen is None:
                        self._choose(attempt)
                    if attempt is self._chosen:
                        self._on_up()
                elif event == zmq.EVENT_DISCONNECTED and attempt is self._chosen:
                    self._on_down()

    def _choose(self, attempt: _Attempt) -> None:
        self._chosen = attempt
        for other in self._attempts:
            if other is not attempt:
                self._unwatch(other.monitor.fileno())
                other.close()
        self._attempts = [attempt]
        self._watch(attempt.socket.fileno(), _nothing)

    def readable(self) -> bool:
        """Whether a message is there; to be asked before each wait, since the descriptor tells of changes only."""
        return self._chosen is not None and bool(self._chosen.socket.events & zmq.POLLIN)

    def receive(self) -> list[Payload] | None:
        """The next message; None if there is none. Large frames are not copied."""
        if self._chosen is None:
            return None
        sock = self._chosen.socket
        try:
            frames: list[Payload] = [sock.recv(zmq.NOBLOCK)]
        except zmq.Again:
            return None
        while sock.rcvmore:
            frame = sock.recv(copy=False)
            frames.append(frame.bytes if len(frame) < _LARGE else frame.buffer)
        return frames

    def send(self, frames: Sequence[Payload]) -> None:
        """Queue a message; while the connection is lost it waits."""
        if self._chosen is None:
            return
        sock, last = self._chosen.socket, len(frames) - 1
        for i, frame in enumerate(frames):
            sock.send(frame, zmq.SNDMORE if i < last else 0, copy=len(frame) < _LARGE)

    def close(self, linger: float) -> None:
        """Close; what was sent has ``linger`` seconds to leave."""
        for attempt in self._attempts:
            self._unwatch(attempt.monitor.fileno())
            if attempt is self._chosen:
                self._unwatch(attempt.socket.fileno())
            attempt.close(linger)
        self._attempts = []
        self._chosen = None
        self._context.term()

    def explain(self) -> str:
        """Why no address has answered: a line for each."""
        return "\n".join(f"  {a.address}: {a.failure or _diagnose(a.address)}" for a in self._attempts)


def _nothing() -> None:
    """The loop looks for messages whatever woke it."""


def _diagnose(address: str) -> str:
    """What is wrong with an address, seen by plain TCP: ZeroMQ does not tell."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_DIAGNOSIS_PATIENCE):
            return "something listens there, but does not answer as an interchange of this run does"
    except TimeoutError:
        return f"no answer within {_DIAGNOSIS_PATIENCE:g} s (a firewall, or a network that is not reachable from here)"
    except socket.gaierror as e:
        return f"unknown host ({e.strerror})"
    except (OSError, ValueError) as e:
        number = getattr(e, "errno", None)
        if number == errno.ECONNREFUSED:
            return "connection refused: nothing listens there (the run is over, or that port is forwarded elsewhere)"
        return os.strerror(number) if number else str(e)
