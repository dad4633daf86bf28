"""The store: values by key, in a directory that any number of runs share.

Each run appends to a file of its own (``segment``), and reads those of all; large values are files of their own, named
by their content.  An entry is written before anybody sees its value, so it survives whatever kills the process; a
thread sees to it that it reaches the disk within a second.  A store that cannot be written does without: it says so
once, and the run goes on.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import socket
import threading
import warnings
from collections.abc import Iterable, Iterator
from time import monotonic, time, time_ns
from typing import NamedTuple

import msgspec

from flowlib.memory import frames
from flowlib.memory.index import prefix
from flowlib.memory.segment import SUFFIX, Segment, Writer, write_aside

INLINE, OBJECT, CODE = 0, 1, 2
LARGE = 1 << 20
"""Bytes from which on a value is a file of its own."""

_LOOK = 1.0
_SYNC = 0.5
_ROLL = 256 * 1024
_encode = msgspec.msgpack.Encoder().encode


class Facts(NamedTuple):
    """What is known of an entry.

    Attributes:
        kind: ``INLINE``, ``OBJECT`` or ``CODE``.
        app: Module and name of what was called.
        created: Unix time.
        size: Bytes of the value.
        code: Digest of the app's identity.
        parts: Short digests of arguments by name; for ``CODE`` of what the app is made of.
        run: Directory of the run that made it.
        task: The task's number in that run.
        outputs: Files that the call made: path and size.
    """

    kind: int
    app: str
    created: float
    size: int = 0
    code: bytes = b""
    parts: dict[str, bytes] = {}  # a NamedTuple's default, never changed
    run: str = ""
    task: int = -1
    outputs: list[tuple[str, int]] = []


_decode = msgspec.msgpack.Decoder(Facts).decode


class Entry(NamedTuple):
    """An entry that was found.

    Attributes:
        key: 32 bytes.
        facts: About it.
        value: The value, pickled; of an ``OBJECT`` the name of its file.
    """

    key: bytes
    facts: Facts
    value: bytes


class Store:
    """A store in a directory; made when the first value is kept.

    Args:
        directory: Where it is.

    Attributes:
        directory: As given, absolute.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> store.put([(bytes(32), Facts(INLINE, "app", 0.0), b"value")])
        >>> store.get(bytes(32)).value
        b'value'
        >>> store.close()
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self._lock = threading.Lock()
        self._segments: dict[str, Segment] = {}
        self._bad: set[str] = set()
        self._writer: Writer | None = None
        self._written: set[bytes] = set()
        self._dirty = False
        self._unsynced: list[str] = []
        self._refused = False
        self._looked = float("-inf")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.refresh()

    # ---------------------------------------------------------------------------------------------- reading

    def get(self, key: bytes) -> Entry | None:
        """The newest entry with a key; None if there is none."""
        wanted = prefix(key)
        found = self._find(key, wanted)
        if found is None and monotonic() - self._looked > _LOOK:
            self.refresh()
            found = self._find(key, wanted)
        return found

    def _find(self, key: bytes, wanted: int) -> Entry | None:
        with self._lock:
            for segment in self._newest_first():
                at = segment.find(wanted)
                if at is not None:
                    try:
                        frame = segment.read(at)
                    except OSError:
                        # Gone with its server, or tidied away by another machine: as if it were not there.
                        continue
                    if frame is not None and frame.key == key:
                        entry = _entry(frame)
                        if entry is not None and entry.facts.kind != CODE:
                            return entry
        return None

    def _newest_first(self) -> list[Segment]:
        return self._order

    def refresh(self) -> None:
        """Look at what other runs have written since."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        self._looked = monotonic()
        try:
            names = {name for name in os.listdir(self.directory) if name.endswith(SUFFIX) and not name.startswith(".")}
        except OSError:
            names = set()
        for name in list(self._segments):
            if name not in names:
                self._segments.pop(name).close()
        for name in names:
            path = os.path.join(self.directory, name)
            try:
                if name in self._segments:
                    self._segments[name].grow()
                elif name not in self._bad:
                    self._segments[name] = Segment(path)
            except OSError as e:
                if name not in self._bad:
                    self._bad.add(name)
                    warnings.warn(f"cannot read {path!r}, what it remembers is left out: {e}", stacklevel=2)
        self._order = [self._segments[name] for name in sorted(self._segments, reverse=True)]

    def load(self, entry: Entry) -> memoryview | bytes | None:
        """The bytes of an entry's value; of a large one mapped, private to this process. None if it is damaged."""
        if entry.facts.kind != OBJECT:
            return entry.value
        path = self.object_path(entry.value)
        try:
            with open(path, "rb") as file:
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        except (OSError, ValueError):
            return None
        return mapped if hashlib.sha256(mapped).digest() == entry.value else None

    def object_path(self, name: bytes) -> str:
        """Where the large value with a digest is."""
        text = name.hex()
        return os.path.join(self.directory, "objects", text[:2], text[2:])

    def entries(self) -> Iterator[Entry]:
        """All entries, those of ``CODE`` too, the oldest file first."""
        self.refresh()
        for segment in reversed(self._order):
            for _, frame in frames.scan(segment.everything()):
                entry = _entry(frame)
                if entry is not None:
                    yield entry

    # ---------------------------------------------------------------------------------------------- writing

    def put(self, entries: Iterable[tuple[bytes, Facts, bytes]]) -> None:
        """Keep values; they are written when this returns, unless the store cannot be.

        Args:
            entries: Key, facts and pickled value of each.
        """
        made = [(key, frames.encode(key, _encode(facts), value)) for key, facts, value in entries]
        with self._lock:
            try:
                self._open().append(made)
            except OSError as e:
                self._refuse(e)
                if self._writer is not None:
                    self._writer.resume()
                return
            self._dirty = True
            writer = self._writer
            assert writer is not None
            name = os.path.basename(writer.path)
            segment = self._segments.get(name)
            if segment is None:
                segment = self._segments[name] = Segment(writer.path)
                self._order = [self._segments[n] for n in sorted(self._segments, reverse=True)]
            elif segment.covered < writer.size:
                at = writer.size - sum([len(frame) for _, frame in made])
                for key, frame in made:
                    segment.recent[prefix(key)] = at
                    at += len(frame)
                segment.covered = writer.size
            if len(writer.places) >= _ROLL:
                self._roll(writer)

    def put_code(self, app: str, digest: bytes, components: dict[str, bytes]) -> tuple[bytes, Facts, bytes] | None:
        """An entry that says what an app is made of; None if this process has written it."""
        if digest in self._written:
            return None
        self._written.add(digest)
        return digest, Facts(CODE, app, time(), 0, digest, components), b""

    def put_object(self, parts: list[bytes | memoryview]) -> bytes | None:
        """Keep a large value in a file; its name, or None if that cannot be."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        name = digest.digest()
        path = self.object_path(name)
        try:
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                write_aside(path, parts)
                self._unsynced.append(path)
        except OSError as e:
            self._refuse(e)
            return None
        return name

    def close(self) -> None:
        """Let everything reach the disk, and let go of all files."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(30)
        with self._lock:
            if self._writer is not None:
                self._sync(self._writer)
                self._writer.close()
                self._writer = None
            for segment in self._segments.values():
                segment.close()
            self._segments = {}
            self._order = []

    def _open(self) -> Writer:
        if self._writer is None:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            host = socket.gethostname().partition(".")[0][:32].replace("/", "_")
            name = f"{time_ns():020}-{host}-{os.getpid()}-{os.urandom(3).hex()}{SUFFIX}"
            self._writer = Writer(os.path.join(self.directory, name))
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_syncing, name="flowlib-memory", daemon=True)
                self._thread.start()
        return self._writer

    def _roll(self, writer: Writer) -> None:
        self._sync(writer)
        writer.close()
        self._writer = None
        name = os.path.basename(writer.path)
        self._segments.pop(name).close()
        self._written.clear()
        self._refresh()

    def _keep_syncing(self) -> None:
        while not self._ending.wait(_SYNC):
            writer = self._writer
            if self._dirty and writer is not None:
                self._sync(writer)

    def _sync(self, writer: Writer) -> None:
        self._dirty = False
        paths, self._unsynced = self._unsynced, []
        try:
            for path in paths:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            writer.sync()
        except OSError as e:
            self._refuse(e)

    def _refuse(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            warnings.warn(
                f"results of this run are not remembered, the store {self.directory!r} cannot be written: {error}; "
                "the run goes on",
                stacklevel=3,
            )


def _entry(frame: frames.Frame) -> Entry | None:
    try:
        facts = _decode(frame.facts)
    except msgspec.DecodeError:
        return None
    return Entry(frame.key, facts, frame.value)
