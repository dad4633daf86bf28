"""Memory that outlives no process which holds it: an anonymous memory file, or a file without a name.

Both vanish with their last descriptor, so nothing can be left behind by a crash.  Others open them through the holder's
descriptor in /proc, and see by the name that the kernel keeps whether it is still the object they want.  Space is
reserved before anything is written, so that a full memory or disk is an error here and not a signal later.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
from collections.abc import Sequence

from flowlib.store.packing import Part

LINUX = sys.platform == "linux"
FULL = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE})
"""What the system says when there is no room."""
_PREFIX = "flowlib-object-"
_MOST_PARTS = 512
_MOST_BYTES = 1 << 30


def _write(fd: int, parts: list[memoryview], offset: int) -> int:
    if hasattr(os, "pwritev"):
        return os.pwritev(fd, parts, offset)
    return os.pwrite(fd, parts[0], offset)


class Segment:
    """The memory of one object.

    Args:
        fd: Its descriptor, owned from now on.
        size: Its bytes.
        path: By which other processes of this machine open it.
        remove: Whether there is a file of that name to be removed at the end.

    Attributes:
        size: As given.
        path: As given.
    """

    __slots__ = ("_fd", "_map", "_own", "_remove", "path", "size")

    def __init__(self, fd: int, size: int, path: str, remove: bool = False) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None
        self._own: memoryview | None = None
        self._remove = remove
        self.size = size
        self.path = path

    @classmethod
    def create(cls, key: bytes, size: int, directory: str | None = None) -> Segment:
        """Make one, with all its space.

        Args:
            key: The object's id.
            size: Bytes.
            directory: Where the file goes; None for memory.

        Raises:
            OSError: There is no room (``FULL``), or the directory cannot be written.
        """
        remove = False
        name = _PREFIX + key.hex()
        if directory is None and LINUX:
            fd = os.memfd_create(name, os.MFD_CLOEXEC)
            path = f"/proc/{os.getpid()}/fd/{fd}"
        else:
            fd, path = tempfile.mkstemp(prefix=name + "-", dir=directory)
            if LINUX:
                os.unlink(path)
                path = f"/proc/{os.getpid()}/fd/{fd}"
            else:
                remove = True
        segment = cls(fd, size, path, remove)
        # Its end closes the descriptor, also when there is no room.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
        return segment

    @classmethod
    def without_descriptor(cls, size: int) -> Segment:
        """Memory of this process only: nobody can open it, and it takes no descriptor.

        Raises:
            OSError: There is no room.
        """
        segment = cls(-1, size, "")
        segment._own = memoryview(mmap.mmap(-1, size))
        return segment

    @classmethod
    def open(cls, path: str, key: bytes, size: int, *, writing: bool = False) -> Segment:
        """Open another process's segment.

        Raises:
            OSError: It is not there, or is something else by now.
        """
        fd = os.open(path, os.O_RDWR if writing else os.O_RDONLY)
        segment = cls(fd, size, f"/proc/{os.getpid()}/fd/{fd}" if LINUX else path)
        name = os.readlink(f"/proc/self/fd/{fd}") if LINUX else path
        if _PREFIX + key.hex() not in name or os.fstat(fd).st_size != size:
            raise FileNotFoundError(errno.ENOENT, "the object is not there any more", path)
        return segment

    def write(self, parts: Sequence[Part], offset: int = 0) -> None:
        """Write parts one after the other, from ``offset`` on.

        Raises:
            OSError: It cannot be written.
        """
        if self._own is not None:
            for part in parts:
                self._own[offset : offset + len(part)] = part
                offset += len(part)
            return
        left = [memoryview(part).cast("B") for part in parts if len(part)]
        while left:
            batch: list[memoryview] = []
            total = 0
            for part in left[:_MOST_PARTS]:
                batch.append(part[: _MOST_BYTES - total])
                total += batch[-1].nbytes
                if total >= _MOST_BYTES:
                    break
            written = _write(self._fd, batch, offset)
            offset += written
            while left and written >= left[0].nbytes:
                written -= left.pop(0).nbytes
            if written:
                left[0] = left[0][written:]

    def view(self, offset: int = 0, length: int | None = None) -> memoryview:
        """A part of it to read; valid as long as the view is there."""
        if self._own is not None:
            return self._own.toreadonly()[offset : self.size if length is None else offset + length]
        if self._map is None:
            self._map = mmap.mmap(self._fd, self.size, access=mmap.ACCESS_READ)
        whole = memoryview(self._map)
        return whole if length is None else whole[offset : offset + length]

    def private(self) -> memoryview:
        """All of it, to read and to write; what is written is seen through this view only."""
        if self._own is not None:
            return memoryview(bytearray(self._own))
        return memoryview(mmap.mmap(self._fd, self.size, access=mmap.ACCESS_COPY))

    def copy_to(self, other: Segment) -> None:
        """Copy all of it.

        Raises:
            OSError: It cannot be written there.
        """
        other.write([self.view()])

    def close(self) -> None:
        """Let go of it. Views of it stay valid."""
        fd, self._fd = self._fd, -1
        self._map = self._own = None
        if fd >= 0:
            os.close(fd)
            if self._remove:
                os.unlink(self.path)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()
