"""The answer to "why is this task not done?": a sentence for people, a dictionary for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowlib.dataflow.states import States
from flowlib.explain.interval import Interval, by_reason, span
from flowlib.explain.reasons import PROGRESS, WORDS, Reason
from flowlib.explain.sentences import sentence

VERSION = 1
"""Version of ``to_dict``; raised when a name changes its meaning or goes."""
_SMALL = 0.01
_ENDS = {
    States.exec_done: "ended with a value",
    States.memo_done: "was remembered",
    States.failed: "failed",
    States.dep_fail: "was not run, because something that it needs failed,",
    States.cancelled: "was cancelled",
}


@dataclass(frozen=True)
class Explanation:
    """Why a task is not done, or where its time went.

    ``str()`` gives a short sentence.

    Attributes:
        task: Its number.
        app: Its app's name.
        state: Its state.
        now: Unix time of the answer; of a task that is done, of its end.
        attempts: How many tries there were so far.
        intervals: Its life from the call on, without gap or overlap; ``until`` of the last is None while it goes on.
        live: Whether the executor was asked; otherwise this comes from the event log alone.
        killed: Whether the run was killed before the task was done; ``now`` is then the time of its last record.

    Example:
        >>> queued = Interval(Reason.CAPACITY, 10.0, None, {"executor": "htex", "workers": 2, "managers": 1})
        >>> told = Explanation(7, "simulate", States.launched, 30.0, 1, (queued,))
        >>> print(told)
        task 7 (simulate) has been waiting for 20 s: all 2 workers of 'htex' are busy
        >>> told.reason, told.to_dict()["seconds"]
        (<Reason.CAPACITY: 'capacity'>, {'capacity': 20.0})
    """

    task: int
    app: str
    state: States
    now: float
    attempts: int
    intervals: tuple[Interval, ...]
    live: bool = False
    killed: bool = False

    @property
    def done(self) -> bool:
        """Whether the task is done."""
        return self.state in _ENDS

    @property
    def reason(self) -> Reason:
        """Why it does not run now; ``Reason.RUNNING`` if it does, ``Reason.DONE`` once it is done."""
        return Reason.DONE if self.done else self.intervals[-1].reason

    @property
    def seconds(self) -> dict[Reason, float]:
        """Seconds spent on each reason so far, in the order in which they first came."""
        return by_reason(self.intervals, self.now)

    @property
    def total(self) -> float:
        """Seconds since it was submitted, up to its end."""
        return self.now - self.intervals[0].since if self.intervals else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON: see the reference of reasons."""
        return {
            "version": VERSION,
            "task": self.task,
            "app": self.app,
            "state": self.state.name,
            "reason": str(self.reason),
            "text": str(self),
            "now": self.now,
            "attempts": self.attempts,
            "total": self.total,
            "seconds": {str(reason): seconds for reason, seconds in self.seconds.items()},
            "intervals": [
                {
                    "reason": str(interval.reason),
                    "since": interval.since,
                    "until": interval.until,
                    "seconds": interval.seconds(self.now),
                    "detail": dict(interval.detail),
                }
                for interval in self.intervals
            ],
            "live": self.live,
            "killed": self.killed,
        }

    def lines(self) -> list[str]:
        """The history for people: the sentence, and a line for each interval that took a while."""
        start = self.intervals[0].since if self.intervals else self.now
        found = [str(self)]
        for interval in self.intervals:
            seconds = interval.seconds(self.now)
            if seconds >= min(_SMALL, self.total / 10) or interval.until is None:
                text = sentence(interval.reason, interval.detail, self.now)
                found.append(f"{interval.since - start:11.3f} s  {span(seconds):>12}  {interval.reason!s:<14}  {text}")
        return found

    def __str__(self) -> str:
        name = f"task {self.task} ({self.app})" if self.app else f"task {self.task}"
        if self.done:
            spent = sorted(self.seconds.items(), key=lambda item: -item[1])
            parts = [f"{span(seconds)} {WORDS[reason]}" for reason, seconds in spent if seconds >= self.total / 100]
            place = next((i.detail.get("host") for i in reversed(self.intervals) if i.reason is Reason.RUNNING), None)
            where = f" (last on {place})" if place else ""
            return f"{name} {_ENDS[self.state]} after {span(self.total)}: {', '.join(parts) or 'no time'}{where}"
        current = self.intervals[-1]
        since = span(current.seconds(self.now))
        doing = current.reason in PROGRESS
        verb = "running" if current.reason is Reason.RUNNING else "under way" if doing else "waiting"
        text = f"has been {verb} for {since}: {sentence(current.reason, current.detail, self.now)}"
        return f"{name}, when the run was killed, {text}" if self.killed else f"{name} {text}"
