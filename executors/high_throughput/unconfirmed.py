"""Results that a manager has sent and that may not have arrived: kept until the interchange confirms them.

The interchange may die with results in its hands, finished hours of computing among them.  It confirms a message when
the driver's socket has taken it; what is not confirmed is sent again on the next connection.  Doubles are dropped where
they are met, since an attempt is answered once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from flowlib.executors.high_throughput.messages import Result


class _Sent(NamedTuple):
    number: int
    results: Sequence[Result]
    frames: Sequence[Any]


class Unconfirmed:
    """Messages by number, in the order of sending.

    Example:
        >>> sent = Unconfirmed()
        >>> for n in range(3):
        ...     sent.add(sent.next(), [Result(n, 0, 0, b"")], [b"message %d" % n])
        >>> sent.confirm(2)
        >>> sent.frames(), sent.keys()
        ([[b'message 2']], [(2, 0)])
    """

    __slots__ = ("_last", "_sent")

    def __init__(self) -> None:
        self._last = 0
        self._sent: deque[_Sent] = deque()

    def next(self) -> int:
        """The number for the next message."""
        self._last += 1
        return self._last

    def add(self, number: int, results: Sequence[Result], frames: Sequence[Any]) -> None:
        """Keep a message, which has this number and these results."""
        self._sent.append(_Sent(number, results, frames))

    def confirm(self, number: int) -> None:
        """All messages up to this one have arrived."""
        sent = self._sent
        while sent and sent[0].number <= number:
            sent.popleft()

    def keys(self) -> list[tuple[int, int]]:
        """The attempts whose results are kept."""
        return [(result.task, result.attempt) for one in self._sent for result in one.results]

    def frames(self) -> list[Sequence[Any]]:
        """The messages, to be sent again."""
        return [one.frames for one in self._sent]
