"""Managers in the order in which they get tasks, kept so that no change costs more with more managers.

Managers of equal rank form a group, and the lowest rank is served first: those with idle workers before those that
would only prefetch, and among these as the selector says.  Within a group the one that came last is served first, so
that an idle machine with warm caches is used again while colder ones may be given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from flowlib.executors.high_throughput.managers import NOWHERE, Manager

SELECTORS = ("spread", "pack", "block")
"""How managers are preferred: least loaded first, most loaded first, highest block first."""

_LEVELS = 16
_PREFETCH_LEVELS = 8
_PREFETCHING = 1 << 40
_BLOCKS = _PREFETCHING // 2


class Ranks:
    """The managers that can take more.

    Args:
        selector: One of ``SELECTORS``.

    Attributes:
        available: How many there are.

    Raises:
        ValueError: An unknown selector.
    """

    def __init__(self, selector: str) -> None:
        if selector not in SELECTORS:
            raise ValueError(f"selector must be one of {', '.join(SELECTORS)}, not {selector!r}")
        self._selector = selector
        self._groups: dict[int, dict[Manager, None]] = {}
        self._heap: list[int] = []
        self._blocks: dict[str, int] = {}
        self.available = 0

    def order(self, block: str) -> int:
        """Where a block stands among all: by number, others as they came."""
        if block.isdecimal():
            return min(int(block), _PREFETCHING // 4)
        return _PREFETCHING // 4 + 1 + self._blocks.setdefault(block, len(self._blocks))

    def rank_of(self, manager: Manager) -> int:
        """The rank that a manager should have now."""
        used, slots = manager.used, manager.slots
        if used >= slots + manager.prefetch or not manager.open or manager.reserved or manager.short:
            return NOWHERE
        if used < slots:
            if self._selector == "block":
                return _BLOCKS - manager.order
            # Rounded up: one task makes the difference between idle and not.
            level = -(-used * _LEVELS // slots)
            return level if self._selector == "spread" else _LEVELS - level
        if self._selector == "block":
            return _PREFETCHING + _BLOCKS - manager.order
        return _PREFETCHING + (used - slots) * _PREFETCH_LEVELS // manager.prefetch

    def place(self, manager: Manager) -> None:
        """Put a manager where it belongs now."""
        rank = self.rank_of(manager)
        if rank == manager.rank:
            return
        self.remove(manager)
        if rank != NOWHERE:
            group = self._groups.get(rank)
            if group is None:
                group = self._groups[rank] = {}
                heappush(self._heap, rank)
            group[manager] = None
            manager.rank = rank
            self.available += 1

    def remove(self, manager: Manager) -> None:
        """Take a manager out."""
        if manager.rank != NOWHERE:
            del self._groups[manager.rank][manager]
            manager.rank = NOWHERE
            self.available -= 1

    def _first(self) -> int:
        groups, heap = self._groups, self._heap
        while not groups[heap[0]]:
            del groups[heappop(heap)]
        return heap[0]

    def pop(self) -> Manager:
        """Take out the manager to serve first; there must be one."""
        manager, _ = self._groups[self._first()].popitem()
        manager.rank = NOWHERE
        self.available -= 1
        return manager

    def some_idle(self) -> bool:
        """Whether a manager has an idle worker."""
        return bool(self.available) and self._first() < _PREFETCHING

    def idle_slots(self) -> int:
        """Idle workers in all."""
        return sum(m.slots - m.used for rank, group in self._groups.items() if rank < _PREFETCHING for m in group)

    def portion(self, manager: Manager, waiting: int) -> int:
        """How many tasks a manager gets before it is compared with the others again.

        Args:
            manager: It has been taken out.
            waiting: Tasks that wait; when they are few, everybody gets a share.
        """
        used, slots = manager.used, manager.slots
        room = slots + manager.prefetch - used
        if not self.available:
            # Nobody to compare it with.
            return room
        if used < slots:
            room = slots - used
            if self._selector != "spread":
                return room
            step = slots // _LEVELS
        elif self._selector == "block":
            return room
        else:
            step = manager.prefetch // _PREFETCH_LEVELS
        return max(1, min(step, waiting // (self.available + 1), room))

    def members(self) -> Iterator[tuple[int, Manager]]:
        """Every rank and manager, for checks."""
        for rank, group in self._groups.items():
            for manager in group:
                yield rank, manager

    def check_invariants(self) -> None:
        """The groups are what they seem.

        Raises:
            AssertionError: They are not.
        """
        members = list(self.members())
        assert len(members) == self.available == len({m for _, m in members})
        assert all(manager.rank == rank for rank, manager in members)
        assert set(self._groups) == set(self._heap) and len(self._heap) == len(self._groups)
