"""Tidying a store: entries that are too old, too many, or not wanted any more go; what is left moves to one file.

Files that a run is writing are left alone, and so is everything where locks do not tell that.  Entries are copied
before the old files go, so whoever reads meanwhile finds each entry in one place or the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import time, time_ns
from typing import NamedTuple

from flowlib.memory import frames
from flowlib.memory.segment import SUFFIX, Writer, index_of, is_idle
from flowlib.memory.store import CODE, OBJECT, Entry, Store, _entry

_GRACE = 3600.0
_BATCH = 1000


class Tidied(NamedTuple):
    """What became of a store.

    Attributes:
        kept: Entries that are left.
        removed: Entries that went.
        freed: Bytes.
        busy: Files that runs are writing, which were left as they are.
    """

    kept: int
    removed: int
    freed: int
    busy: int


def tidy(
    directory: str,
    max_age: float | None = None,
    max_size: int | None = None,
    unwanted: Callable[[Entry], bool] | None = None,
) -> Tidied:
    """Tidy a store.

    Args:
        directory: The store's.
        max_age: Seconds after which an entry goes; None for no limit.
        max_size: Bytes that values may take in all, the newest first; None for no limit.
        unwanted: Says of an entry that it goes.

    Raises:
        OSError: The store cannot be written.
    """
    before = size_of(directory)
    paths = sorted(os.path.join(directory, name) for name in _logs(directory))
    idle = [path for path in paths if is_idle(path)]
    oldest = 0.0 if max_age is None else time() - max_age
    seen: set[bytes] = set()
    kept: list[bytes] = []
    removed = taken = 0
    for path in reversed(idle):
        for entry, frame in reversed(_read(path)):
            if entry.key in seen:
                continue
            seen.add(entry.key)
            size = entry.facts.size + len(frame)
            if entry.facts.kind != CODE and (
                entry.facts.created < oldest
                or (max_size is not None and taken + size > max_size)
                or (unwanted is not None and unwanted(entry))
            ):
                removed += 1
                continue
            taken += size
            kept.append(frame)
    if idle and (removed or len(idle) > 1):
        _replace(directory, idle, kept)
    _drop_objects(directory)
    return Tidied(len(kept), removed, before - size_of(directory), len(paths) - len(idle))


def size_of(directory: str) -> int:
    """Bytes that a store takes."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                # Another one tidies, too.
                continue
    return total


def _logs(directory: str) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.endswith(SUFFIX) and not name.startswith(".")]
    except FileNotFoundError:
        return []


def _read(path: str) -> list[tuple[Entry, bytes]]:
    with open(path, "rb") as file:
        data = file.read()
    found = []
    for at, frame in frames.scan(data):
        entry = _entry(frame)
        if entry is not None:
            found.append((entry, data[at : frame.end]))
    return found


def _replace(directory: str, old: list[str], kept: list[bytes]) -> None:
    # Older than what any run begins now, newer than what it replaces.
    name = f"{time_ns():020}-tidied-{os.getpid()}-{os.urandom(3).hex()}{SUFFIX}"
    hidden = os.path.join(directory, f".{name}")
    writer = Writer(hidden)
    try:
        kept.reverse()
        for start in range(0, len(kept), _BATCH):
            writer.append([(frame[16:48], frame) for frame in kept[start : start + _BATCH]])
        writer.sync()
        writer.close()
        if os.path.exists(index_of(hidden)):
            os.replace(index_of(hidden), os.path.join(directory, index_of(name)))
        os.replace(hidden, os.path.join(directory, name))
    except BaseException:
        writer.close()
        os.unlink(hidden)
        raise
    for path in old:
        for each in (path, index_of(path)):
            if os.path.exists(each):
                os.unlink(each)


def _drop_objects(directory: str) -> None:
    """Remove large values that nobody mentions; new ones may be mentioned in a moment."""
    top = os.path.join(directory, "objects")
    if not os.path.isdir(top):
        return
    store = Store(directory)
    try:
        wanted = {store.object_path(e.value) for e in store.entries() if e.facts.kind == OBJECT}
    finally:
        store.close()
    now = time()
    for place, _, names in os.walk(top):
        for name in names:
            path = os.path.join(place, name)
            if path not in wanted and now - os.stat(path).st_mtime > _GRACE:
                os.unlink(path)
