"""A stream of messages over a Unix socket pair: driver and interchange, manager and worker.

The two ends are parent and child, so the pair is private, needs no keys, and its end-of-file is the death of the
other side.  On the wire a message is ``n`` frame lengths and the frames: ``<u32 n> <u32 length>*n <bytes>*n``.
A large frame is never copied on its way out.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Sequence

_READ = 256 * 1024
_JOIN_BELOW = 64 * 1024
_IOV = 64

Frames = list[bytes]


class LinkClosed(ConnectionError):
    """The other end is gone."""


class Link:
    """One end of a message stream; owned by one thread.

    Args:
        sock: A connected stream socket. The link makes it non-blocking.

    Example:
        >>> import socket
        >>> a, b = map(Link, socket.socketpair())
        >>> a.send([b"header", b"attachment"])
        True
        >>> b.receive()
        [[b'header', b'attachment']]
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._in = bytearray()
        self._out: deque[bytes | memoryview] = deque()

    def fileno(self) -> int:
        """The socket's descriptor, for pollers."""
        return self._sock.fileno()

    @property
    def unsent(self) -> bool:
        """Whether the kernel has not taken everything yet: poll for writing and call ``flush``."""
        return bool(self._out)

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        self._out.clear()
        self._sock.close()

    def send(self, frames: Sequence[bytes | bytearray | memoryview]) -> bool:
        """Queue one message and send what the kernel takes.

        Args:
            frames: Header first.

        Returns:
            Whether all is sent.

        Raises:
            LinkClosed: The other end is gone.
        """
        sizes = [len(f) if not isinstance(f, memoryview) else f.nbytes for f in frames]
        prefix = struct.pack(f"<{len(sizes) + 1}I", len(sizes), *sizes)
        small: list[bytes | bytearray | memoryview] = [prefix]
        for frame, size in zip(frames, sizes, strict=True):
            if size < _JOIN_BELOW:
                small.append(frame)
                continue
            self._out.append(b"".join(small))
            self._out.append(memoryview(frame).cast("B") if not isinstance(frame, bytes) else frame)
            small = []
        if small:
            self._out.append(b"".join(small))
        return self.flush()

    def flush(self) -> bool:
        """Send what the kernel takes of what is queued; whether that is all of it.

        Raises:
            LinkClosed: The other end is gone.
        """
        out = self._out
        try:
            while out:
                if len(out) == 1:
                    sent = self._sock.send(out[0])
                else:
                    sent = self._sock.sendmsg([out[i] for i in range(min(len(out), _IOV))])
                while out and sent >= len(out[0]):
                    sent -= len(out.popleft())
                if sent:
                    out[0] = memoryview(out[0])[sent:]
        except BlockingIOError:
            return False
        except OSError as e:
            raise LinkClosed(str(e)) from e
        return True

    def receive(self) -> list[Frames]:
        """Every complete message that has arrived; [] when none has.

        Raises:
            LinkClosed: The other end is gone and everything it sent was returned before.
        """
        closed: LinkClosed | None = None
        try:
            while True:
                data = self._sock.recv(_READ)
                if not data:
                    closed = LinkClosed("end of file")
                    break
                self._in += data
                if len(data) < _READ:
                    break
        except BlockingIOError:
            pass
        except OSError as e:
            closed = LinkClosed(str(e))
        messages = self._parse()
        if closed is not None and not messages:
            raise closed
        return messages

    def _parse(self) -> list[Frames]:
        messages: list[Frames] = []
        buffer = self._in
        position, end = 0, len(buffer)
        view = memoryview(buffer)
        try:
            while end - position >= 4:
                (count,) = struct.unpack_from("<I", buffer, position)
                start = position + 4 + 4 * count
                if start > end:
                    break
                sizes = struct.unpack_from(f"<{count}I", buffer, position + 4)
                if start + sum(sizes) > end:
                    break
                frames = []
                for size in sizes:
                    frames.append(bytes(view[start : start + size]))
                    start += size
                messages.append(frames)
                position = start
        finally:
            view.release()
        if position:
            del buffer[:position]
        return messages
