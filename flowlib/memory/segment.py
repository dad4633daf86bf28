"""One file of a store: appended to by the one process that made it, read by any.

No two processes ever write the same file, so nothing depends on locks or on shared memory, which network file systems
lack or pretend to have.  The writer holds a lock on its file all the same, only to tell those who tidy up that it
lives; what they do without, where locks do not work, is tidying.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile

from flowlib.memory import frames
from flowlib.memory.index import Index, build, prefix

SUFFIX = ".log"
_SMALL = 4096
_GUESS = 768


class Segment:
    """A file of a store, opened for reading.

    Args:
        path: Of the file.

    Attributes:
        path: As given.
        covered: Bytes that were looked at.
        recent: Offsets by prefix, of entries that the index does not have.
        index: Of the others; None if there is none.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.recent: dict[int, int] = {}
        self.index: Index | None = None
        self.covered = 0
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._map: mmap.mmap | None = None
        try:
            self._load_index()
            self.grow()
        except BaseException:
            self.close()
            raise

    def grow(self) -> None:
        """Look at what was appended since."""
        size = os.fstat(self._fd).st_size
        if size <= self.covered:
            return
        data = os.pread(self._fd, size - self.covered, self.covered)
        end = 0
        for at, frame in frames.scan(data):
            self.recent[prefix(frame.key)] = self.covered + at
            end = frame.end
        # What is no frame yet may be the beginning of one: it is looked at again.
        self.covered += end
        if self.index is None and len(self.recent) >= _SMALL:
            self.write_index()

    def find(self, wanted: int) -> int | None:
        """Where the entry with a prefix begins."""
        at = self.recent.get(wanted)
        if at is None and self.index is not None:
            at = self.index.find(wanted)
        return at

    def read(self, at: int) -> frames.Frame | None:
        """The entry at an offset; None if it is damaged."""
        data = os.pread(self._fd, _GUESS, at)
        size = frames.size_at(data)
        if size > len(data):
            data = os.pread(self._fd, size, at)
        return frames.decode(data, 0) if size else None

    def everything(self) -> bytes:
        """All bytes of the file."""
        return os.pread(self._fd, os.fstat(self._fd).st_size, 0)

    def write_index(self) -> None:
        """Keep what is known for those who open the file later; where that fails, they look for themselves."""
        pairs = list(self.recent.items())
        if self.index is not None:
            pairs = [*self.index.pairs(), *pairs]
        with contextlib.suppress(OSError):
            write_aside(index_of(self.path), build(pairs, self.covered))

    def close(self) -> None:
        """Let go of the file."""
        if self.index is not None:
            self.index.release()
            self.index = None
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _load_index(self) -> None:
        try:
            with open(index_of(self.path), "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return
        view = memoryview(self._map)
        try:
            index = Index(view)
        except ValueError:
            return
        if index.covered > os.fstat(self._fd).st_size:
            # Of a file that was cut since.
            index.release()
            return
        self.covered = index.covered
        if index.count < _SMALL:
            self.recent = dict(index.pairs())
            index.release()
        else:
            self.index = index


class Writer:
    """A new file of a store.

    Args:
        path: Of the file; there is none yet.

    Attributes:
        path: As given.
        places: Prefix and offset of each entry.
        size: Bytes written.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.places: list[tuple[int, int]] = []
        self.size = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, entries: list[tuple[bytes, bytes]]) -> None:
        """Append frames, each with its key, by one write.

        Raises:
            OSError: There is no room, say. What was written of them is no whole frame, or counts.
        """
        data = memoryview(b"".join([frame for _, frame in entries]))
        while data:
            data = data[os.write(self._fd, data) :]
        for key, frame in entries:
            self.places.append((prefix(key), self.size))
            self.size += len(frame)

    def resume(self) -> None:
        """Go on behind what a failed ``append`` left."""
        self.size = os.fstat(self._fd).st_size

    def sync(self) -> None:
        """Wait until what was written would survive a crash of the machine."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Write the index, and close the file."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            if len(self.places) >= _SMALL:
                write_aside(index_of(self.path), build(self.places, self.size))
        os.close(self._fd)
        self._fd = -1


def index_of(path: str) -> str:
    """Where the index of a file is."""
    return path.removesuffix(SUFFIX) + ".idx"


def is_idle(path: str) -> bool:
    """Whether nobody writes a file any more; not, where that cannot be told."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def write_aside(path: str, data: bytes | list[bytes | memoryview]) -> None:
    """Make a file that is there whole or not at all.

    Raises:
        OSError: It cannot be made.
    """
    fd, name = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(data if isinstance(data, list) else [data])
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
