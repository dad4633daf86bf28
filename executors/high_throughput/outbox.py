"""Results of short tasks that a worker has not sent yet, where its death cannot take them.

Telling the manager of every short task by itself costs more than the task.  A worker with further tasks in hand puts
a small result here instead, in memory that the manager shares, and sends all of them a moment later.  Should it die
before, or be held up by a task that turns out long, the manager reads them here.  What it gets twice it drops: each
attempt is answered once.

Only the worker writes.  One cell tells how much is valid, together with a count of emptyings, so that a reader sees
whether what it has copied stayed what it was.
"""

from __future__ import annotations

SIZE = 32 * 1024
"""Bytes for each worker."""
LARGEST = 1024
"""Bytes of the largest result that is put here."""
_MOST = 512
_START = b"\x92\x02\xdc"
"""A ``Results`` message with the ``Result`` structures that follow, after their number in two bytes."""
_TRIES = 3


def message(count: int, results: bytes) -> bytes:
    """The header of a ``Results`` message of ``count`` encoded ``Result``."""
    return _START + count.to_bytes(2, "big") + results


class Outbox:
    """The writing end.

    Args:
        cells: Memory as numbers.
        cell: Which of them is the outbox's.
        memory: Memory as bytes, the outbox's part only.

    Example:
        >>> number, data = memoryview(bytearray(8)).cast("Q"), memoryview(bytearray(SIZE))
        >>> box = Outbox(number, 0, data)
        >>> box.put(b"abc"), box.put(b"de"), read(number, 0, data)
        (True, True, (2, b'abcde'))
        >>> box.look()
        (2, b'abcde')
        >>> box.empty()
        >>> read(number, 0, data)
        (0, b'')
    """

    __slots__ = ("_cell", "_cells", "_emptied", "_memory", "count", "_length")

    def __init__(self, cells: memoryview, cell: int, memory: memoryview) -> None:
        self._cells = cells
        self._cell = cell
        self._memory = memory
        self._length = 0
        self._emptied = 0
        self.count = 0
        """Results that are in it."""

    def put(self, result: bytes) -> bool:
        """Add an encoded ``Result``; False if it does not fit."""
        start = self._length
        end = start + len(result)
        if end > SIZE or self.count >= _MOST:
            return False
        self._memory[start:end] = result
        self._length = end
        self.count += 1
        self._cells[self._cell] = self._emptied << 48 | self.count << 32 | end
        return True

    def look(self) -> tuple[int, bytes]:
        """The number of results in it, and all of them."""
        return (self.count, bytes(self._memory[: self._length])) if self.count else (0, b"")

    def empty(self) -> None:
        """Remove them: they were sent."""
        if self.count:
            self._length = self.count = 0
            self._emptied = (self._emptied + 1) & 0xFFFF
            self._cells[self._cell] = self._emptied << 48


def read(cells: memoryview, cell: int, memory: memoryview) -> tuple[int, bytes]:
    """The same from the other side, which leaves them where they are.

    While the worker lives this is a snapshot of some moment, or nothing when it changes too quickly.
    """
    for _ in range(_TRIES):
        state = cells[cell]
        results = bytes(memory[: state & 0xFFFFFFFF])
        if cells[cell] == state:
            return state >> 32 & 0xFFFF, results
    return 0, b""
