"""The memory behind a ledger: segments, made where it says, moved and closed as it says."""

from __future__ import annotations

import logging

from flowlib.errors import NoRoom
from flowlib.store.ledger import Id, Ledger
from flowlib.store.segments import FULL, Segment
from flowlib.units import format_size

_log = logging.getLogger(__name__)


def most_objects() -> int:
    """How many objects a process should keep: each takes a descriptor, and another two where it is read."""
    try:
        import resource
    except ImportError:
        return 128
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(16, soft // 8)


class Vault:
    """Objects by id. Owned by one thread, or used under a lock.

    Args:
        limit: Bytes that may be in memory.
        directory: Where the rest goes.
        most: Objects that may have a descriptor, of which a process has only so many.
        nameless: Whether further ones are kept in memory that nobody else can open; else there is no room for them.

    Attributes:
        ledger: The books.
    """

    def __init__(self, limit: int, directory: str, most: int | None = None, nameless: bool = False) -> None:
        self.ledger = Ledger(limit)
        self._directory = directory
        self._most = most_objects() if most is None else most
        self._nameless = nameless
        self._segments: dict[Id, Segment] = {}

    def get(self, key: Id) -> Segment | None:
        """The memory of an object; None if it is not here."""
        return self._segments.get(key)

    def create(self, key: Id, size: int, *, original: bool) -> Segment:
        """Make room for a new object.

        Raises:
            NoRoom: There is none.
        """
        if len(self._segments) >= self._most:
            for other in self.ledger.droppable()[: len(self._segments) - self._most + 1]:
                self.ledger.forget(other)
                self._segments.pop(other).close()
            if len(self._segments) >= self._most:
                return self._create_nameless(key, size)
        admission = self.ledger.admit(key, size, original=original)
        for other in admission.drop:
            self._segments.pop(other).close()
        for other in admission.spill:
            self._spill(other)
        reasons: list[str] = []
        for directory in (None, self._directory) if admission.memory else (self._directory,):
            try:
                segment = self._segments[key] = Segment.create(key, size, directory)
            except OSError as e:
                reasons.append(f"{'memory' if directory is None else directory}: {e.strerror or e}")
                if directory is not None or e.errno not in FULL:
                    break
            else:
                if directory is not None:
                    self.ledger.moved(key)
                return segment
        self.ledger.forget(key)
        raise NoRoom(f"there is no room for an object of {format_size(size)} ({'; '.join(reasons)})")

    def _create_nameless(self, key: Id, size: int) -> Segment:
        if not self._nameless:
            raise NoRoom(f"there are {len(self._segments)} objects here, and descriptors for no more")
        try:
            segment = Segment.without_descriptor(size)
        except (OSError, ValueError) as e:
            raise NoRoom(f"there is no memory for an object of {format_size(size)}: {e}") from e
        # Not counted: it cannot be spilled, and makes way for nobody.
        self.ledger.admit(key, 0, original=True)
        self._segments[key] = segment
        return segment

    def adopt(self, key: Id, segment: Segment) -> None:
        """Take in memory that another process has made and pays for."""
        self.ledger.admit(key, 0, original=False)
        self._segments[key] = segment

    def _spill(self, key: Id) -> None:
        old = self._segments[key]
        try:
            new = Segment.create(key, old.size, self._directory)
            old.copy_to(new)
        except OSError as e:
            # It stays in memory, which then holds more than it should: better than to lose it.
            _log.warning("an object of %s cannot be moved to %s: %s", format_size(old.size), self._directory, e)
            return
        self._segments[key] = new
        old.close()

    def pin(self, key: Id) -> None:
        """Somebody begins to use an object."""
        self.ledger.pin(key)

    def unpin(self, key: Id) -> None:
        """Somebody uses it no more."""
        if self.ledger.unpin(key):
            self._segments.pop(key).close()

    def free(self, key: Id) -> None:
        """Nobody will ask for it any more."""
        if self.ledger.free(key):
            self._segments.pop(key).close()

    def close(self) -> None:
        """Let go of everything."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
