"""What the log has not written yet, and what is given up when the disk does not take it.

The backlog is bounded, so a full or hanging disk costs memory once and never a task.  When it is full, samples of
resource use go first, then new events; both are counted, and the count is written where the gap is.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

LIMIT = 64 * 1024 * 1024


class Lost(NamedTuple):
    """How many records were given up."""

    events: int
    samples: int


class _Frame(NamedTuple):
    data: bytes
    records: int
    samples: bool


class Backlog:
    """Frames on their way to the file, in order. Not thread-safe.

    Args:
        limit: Most bytes to hold.

    Attributes:
        size: Bytes held.
        lost: What was given up since the beginning.

    Example:
        >>> backlog = Backlog(limit=10)
        >>> backlog.add(b"events", 2)
        >>> backlog.add(b"too many", 3)
        >>> backlog.written(4)
        >>> bytes(backlog.head()), backlog.lost
        (b'ts', Lost(events=3, samples=0))
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.size = 0
        self.lost = Lost(0, 0)
        self._events: deque[_Frame] = deque()
        self._done = 0
        self._reported = Lost(0, 0)

    def __len__(self) -> int:
        return len(self._events)

    def head(self) -> memoryview:
        """What to write next; empty if there is nothing. Valid until ``written``, whatever is added meanwhile."""
        return memoryview(self._events[0].data)[self._done :] if self._events else memoryview(b"")

    def written(self, count: int) -> None:
        """The file has taken ``count`` bytes of the head."""
        self.size -= count
        self._done += count
        if self._events and self._done >= len(self._events[0].data):
            self._events.popleft()
            self._done = 0

    def add(self, data: bytes, records: int, *, samples: bool = False) -> None:
        """Take a frame, or give records up: this one's or older samples'.

        Args:
            data: The frame.
            records: How many records it holds.
            samples: Whether they are samples.
        """
        if self.size + len(data) > self.limit and not samples:
            self._give_up_samples(self.size + len(data) - self.limit)
        if self.size + len(data) > self.limit:
            self._lose(records, samples)
            return
        self._events.append(_Frame(data, records, samples))
        self.size += len(data)

    def unreported(self) -> Lost | None:
        """What was given up and not told yet, once half of the room is free again; then it counts as told."""
        if self.lost == self._reported or self.size > self.limit // 2:
            return None
        gap = Lost(self.lost.events - self._reported.events, self.lost.samples - self._reported.samples)
        self._reported = self.lost
        return gap

    def _give_up_samples(self, excess: int) -> None:
        """Drop the oldest samples until ``excess`` bytes are free; the head may be half written and stays."""
        kept: deque[_Frame] = deque()
        for index, frame in enumerate(self._events):
            if excess > 0 and index and frame.samples:
                excess -= len(frame.data)
                self.size -= len(frame.data)
                self._lose(frame.records, True)
            else:
                kept.append(frame)
        self._events = kept

    def _lose(self, records: int, samples: bool) -> None:
        events, others = self.lost
        self.lost = Lost(events, others + records) if samples else Lost(events + records, others)
