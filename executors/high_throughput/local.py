"""The short way between an interchange and the managers on its own machine: a Unix socket instead of ZeroMQ.

ZeroMQ passes each message through a thread of its own at both ends and encrypts it.  Between processes of one user on
one machine that buys nothing and costs half of a round trip.

The socket is in Linux's abstract namespace (unix(7)): nothing is left in the file system, paths cannot be too long,
and a container with a network of its own simply finds nobody there and takes the other way.  The name is random and
stands in the block's private file; both sides also ask the kernel whether the other belongs to the same user.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from flowlib.executors.high_throughput.link import Link, LinkClosed

_BACKLOG = 1024
_CREDENTIALS = struct.Struct("3i")

Watch = Callable[..., None]


def new_name() -> str:
    """A name that nobody guesses; "" where there is no such namespace."""
    return "flowlib-" + secrets.token_hex(16) if sys.platform == "linux" else ""


def listen(name: str) -> socket.socket:
    """A listener of that name; does not block.

    Raises:
        OSError: The name is taken.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.setblocking(False)
        listener.bind(f"\0{name}")
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def call(name: str) -> socket.socket | None:
    """A connection to the listener of that name; None if there is none on this machine. Does not block."""
    if not name or sys.platform != "linux":
        return None
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(f"\0{name}")
    except OSError:
        # Another machine, another network namespace, or nobody listens any more.
        sock.close()
        return None
    if not is_ours(sock):
        sock.close()
        return None
    return sock


def is_ours(sock: socket.socket) -> bool:
    """Whether the other end belongs to the user of this process."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(credentials)[1] == os.getuid())


class LocalConnection:
    """A manager's connection by the short way; the same face as ``connection.Connection``.

    Args:
        sock: From ``call``.
        name: For calling again when it is lost.
        watch: Called with a descriptor, what to call when it is readable, and whether also when it is writable.
        unwatch: Ends that.
        on_up: Called when there is a connection, the first time and again after each loss.
        on_down: Called when it is lost.
    """

    address = "this machine's interchange"

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        watch: Watch,
        unwatch: Callable[[int], None],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
    ) -> None:
        self._name = name
        self._watch, self._unwatch = watch, unwatch
        self._on_up, self._on_down = on_up, on_down
        self._received: deque[list[bytes]] = deque()
        self._waiting: list[Sequence[Any]] = []
        self._ready = False
        self._watching_out = False
        self._link: Link | None = None
        self._new: socket.socket | None = sock

    def follow(self) -> None:
        """See to it that there is a connection."""
        if self._link is not None:
            return
        sock, self._new = self._new or call(self._name), None
        if sock is None:
            return
        self._link = Link(sock)
        self._watch(self._link.fileno(), self._on_ready)
        waiting, self._waiting = self._waiting, []
        self._on_up()
        for frames in waiting:
            self.send(frames)

    def readable(self) -> bool:
        """Whether a message is there already, so that there is nothing to wait for."""
        return bool(self._received)

    def receive(self) -> list[bytes] | None:
        """The next message; None if there is none."""
        if self._ready and self._link is not None and not self._received:
            self._ready = False
            try:
                self._received.extend(self._link.receive())
            except LinkClosed:
                self._lose()
        return self._received.popleft() if self._received else None

    def send(self, frames: Sequence[Any]) -> None:
        """Send a message; while the connection is lost it waits."""
        if self._link is None:
            self._waiting.append(frames)
            return
        try:
            if not self._link.send(frames):
                self._watch_out(True)
        except LinkClosed:
            self._waiting.append(frames)
            self._lose()

    def close(self, linger: float) -> None:
        """Close; what was sent has ``linger`` seconds to leave."""
        if self._link is not None:
            self._unwatch(self._link.fileno())
            flush(self._link, linger)
            self._link.close()
            self._link = None

    def explain(self) -> str:
        """Why there is no connection."""
        return f"  {self.address}: it does not listen any more"

    def _on_ready(self) -> None:
        self._ready = True
        if self._watching_out and self._link is not None:
            try:
                if self._link.flush():
                    self._watch_out(False)
            except LinkClosed:
                self._lose()

    def _watch_out(self, writing: bool) -> None:
        assert self._link is not None
        if writing != self._watching_out:
            self._watching_out = writing
            self._watch(self._link.fileno(), self._on_ready, writing)

    def _lose(self) -> None:
        if self._link is not None:
            self._unwatch(self._link.fileno())
            self._link.close()
            self._link = None
            self._ready = self._watching_out = False
            self._on_down()


def flush(link: Link, linger: float) -> None:
    """Wait, ``linger`` seconds at most, until the kernel has taken everything."""
    deadline = time.monotonic() + linger
    with selectors.DefaultSelector() as selector:
        selector.register(link.fileno(), selectors.EVENT_WRITE)
        try:
            while link.unsent and selector.select(max(0.0, deadline - time.monotonic())):
                link.flush()
        except LinkClosed:
            return
