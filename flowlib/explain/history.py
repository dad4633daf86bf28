"""One task's records, and the intervals that they come to.

The intervals tile the task's life: the first begins when it was submitted, each begins where the one before ended, the
last ends with the task, or now.  Times come from several clocks (a worker's for begin and end of a try); whatever they
say is cut to the place where it can have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flowlib.dataflow.states import States
from flowlib.events.schema import STATUSES
from flowlib.explain.capacity import Capacity
from flowlib.explain.interval import Interval, Tiler
from flowlib.explain.reasons import Reason

_LOST = (STATUSES.index("WORKER_LOST"), STATUSES.index("LOST"))
_OK = STATUSES.index("OK")
ROOM_AFTER = 0.25
"""Seconds that a task may take to a node which has room for it."""
SHOWN = 5
"""Tasks that a detail names."""


class Ended(NamedTuple):
    """How a try ended: what the interval needs of ``TRY_ENDED``.

    Attributes:
        time: When the driver was told.
        status: Index in ``STATUSES``.
        started: By the worker's clock; 0 if it never ran.
        ended: Likewise.
        manager: Its number, -1 for none.
        worker: Rank, -1 for none.
        error: "" if it succeeded.
    """

    time: float
    status: int
    started: float
    ended: float
    manager: int
    worker: int
    error: str


class Try:
    """An attempt.

    Attributes:
        number: From 0.
        launched: When it was handed to an executor.
        executor: Which; its number in events.
        running: When it is known to have begun; 0 for unknown.
        place: Where it runs or ran, as details show it.
        ended: How it ended; None while it has not.
    """

    __slots__ = ("ended", "executor", "launched", "number", "place", "running")

    def __init__(self, number: int, launched: float, executor: int) -> None:
        self.number = number
        self.launched = launched
        self.executor = executor
        self.running = 0.0
        self.place: Mapping[str, Any] = {}
        self.ended: Ended | None = None


class History:
    """What the records tell of one task.

    Attributes:
        task: Its number.
        app: Its app's name.
        submitted: When.
        depends: Tasks whose values it needs.
        others: How many futures from elsewhere it needs.
        asks: What it asks of a node; None for nothing.
        waits: Those of ``depends`` (or of what its body returned) that are not done.
        arrived: When the last of them was done; 0 if none was waited for.
        tries: Its attempts.
        joining: When its body returned; 0 before.
        joined: The tasks that it returned.
        joined_others: How many futures from elsewhere it returned.
        rejoined: When the last of those was done; 0 if none was waited for.
        done: When it ended; 0 before.
        state: How.
        why: What the record of its end says about it.
    """

    __slots__ = (
        "app", "arrived", "asks", "depends", "done", "joined", "joined_others", "joining", "others", "rejoined",
        "state", "submitted", "task", "tries", "waits", "why",
    )  # fmt: skip

    def __init__(
        self,
        task: int,
        app: str,
        submitted: float,
        depends: tuple[int, ...],
        others: int = 0,
        asks: Mapping[str, Any] | None = None,
    ) -> None:
        self.task = task
        self.app = app
        self.submitted = submitted
        self.depends = depends
        self.others = others
        self.asks = asks
        self.waits: set[int] | None = None
        self.arrived = 0.0
        self.tries: list[Try] = []
        self.joining = 0.0
        self.joined: tuple[int, ...] = ()
        self.joined_others = 0
        self.rejoined = 0.0
        self.done = 0.0
        self.state = States.pending
        self.why = ""

    @property
    def name(self) -> str:
        """The task in a sentence."""
        return f"task {self.task} ({self.app})" if self.app else f"task {self.task}"

    def waiting(self) -> tuple[int, ...]:
        """The tasks that it waits for now."""
        return tuple(sorted(self.waits or ()))

    def intervals(self, capacity: Callable[[int], Capacity], now: float) -> list[Interval]:
        """The task's life so far.

        Args:
            capacity: Gives an executor by its number.
            now: Unix time at which the records end; the last interval of a task that is not done goes on then.
        """
        end = self.done or max(now, self.submitted)
        tiler = Tiler(self.submitted)
        first = self.tries[0].launched if self.tries else end
        self._before(tiler, min(first, end))
        for index, one in enumerate(self.tries):
            last = index + 1 == len(self.tries)
            limit = end if last else min(end, self.tries[index + 1].launched)
            self._during(tiler, one, capacity(one.executor), limit)
            if not last:
                tiler.to(limit, Reason.BACKOFF, _after(one))
        if self.tries:
            self._after_last(tiler, self.tries[-1], end)
        if self.done:
            return tiler.intervals
        if not tiler.intervals:
            return [Interval(Reason.PREPARING, self.submitted, None, {})]
        *before, current = tiler.intervals
        return [*before, current._replace(until=None)]

    def _before(self, tiler: Tiler, end: float) -> None:
        if self.waits and not self.joining:
            tiler.to(end, Reason.DEPENDENCY, self._inputs(self.depends))
            return
        if self.state is States.dep_fail or self.arrived:
            tiler.to(end if self.state is States.dep_fail else min(self.arrived, end), *self._were_waited_for())
        if self.others:
            tiler.to(end, Reason.EXTERNAL, {"futures": self.others})
        else:
            tiler.to(end, Reason.PREPARING, {})

    def _were_waited_for(self) -> tuple[Reason, Mapping[str, Any]]:
        count = len(set(self.depends))
        return Reason.DEPENDENCY, {"inputs": count, "done": count}

    def _inputs(self, tasks: tuple[int, ...]) -> dict[str, Any]:
        waits = self.waiting()
        return {
            "inputs": len(set(tasks)),
            "done": len(set(tasks)) - len(waits),
            "waiting_for": list(waits[:SHOWN]),
        }

    def _during(self, tiler: Tiler, one: Try, capacity: Capacity, limit: float) -> None:
        """From the launch of a try to its end, or to ``limit``."""
        told = one.ended
        end = limit if told is None else min(told.time, limit)
        if told is not None and told.started:
            self._queued(tiler, capacity, min(told.started, end))
            outcome = {"outcome": STATUSES[told.status].lower(), **({"error": told.error} if told.error else {})}
            reason = Reason.LOST if told.status in _LOST else Reason.RUNNING
            tiler.to(min(max(told.ended, told.started), end), reason, {**one.place, "attempt": one.number, **outcome})
            tiler.to(end, Reason.RETURN, {})
        elif one.running:
            self._queued(tiler, capacity, min(one.running, end))
            lost = told is not None and told.status in _LOST
            why = {"error": told.error} if lost and told is not None and told.error else {}
            tiler.to(end, Reason.LOST if lost else Reason.RUNNING, {**one.place, "attempt": one.number, **why})
        elif capacity.here and told is None and not self.done:
            # Threads write no record when they begin.
            tiler.to(end, Reason.EXECUTOR, {"executor": capacity.label})
        else:
            turn = None if told is not None or self.done or self.asks else capacity.turn(self.task)
            if turn is not None and capacity.now()[0] is Reason.CAPACITY:
                # Busy with this one, most likely; of what has begun within the last seconds there is no record yet.
                self._queued(tiler, capacity, min(turn, end))
                tiler.to(end, Reason.DISPATCH, capacity.now()[1])
            self._queued(tiler, capacity, end)

    def _queued(self, tiler: Tiler, capacity: Capacity, end: float) -> None:
        for reason, since, until, detail in capacity.slices(tiler.at, end):
            late = reason is Reason.CAPACITY or (reason is Reason.DISPATCH and until - since > ROOM_AFTER)
            if self.asks and late:
                # Whether workers were free or not: there was no node with room for all of it.
                tiler.to(until, Reason.NO_FIT, {"executor": capacity.label, "asks": self.asks})
            else:
                tiler.to(until, reason, detail)

    def _after_last(self, tiler: Tiler, one: Try, end: float) -> None:
        """From the end of the last try to the end of the task."""
        told = one.ended
        if told is None and not self.joining:
            return
        if self.joining:
            tiler.to(min(self.joining, end), Reason.RETURN, {})
            if self.waits:
                tiler.to(end, Reason.JOIN, self._inputs(self.joined))
            else:
                count = len(set(self.joined))
                tiler.to(min(self.rejoined, end), Reason.JOIN, {"inputs": count, "done": count})
                if self.joined_others:
                    tiler.to(end, Reason.EXTERNAL, {"futures": self.joined_others})
                else:
                    tiler.to(end, Reason.RETURN, {})
        elif told is not None and told.status != _OK and not self.done:
            tiler.to(end, Reason.BACKOFF, _after(one))
        else:
            tiler.to(end, Reason.RETURN, {})


def _after(one: Try) -> dict[str, Any]:
    """Details of the time after a try that failed."""
    told = one.ended
    if told is None:
        return {"attempt": one.number}
    return {"attempt": one.number, "outcome": STATUSES[told.status].lower(), "error": told.error}
