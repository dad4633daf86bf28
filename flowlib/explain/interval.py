"""A stretch of a task's life with one reason, and what can be done with a list of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flowlib.explain.reasons import Reason


class Interval(NamedTuple):
    """A stretch of a task's life.

    Attributes:
        reason: What it was spent on.
        since: Unix time of its begin.
        until: Unix time of its end; None while it goes on.
        detail: More, by name; see the reference of reasons. Values are ready for JSON.
    """

    reason: Reason
    since: float
    until: float | None
    detail: Mapping[str, Any]

    def seconds(self, now: float) -> float:
        """How long it is; ``now`` is the end of one that goes on."""
        return (now if self.until is None else self.until) - self.since


class Tiler:
    """Lays intervals end to end: no gap, no overlap, none without length, neighbours that say the same are one.

    Args:
        start: Where the first begins.

    Attributes:
        at: Where the next begins.
        intervals: What is there so far.

    Example:
        >>> tiler = Tiler(1.0)
        >>> tiler.to(3.0, Reason.DEPENDENCY, {})
        >>> tiler.to(2.5, Reason.CAPACITY, {})
        >>> tiler.to(4.0, Reason.RUNNING, {"host": "node1"})
        >>> [(str(i.reason), i.since, i.until) for i in tiler.intervals]
        [('dependency', 1.0, 3.0), ('running', 3.0, 4.0)]
    """

    __slots__ = ("at", "intervals")

    def __init__(self, start: float) -> None:
        self.at = start
        self.intervals: list[Interval] = []

    def to(self, until: float, reason: Reason, detail: Mapping[str, Any]) -> None:
        """From where the last one ended to ``until``; nothing if that is not later."""
        if until <= self.at:
            return
        last = self.intervals[-1] if self.intervals else None
        if last is not None and last.reason is reason and last.detail == detail:
            self.intervals[-1] = Interval(reason, last.since, until, detail)
        else:
            self.intervals.append(Interval(reason, self.at, until, detail))
        self.at = until


def by_reason(intervals: Iterable[Interval], now: float) -> dict[Reason, float]:
    """Seconds spent on each reason, in the order in which they first came."""
    totals: dict[Reason, float] = {}
    for interval in intervals:
        totals[interval.reason] = totals.get(interval.reason, 0.0) + interval.seconds(now)
    return totals


def span(seconds: float) -> str:
    """A length of time for people.

    Example:
        >>> span(0.0042), span(1.26), span(42.4), span(252), span(7500), span(200_000)
        ('4 ms', '1.3 s', '42 s', '4 min 12 s', '2 h 5 min', '2 d 7 h')
    """
    if seconds < 0.9995:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, small, size, unit in (("d", "h", 86_400, 3_600), ("h", "min", 3_600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // unit
            return f"{whole // size} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"
