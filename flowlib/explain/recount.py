"""Goes through a run's records once, and keeps what explanations need.

For single tasks that is the histories of these, and of those that are not done; for all of them the time that was lost
on each reason.  Memory goes with the number of tasks that are not done, whatever the length of the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from flowlib.dataflow.states import States
from flowlib.events.schema import Code
from flowlib.explain.capacity import Capacity
from flowlib.explain.history import SHOWN, Ended, History, Try
from flowlib.explain.interval import Interval
from flowlib.explain.reasons import Reason

MOST_ANCESTORS = 100_000
"""Tasks that are looked at for what a task waits for in the end."""

_THREADS = {"ThreadPoolExecutor", "InlineExecutor"}
_STATES = {int(state): state for state in States}
_FAR: Final = (Reason.DEPENDENCY, Reason.JOIN)


class Recount:
    """The state of a run after some records.

    Args:
        wanted: Tasks to be explained; None for none in particular.
        finished: Called with each task that ends, before it is forgotten.

    Attributes:
        started: Unix time of the first record.
        now: Unix time of the last record.
        driver: Host and process id of the run's driver, where known.
        over: Whether the run has ended.
        tasks: Tasks that are not done, and the wanted ones, by number.
        submitted: How many tasks there were.
        highest: The highest number of a task; -1 if there is none.
        states: How many tasks ended in each state.

    Example:
        >>> recount = Recount([0])
        >>> recount.take([(4, 1.0, 0, "f", "python", "m", "f.py", 3), (10, 1.0, 7, 0, []), (10, 2.0, 0, 0, [7])])
        >>> [(str(i.reason), i.since, i.until) for i in recount.intervals(recount.tasks[0], 5.0)]
        [('dependency', 2.0, None)]
    """

    def __init__(self, wanted: Iterable[int] | None = None, finished: Callable[[History], None] | None = None) -> None:
        self.started = 0.0
        self.now = 0.0
        self.driver: tuple[str, int] | None = None
        self.over = False
        self.tasks: dict[int, History] = {}
        self.submitted = 0
        self.highest = -1
        self.states: dict[States, int] = {}
        self._wanted = frozenset(wanted or ())
        self._finished = finished
        self._apps: dict[int, str] = {}
        self._capacity: dict[int, Capacity] = {}
        self._waiters: dict[int, list[History]] = {}
        self._hosts: dict[tuple[int, int], tuple[str, str]] = {}
        self._takers: dict[int, Callable[[Sequence[Any]], None]] = {
            Code.TASK_SUBMITTED: self._on_submitted,
            Code.TASK_LAUNCHED: self._on_launched,
            Code.TASK_RUNNING: self._on_running,
            Code.TRY_ENDED: self._on_try,
            Code.TASK_DONE: self._on_done,
            Code.TASK_JOINING: self._on_joining,
            Code.APP: self._on_app,
            Code.EXECUTOR: self._on_executor,
            Code.MANAGER: self._on_manager,
            Code.BLOCK: self._on_block,
            Code.INTERCHANGE: self._on_interchange,
            Code.RUN_STARTED: self._on_run_started,
            Code.RUN_ENDED: self._on_run_ended,
        }

    def take(self, records: Iterable[Sequence[Any]]) -> None:
        """Take further records, in the order of the log."""
        takers = self._takers
        for record in records:
            taker = takers.get(record[0])
            if taker is not None:
                taker(record)
            when = record[1]
            if when > self.now:
                self.now = when
                if not self.started:
                    self.started = when

    # ------------------------------------------------------------------------------------------------------- answers

    def capacity(self, executor: int) -> Capacity:
        """An executor, by its number."""
        found = self._capacity.get(executor)
        if found is None:
            found = self._capacity[executor] = Capacity(f"executor {executor}")
        return found

    @staticmethod
    def state(history: History) -> States:
        """A task's state, as far as records tell."""
        if history.done:
            return history.state
        if history.joining:
            return States.joining
        if not history.tries:
            return States.pending
        told = history.tries[-1].ended
        return States.fail_retryable if told is not None and told.status else States.launched

    def intervals(self, history: History, now: float) -> list[Interval]:
        """A task's life, with what it waits for in the end where it waits for others."""
        intervals = history.intervals(self.capacity, now)
        if intervals and not history.done and intervals[-1].reason in _FAR:
            last = intervals[-1]
            intervals[-1] = last._replace(detail={**last.detail, **self._roots(history, now)})
        return intervals

    def roots(self, history: History) -> list[History]:
        """The tasks that a task waits for in the end: ancestors which wait for no task of the run themselves."""
        found: list[History] = []
        seen = set(history.waits or ())
        queue = deque(sorted(seen))
        while queue and len(seen) < MOST_ANCESTORS:
            ancestor = self.tasks.get(queue.popleft())
            if ancestor is None:
                continue
            if not ancestor.waits:
                found.append(ancestor)
                continue
            for task in ancestor.waits - seen:
                seen.add(task)
                queue.append(task)
        # The one that was launched first is what holds the others up for longest.
        found.sort(key=lambda root: (root.tries[0].launched if root.tries else root.submitted, root.task))
        return found

    def _roots(self, history: History, now: float) -> dict[str, Any]:
        roots = self.roots(history)
        told = []
        for root in roots[:SHOWN]:
            current = root.intervals(self.capacity, now)[-1]
            told.append({"task": root.task, "app": root.app, **_brief(current)})
        return {"root_count": len(roots), "roots": told}

    # -------------------------------------------------------------------------------------------- what records tell

    def _on_submitted(self, record: Sequence[Any]) -> None:
        when, task, app, depends = record[1:5]
        others = record[5] if len(record) > 5 else 0
        asks = record[6] if len(record) > 6 else None
        history = History(task, self._apps.get(app, ""), when, tuple(depends), others, asks)
        self.tasks[task] = history
        self.submitted += 1
        if task > self.highest:
            self.highest = task
        if depends:
            self._wait(history, depends)

    def _wait(self, history: History, tasks: Iterable[int]) -> None:
        """Note which of these a task has to wait for."""
        waits = {task for task in tasks if task in self.tasks and not self.tasks[task].done}
        waits.discard(history.task)
        if waits:
            history.waits = waits
            for task in waits:
                self._waiters.setdefault(task, []).append(history)

    def _on_launched(self, record: Sequence[Any]) -> None:
        when, task, attempt, executor = record[1:5]
        history = self.tasks.get(task)
        if history is not None:
            if history.tries and history.tries[-1].ended is None:
                self.capacity(history.tries[-1].executor).ended(when, task)
            history.tries.append(Try(attempt, when, executor))
            self.capacity(executor).launched(when, task, history.asks)

    def _on_running(self, record: Sequence[Any]) -> None:
        since, task, attempt, manager = record[1:5]
        history = self.tasks.get(task)
        if history is not None and history.tries and history.tries[-1].number == attempt:
            one = history.tries[-1]
            # Told again by an interchange that took over: the first time is the true one.
            one.running = one.running or since
            one.place = self._place(one.executor, manager)

    def _on_try(self, record: Sequence[Any]) -> None:
        when, task, attempt, status, started, ended, manager, worker, kind, text = record[1:11]
        history = self.tasks.get(task)
        if history is None or not history.tries or history.tries[-1].number != attempt:
            return
        one = history.tries[-1]
        self.capacity(one.executor).ended(when, task)
        if manager >= 0:
            one.place = self._place(one.executor, manager, worker)
        error = f"{kind.rpartition('.')[2]}: {text}" if kind else ""
        one.ended = Ended(when, status, started, ended, manager, worker, error)

    def _on_done(self, record: Sequence[Any]) -> None:
        when, task, state = record[1:4]
        history = self.tasks.get(task)
        if history is None:
            return
        history.done, history.state = max(when, history.submitted), _STATES[state]
        history.why = record[4] if len(record) > 4 else ""
        self.states[history.state] = self.states.get(history.state, 0) + 1
        if history.tries and history.tries[-1].ended is None:
            self.capacity(history.tries[-1].executor).ended(when, task)
        for waiter in self._waiters.pop(task, ()):
            if waiter.waits and task in waiter.waits and not waiter.done:
                waiter.waits.remove(task)
                if not waiter.waits:
                    if waiter.joining:
                        waiter.rejoined = when
                    else:
                        waiter.arrived = when
        if self._finished is not None:
            self._finished(history)
        if task not in self._wanted:
            del self.tasks[task]

    def _on_joining(self, record: Sequence[Any]) -> None:
        when, task, waits = record[1:4]
        history = self.tasks.get(task)
        if history is not None:
            history.joining = when
            history.joined = tuple(waits)
            history.joined_others = record[4] if len(record) > 4 else 0
            self._wait(history, waits)

    def _on_app(self, record: Sequence[Any]) -> None:
        self._apps[record[2]] = record[3]

    def _on_executor(self, record: Sequence[Any]) -> None:
        self.capacity(record[2]).name(record[3], here=record[4] in _THREADS)

    def _on_manager(self, record: Sequence[Any]) -> None:
        when, executor, manager, name, change, _, host, slots, reason = record[1:10]
        self._hosts[executor, manager] = host, name
        cores = record[10].get("cores", 0.0) if len(record) > 10 else 0.0
        self.capacity(executor).manager(when, manager, change, host, slots, reason, cores)

    def _on_block(self, record: Sequence[Any]) -> None:
        when, executor, block, change, job, reason = record[1:7]
        self.capacity(executor).block(when, block, change, job, reason)

    def _on_interchange(self, record: Sequence[Any]) -> None:
        self.capacity(record[2]).interchange(record[1])

    def _on_run_started(self, record: Sequence[Any]) -> None:
        if len(record) > 9:
            self.driver = record[8], record[9]

    def _on_run_ended(self, record: Sequence[Any]) -> None:
        self.over = True

    def _place(self, executor: int, manager: int, worker: int = -1) -> dict[str, Any]:
        host, name = self._hosts.get((executor, manager), ("", ""))
        place: dict[str, Any] = {"host": host, "manager": name}
        return place if worker < 0 else {**place, "worker": worker}


def _brief(interval: Interval) -> dict[str, Any]:
    """What an interval says of a task that another waits for."""
    return {"reason": str(interval.reason), "since": interval.since, **interval.detail}
