"""A stream of messages over a Unix socket pair: driver and interchange, manager and worker.

The two ends are parent and child, so the pair is private, needs no keys, and its end-of-file is the death of the
other side.  On the wire a message is ``<u32 n> <u64 length>*n <bytes>*n``.  A large frame is never copied on its way
out, and is received into the memory where it stays.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Sequence
from io import BytesIO
from itertools import islice

_BUFFER = 256 * 1024
_LARGE = 64 * 1024
"""Frames from this size on go by themselves: out without being copied, in past the buffer."""
_IOV = 64
_MOST_FRAMES = 1 << 20
_MOST_PER_CALL = 32 * 1024 * 1024
"""Bytes that one ``receive`` reads at most, so that other sockets get their turn."""

_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_SINGLE = struct.Struct("<IQ")

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

    __slots__ = ("_end", "_frames", "_large", "_large_got", "_large_view", "_out", "_sizes", "_sock", "_start", "_view")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            # Some systems begin with 8 KiB, a wake-up for every few messages.
            if sock.getsockopt(socket.SOL_SOCKET, option) < _BUFFER:
                sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        self._sock = sock
        self._out: deque[bytes | memoryview] = deque()
        # What was read and not parsed yet is view[start:end].
        self._view = memoryview(bytearray(_BUFFER))
        self._start = 0
        self._end = 0
        # The message that is arriving: sizes of all its frames, and the frames that are whole.
        self._sizes: tuple[int, ...] | None = None
        self._frames: Frames = []
        # The large frame that is arriving.
        self._large: BytesIO | None = None
        self._large_view: memoryview | None = None
        self._large_got = 0

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

    # ------------------------------------------------------------------------------------------------------- sending

    def send(self, frames: Sequence[bytes | bytearray | memoryview]) -> bool:
        """Queue one message and send what the kernel takes.

        Args:
            frames: Header first. A large one must not be changed before it is sent.

        Returns:
            Whether all is sent.

        Raises:
            LinkClosed: The other end is gone.
        """
        out = self._out
        if len(frames) == 1 and type(frames[0]) is bytes and len(frames[0]) < _LARGE:
            out.append(_SINGLE.pack(1, len(frames[0])) + frames[0])
            return self.flush()
        sizes = [f.nbytes if isinstance(f, memoryview) else len(f) for f in frames]
        small: list[bytes | bytearray | memoryview] = [struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)]
        for frame, size in zip(frames, sizes, strict=True):
            if size < _LARGE:
                small.append(frame)
                continue
            if small:
                out.append(b"".join(small))
                small = []
            out.append(frame if isinstance(frame, bytes) else memoryview(frame).cast("B"))
        if small:
            out.append(b"".join(small))
        return self.flush()

    def flush(self) -> bool:
        """Send what the kernel takes of what is queued; whether that is all of it.

        Raises:
            LinkClosed: The other end is gone.
        """
        out = self._out
        try:
            while out:
                sent = self._sock.send(out[0]) if len(out) == 1 else self._sock.sendmsg(list(islice(out, _IOV)))
                while out and sent >= len(out[0]):
                    sent -= len(out.popleft())
                if sent:
                    out[0] = memoryview(out[0])[sent:]
        except BlockingIOError:
            return False
        except OSError as e:
            raise LinkClosed(str(e)) from e
        return True

    # ----------------------------------------------------------------------------------------------------- receiving

    def receive(self) -> list[Frames]:
        """Every complete message that has arrived; [] when none has.

        Returns after 32 MiB even if more is there: a level-triggered poller says so again.

        Raises:
            LinkClosed: The other end is gone, and everything whole that it sent was returned before.
        """
        messages: list[Frames] = []
        total = 0
        try:
            while total < _MOST_PER_CALL:
                if self._large_view is not None:
                    asked = len(self._large_view) - self._large_got
                    got = self._sock.recv_into(self._large_view[self._large_got :])
                    self._large_got += got
                else:
                    asked = self._room()
                    got = self._sock.recv_into(self._view[self._end :])
                    self._end += got
                if not got:
                    if messages:
                        # The socket says it again at the next call.
                        return messages
                    raise LinkClosed("end of file" if self._is_between() else "end of file in the middle of a message")
                total += got
                self._parse(messages)
                if got < asked and self._large_view is None:
                    break
        except BlockingIOError:
            pass
        except LinkClosed:
            raise
        except OSError as e:
            if not messages:
                raise LinkClosed(str(e)) from e
        return messages

    def _is_between(self) -> bool:
        return self._start == self._end and self._sizes is None

    def _room(self) -> int:
        """Make room in the buffer and tell how much there is."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._view):
            rest = self._view[self._start : self._end].tobytes()
            if self._start == 0:
                # One message's frame lengths fill the buffer.
                self._view = memoryview(bytearray(2 * len(self._view)))
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return len(self._view) - self._end

    def _parse(self, messages: list[Frames]) -> None:
        """Take what is complete out of the buffer."""
        if self._large_view is not None:
            if self._large_got < len(self._large_view):
                return
            self._frames.append(self._large_done())
        if self._sizes is not None and not self._fill(messages):
            return
        view, end = self._view, self._end
        while True:
            start = self._start
            if end - start < 4:
                return
            (count,) = _COUNT.unpack_from(view, start)
            if count > _MOST_FRAMES:
                raise LinkClosed(f"what arrived is no message: it claims {count} frames")
            body = start + 4 + 8 * count
            if body > end:
                return
            if count == 1:
                (size,) = _LENGTH.unpack_from(view, start + 4)
                if body + size <= end:
                    # By far the most common: a small message that is all there.
                    messages.append([view[body : body + size].tobytes()])
                    self._start = body + size
                    continue
                self._sizes = (size,)
            else:
                self._sizes = struct.unpack_from(f"<{count}Q", view, start + 4)
            self._start = body
            if not self._fill(messages):
                return

    def _fill(self, messages: list[Frames]) -> bool:
        """Go on with the arriving message; whether it is complete."""
        sizes, frames, view = self._sizes, self._frames, self._view
        assert sizes is not None
        for size in sizes[len(frames) :]:
            start = self._start
            here = self._end - start
            if size <= here:
                frames.append(view[start : start + size].tobytes())
                self._start = start + size
                continue
            if size < _LARGE:
                # The rest of it comes into the buffer; until then this frame stays where it is.
                return False
            # The bytes object that this makes is the frame: getvalue() hands it out without a copy.
            self._large = BytesIO(bytes(size))
            self._large_view = self._large.getbuffer()
            self._large_view[:here] = view[start : self._end]
            self._large_got = here
            self._start = self._end
            return False
        messages.append(frames)
        self._sizes, self._frames = None, []
        return True

    def _large_done(self) -> bytes:
        assert self._large is not None
        assert self._large_view is not None
        self._large_view.release()
        frame = self._large.getvalue()
        self._large = self._large_view = None
        self._large_got = 0
        return frame
