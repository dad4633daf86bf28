"""Turns: of tasks that a thread ends itself, each is reported after the one before, not inside its report.

What a report sets free is launched by the thread that reports.  An executor that runs it there, or whose future is done
at once, would nest one report for every link of a chain, until Python's stack is at its end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turns(threading.local):
    """What waits in a thread, one queue for each."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._busy = False

    def take(self, call: Callable[[], None]) -> None:
        """Make a call: now, or when the thread is through with those that it makes."""
        self._waiting.append(call)
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting:
                self._waiting.popleft()()
        finally:
            self._busy = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        """For users' code, which may wait for what it starts: calls taken within are made within."""
        before, self._busy = self._busy, False
        try:
            yield
        finally:
            self._busy = before

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)
