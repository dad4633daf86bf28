"""What is kept in memory, what goes to disk, what is let go: the decisions of a store, without its memory.

An object is a *copy* if somebody else has it too and it could be had again, or an *original* if this is the only one.
When memory is short, copies that no task uses are dropped and such originals are spilled, the longest unused first.
An object in use stays where it is, for somebody may be about to open it there.  Pure.
"""

from __future__ import annotations

from typing import NamedTuple

Id = bytes


class Admission(NamedTuple):
    """What to do for a new object.

    Attributes:
        memory: Whether it goes to memory; else to disk.
        drop: Objects to be let go before.
        spill: Objects to be moved to disk before.
    """

    memory: bool
    drop: list[Id]
    spill: list[Id]


class _Entry:
    __slots__ = ("doomed", "memory", "original", "pins", "size")

    def __init__(self, size: int, memory: bool, original: bool) -> None:
        self.size = size
        self.memory = memory
        self.original = original
        self.pins = 0
        self.doomed = False


class Ledger:
    """The objects of one store.

    Args:
        limit: Bytes that may be in memory.

    Attributes:
        limit: The same.
        used: Bytes that are.

    Example:
        >>> ledger = Ledger(100)
        >>> ledger.admit(b"a", 60, original=True)
        Admission(memory=True, drop=[], spill=[])
        >>> ledger.admit(b"b", 60, original=False)
        Admission(memory=True, drop=[], spill=[b'a'])
        >>> ledger.admit(b"c", 60, original=False)
        Admission(memory=True, drop=[b'b'], spill=[])
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        # The longest unused first.
        self._entries: dict[Id, _Entry] = {}

    def __contains__(self, key: Id) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def ids(self) -> list[Id]:
        """All objects, the longest unused first."""
        return list(self._entries)

    def originals(self) -> list[Id]:
        """Those of which there is no other."""
        return [key for key, entry in self._entries.items() if entry.original and not entry.doomed]

    def droppable(self) -> list[Id]:
        """Copies that nobody uses, the longest unused first."""
        return [key for key, entry in self._entries.items() if not entry.original and not entry.pins]

    def admit(self, key: Id, size: int, *, original: bool) -> Admission:
        """Take in a new object. The caller carries out what is returned, or says ``forget`` if that fails."""
        assert key not in self._entries
        drop: list[Id] = []
        spill: list[Id] = []
        over = self.used + size - self.limit
        if size <= self.limit and over > 0:
            for other, entry in self._entries.items():
                if over <= 0:
                    break
                if entry.memory and entry.size and not entry.pins:
                    over -= entry.size
                    (spill if entry.original else drop).append(other)
        memory = over <= 0 and size <= self.limit
        if not memory:
            # Room cannot be made, so nobody has to go for it.
            drop, spill = [], []
        for other in drop:
            self.forget(other)
        for other in spill:
            self.moved(other)
        self._entries[key] = _Entry(size, memory, original)
        if memory:
            self.used += size
        return Admission(memory, drop, spill)

    def moved(self, key: Id) -> None:
        """An object is on disk now."""
        entry = self._entries[key]
        if entry.memory:
            entry.memory = False
            self.used -= entry.size

    def forget(self, key: Id) -> None:
        """An object is gone."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.memory:
            self.used -= entry.size

    def keep(self, key: Id) -> None:
        """There is no other of it."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.original = True

    def pin(self, key: Id) -> None:
        """Somebody begins to use an object, which counts as its use."""
        entry = self._entries.pop(key)
        self._entries[key] = entry
        entry.pins += 1
        entry.doomed = False

    def unpin(self, key: Id) -> bool:
        """Somebody uses it no more; whether it is to be let go now."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        assert entry.pins > 0
        entry.pins -= 1
        return self._go(key, entry)

    def free(self, key: Id) -> bool:
        """Nobody will ask for it any more; whether it is to be let go now, which else comes with the last ``unpin``."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        entry.doomed = True
        return self._go(key, entry)

    def _go(self, key: Id, entry: _Entry) -> bool:
        if entry.pins or not entry.doomed:
            return False
        self.forget(key)
        return True

    def check_invariants(self) -> None:
        """Raise AssertionError where the books are wrong; for tests."""
        assert self.used == sum(entry.size for entry in self._entries.values() if entry.memory)
        assert 0 <= self.used <= self.limit
        assert all(entry.pins >= 0 for entry in self._entries.values())
        assert not any(entry.doomed and not entry.pins for entry in self._entries.values())
