"""Why a whole run waits: for each reason how many tasks it holds up now, and the time that was lost on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flowlib.dataflow.states import States
from flowlib.explain.history import History
from flowlib.explain.interval import Interval, by_reason, span
from flowlib.explain.reasons import Reason
from flowlib.explain.recount import Recount
from flowlib.explain.sentences import sentence


class Row:
    """One reason.

    Attributes:
        now: Tasks that it holds up now.
        tasks: Tasks that it ever held up.
        seconds: Of all of them, added.
        example: A task that it holds up now, the oldest; None if there is none.
    """

    __slots__ = ("example", "now", "seconds", "tasks")

    def __init__(self) -> None:
        self.now = 0
        self.tasks = 0
        self.seconds = 0.0
        self.example: History | None = None


class Overview:
    """A run's reasons.

    Args:
        records: Of the run, as an ``EventReader`` gives them.
        clock: Gives the Unix time for what goes on, when the records are read; None for that of the last record.

    Attributes:
        rows: By reason.
        killed: Whether the run's driver is gone without a word; set by whoever can tell.
        now: Unix time of the answer.
        recount: What the records come to.

    Example:
        >>> overview = Overview(
        ...     [
        ...         (4, 1.0, 0, "f", "python", "m", "f.py", 3),
        ...         (10, 1.0, 0, 0, []),
        ...         (10, 2.0, 1, 0, [0]),
        ...         (3, 2.0, 0, "threads", "ThreadPoolExecutor", ""),
        ...         (11, 2.0, 0, 0, 0),
        ...     ],
        ...     lambda recount: 5.0,
        ... )
        >>> {str(reason): (row.now, row.seconds) for reason, row in overview.rows.items()}
        {'preparing': (0, 1.0), 'executor': (1, 3.0), 'dependency': (1, 3.0)}
    """

    def __init__(self, records: Iterable[Sequence[Any]], clock: Callable[[Recount], float] | None = None) -> None:
        self.rows: dict[Reason, Row] = {}
        self.killed = False
        self.recount = recount = Recount(finished=self._add)
        recount.take(records)
        self.now = recount.now if clock is None else clock(recount)
        for history in recount.tasks.values():
            self._add(history)

    def _add(self, history: History) -> None:
        now = history.done or self.now
        intervals = history.intervals(self.recount.capacity, now)
        for reason, seconds in by_reason(intervals, now).items():
            row = self.rows.setdefault(reason, Row())
            row.tasks += 1
            row.seconds += seconds
        if not history.done:
            row = self.rows[intervals[-1].reason]
            row.now += 1
            if row.example is None:
                row.example = history

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        recount = self.recount
        return {
            "version": 1,
            "now": self.now,
            "over": recount.over,
            "killed": self.killed,
            "tasks": recount.submitted,
            "ended": {state.name: count for state, count in recount.states.items()},
            "reasons": [
                {
                    "reason": str(reason),
                    "now": row.now,
                    "tasks": row.tasks,
                    "seconds": row.seconds,
                    **self._example(row),
                }
                for reason, row in self._sorted()
            ],
        }

    def lines(self) -> list[str]:
        """A table for people, the most important line first."""
        recount = self.recount
        ended = sum(recount.states.values())
        bad = sum(recount.states.get(state, 0) for state in (States.failed, States.dep_fail, States.cancelled))
        first = f"{recount.submitted} tasks, {ended} ended" + (f" ({bad} without a value)" if bad else "")
        if not recount.over:
            first += f", {recount.submitted - ended} not"
            first += " (the run was killed)" if self.killed else ""
        found = [first]
        rows = [("reason", "now", "tasks", "time in all", "")]
        for reason, row in self._sorted():
            rows.append((str(reason), str(row.now), str(row.tasks), span(row.seconds), self._text(row)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for reason_, now, tasks, seconds, text in rows:
            line = f"{reason_:<{widths[0]}}  {now:>{widths[1]}}  {tasks:>{widths[2]}}  {seconds:>{widths[3]}}  {text}"
            found.append(line.rstrip())
        return found

    def _sorted(self) -> list[tuple[Reason, Row]]:
        return sorted(self.rows.items(), key=lambda item: (-item[1].now, -item[1].seconds))

    def _current(self, history: History) -> Interval:
        return self.recount.intervals(history, self.now)[-1]

    def _example(self, row: Row) -> Mapping[str, Any]:
        if row.example is None:
            return {}
        history, interval = row.example, self._current(row.example)
        return {"example": {"task": history.task, "since": interval.since, "detail": dict(interval.detail)}}

    def _text(self, row: Row) -> str:
        if row.example is None:
            return ""
        history, interval = row.example, self._current(row.example)
        return f"{history.name}: {sentence(interval.reason, interval.detail, self.now)}"
