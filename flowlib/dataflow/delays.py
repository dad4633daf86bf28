"""Things that wait for their time, in one heap.

Pure: the time is told.  One heap for all, because a hundred thousand tasks may wait at once for a service to come back.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Delays(Generic[K]):
    """Keys with the times at which they are due.

    Example:
        >>> delays: Delays[str] = Delays()
        >>> delays.put("b", 2.0)
        >>> delays.put("a", 1.0)
        >>> delays.next, delays.due(1.5), delays.next
        (1.0, ['a'], 2.0)
        >>> delays.remove("b"), delays.next
        (True, None)
    """

    __slots__ = ("_count", "_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        # The entry of a key that counts; others in the heap are leftovers.
        self._live: dict[K, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._live)

    @property
    def next(self) -> float | None:
        """When the first is due; None if there is none."""
        self._settle()
        return self._heap[0][0] if self._heap else None

    def put(self, key: K, at: float) -> None:
        """Let a key wait until ``at``; one that waits already does so anew."""
        self._count += 1
        self._live[key] = self._count
        heappush(self._heap, (at, self._count, key))
        self._tidy()

    def remove(self, key: K) -> bool:
        """Let a key wait no longer; whether it did."""
        if self._live.pop(key, None) is None:
            return False
        self._tidy()
        return True

    def due(self, now: float) -> list[K]:
        """Take out what is due, the earliest first; equal times in the order of ``put``."""
        found: list[K] = []
        while True:
            self._settle()
            if not self._heap or self._heap[0][0] > now:
                return found
            key = heappop(self._heap)[2]
            del self._live[key]
            found.append(key)

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self._live.clear()

    def _settle(self) -> None:
        heap, live = self._heap, self._live
        while heap and live.get(heap[0][2]) != heap[0][1]:
            heappop(heap)

    def _tidy(self) -> None:
        heap, live = self._heap, self._live
        if len(heap) > 64 and len(heap) > 2 * len(live):
            self._heap = [entry for entry in heap if live.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def check_invariants(self) -> None:
        """What waits has one place in the heap.

        Raises:
            AssertionError: It has not.
        """
        places = [(key, number) for _, number, key in self._heap if self._live.get(key) == number]
        assert sorted(number for _, number in places) == sorted(self._live.values())
        assert len(self._heap) <= max(64, 2 * len(self._live)) + 1
