"""What a progress display says: counts by app, rate and time left, as plain values and as one line of text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flowlib.dataflow.states import States

WINDOW = 15.0
"""Seconds over which the rate is taken."""

_DONE = frozenset({States.exec_done, States.memo_done})
_FAILED = frozenset({States.failed, States.dep_fail, States.cancelled})
_LAUNCHED = frozenset({States.launched, States.running, States.running_ended, States.joining})

Snapshot = Mapping[str, Mapping[int, int]]
"""Number of tasks by app name and state (a ``States``)."""


class Row(NamedTuple):
    """The tasks of an app.

    Attributes:
        name: The app, or "" for all.
        done: Ended with a value.
        failed: Ended without one.
        launched: Given to an executor, or joining.
        waiting: Neither.
    """

    name: str
    done: int
    failed: int
    launched: int
    waiting: int

    @property
    def finished(self) -> int:
        """Done or failed."""
        return self.done + self.failed

    @property
    def total(self) -> int:
        """All of them."""
        return self.finished + self.launched + self.waiting


class Tally:
    """Follows a run by snapshots of its counters.

    Attributes:
        rows: One per app, in the order of their first task.
        total: All together.
        rate: Tasks finished per second, over the last ``WINDOW`` seconds.
        left: Seconds until what is there now is finished, at this rate; None if nobody can tell.

    Example:
        >>> tally = Tally()
        >>> tally.update(0.0, {"simulate": {States.launched: 4}})
        >>> tally.update(2.0, {"simulate": {States.launched: 1, States.exec_done: 3}})
        >>> tally.line()
        '3 of 4 done, 1 launched, 1.5/s, about 1 s left'
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.total = Row("", 0, 0, 0, 0)
        self.rate = 0.0
        self.left: float | None = None
        self._history: deque[tuple[float, int]] = deque()

    def update(self, now: float, snapshot: Snapshot) -> None:
        """Take a snapshot.

        Args:
            now: Seconds, by any clock that goes forward.
            snapshot: The counters.
        """
        self.rows = [_row(name, counts) for name, counts in snapshot.items()]
        self.total = combined("", self.rows)
        history = self._history
        history.append((now, self.total.finished))
        while len(history) > 2 and history[1][0] <= now - WINDOW:
            history.popleft()
        then, before = history[0]
        self.rate = (self.total.finished - before) / (now - then) if now > then else 0.0
        open_tasks = self.total.total - self.total.finished
        self.left = 0.0 if not open_tasks else open_tasks / self.rate if self.rate > 0 else None

    def line(self) -> str:
        """All together, in a line."""
        total = self.total
        parts = [f"{total.done} of {total.total} done"]
        if total.failed:
            parts.append(f"{total.failed} failed")
        if total.launched:
            parts.append(f"{total.launched} launched")
        if total.waiting:
            parts.append(f"{total.waiting} waiting")
        if self.rate:
            parts.append(f"{number(self.rate)}/s")
        if self.left:
            parts.append(f"about {duration(self.left)} left")
        return ", ".join(parts)


def combined(name: str, rows: Iterable[Row]) -> Row:
    """The sums of several rows, as a row called ``name``."""
    done = failed = launched = waiting = 0
    for row in rows:
        done += row.done
        failed += row.failed
        launched += row.launched
        waiting += row.waiting
    return Row(name, done, failed, launched, waiting)


def _row(name: str, counts: Mapping[int, int]) -> Row:
    done = failed = launched = waiting = 0
    for state, count in counts.items():
        if state in _DONE:
            done += count
        elif state in _FAILED:
            failed += count
        elif state in _LAUNCHED:
            launched += count
        else:
            waiting += count
    return Row(name, done, failed, launched, waiting)


def number(value: float) -> str:
    """A rate, short.

    Example:
        >>> number(0.25), number(7.31), number(1234.5)
        ('0.25', '7.3', '1234')
    """
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """A length of time, short.

    Example:
        >>> duration(0.2), duration(59), duration(3599), duration(90_000)
        ('1 s', '59 s', '60 min', '25 h 0 min')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
