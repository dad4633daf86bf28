"""Explanations of tasks of a run in this process: the event log, and what the executor of a waiting task says."""

from __future__ import annotations

from dataclasses import replace
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.graph import JOINING, LAUNCHED, PENDING
from flowlib.dataflow.states import FINAL_STATES
from flowlib.explain import records
from flowlib.explain.explanation import Explanation
from flowlib.explain.history import History, Try
from flowlib.explain.interval import Interval
from flowlib.explain.place import refined
from flowlib.explain.reasons import Reason
from flowlib.explain.recount import Recount

if TYPE_CHECKING:
    from flowlib.dataflow.lanes import Lane
    from flowlib.dataflow.record import TaskRecord

FLUSH = 2.0
"""Seconds for what has just happened to reach the event log."""
MOST_BY_HAND = 1000
"""Tasks that are looked at where there is no event log."""
_NAMED = frozenset({"task", "app", "reason", "since"})


def explain(record: TaskRecord) -> Explanation:
    """Why a task is not done, or where its time went.

    Args:
        record: The task.

    Raises:
        OSError: The run's event log cannot be read.
    """
    kernel = record.kernel
    with kernel.engine.lock:
        # A future is settled before its event is emitted, both under this lock.
        status, attempt, lane = record.status, record.attempt, record.lane
    # Asked before the log is read: a begin that the executor has forgotten by then has its record.
    place = None
    if status is LAUNCHED and lane is not None:
        place = lane.executor.whereabouts(record, attempt)
    path = kernel.flush_events(FLUSH)
    found = _without_log(record) if path is None else records.recount(path, [record.id])
    if record.id not in found.tasks:
        # The disk did not take its events.
        found = _without_log(record)
    now = time()
    told = records.of_recount(found, record.id, now)
    if told.done:
        return told
    intervals = list(told.intervals)
    if place is not None and intervals[-1].reason is not Reason.RUNNING:
        intervals = refined(intervals, place, now)
    elif place is None and intervals[-1].detail.get("roots"):
        intervals[-1] = current = _with_live_roots(record, intervals[-1], now)
        return replace(told, now=now, intervals=tuple(intervals), live=current is not told.intervals[-1])
    return replace(told, now=now, intervals=tuple(intervals), live=place is not None)


def _with_live_roots(record: TaskRecord, interval: Interval, now: float) -> Interval:
    """What is waited for in the end, as its executors see it; the same interval if they say nothing."""
    roots: list[dict[str, Any]] = []
    silent: set[Lane | None] = {None}
    told = False
    for root in interval.detail["roots"]:
        other = record.kernel.tasks.get(root["task"])
        lane = None if other is None or other.status is not LAUNCHED else other.lane
        place = None
        if other is not None and lane is not None and lane not in silent:
            place = lane.executor.whereabouts(other, other.attempt)
            if place is None:
                # One that does not answer takes its time for that, and would each time.
                silent.add(lane)
        if place is not None and root["reason"] != Reason.RUNNING:
            told = True
            known = {name: value for name, value in root.items() if name not in _NAMED}
            current = refined([Interval(Reason(root["reason"]), root["since"], None, known)], place, now)[-1]
            named = {"task": root["task"], "app": root["app"], "reason": str(current.reason), "since": current.since}
            root = {**named, **current.detail}
        roots.append(root)
    return interval._replace(detail={**interval.detail, "roots": roots}) if told else interval


def _without_log(record: TaskRecord) -> Recount:
    """What the kernel itself knows of a task and of those that it waits for: their last tries, no word of executors."""
    found = Recount([record.id])
    queue = [record]
    while queue and len(found.tasks) < MOST_BY_HAND:
        one = queue.pop()
        if one.id not in found.tasks:
            found.tasks[one.id], parents = _by_hand(one)
            queue += parents
    return found


def _by_hand(record: TaskRecord) -> tuple[History, list[TaskRecord]]:
    """A task's history as the kernel knows it, and the tasks that it waits for."""
    status = record.status
    history = History(record.id, record.app.name, record.submitted, ())
    if record.launched:
        history.arrived = record.launched if record.depends else 0.0
        history.tries.append(Try(record.attempt, record.launched, -1 if record.lane is None else record.lane.index))
    if status in FINAL_STATES:
        history.done, history.state = record.ended, status
        return history, []
    if status not in (PENDING, JOINING):
        return history, []
    parents, others = record.kernel.engine.waits_for(record)
    waited = [parent for parent in parents if parent.status not in FINAL_STATES]
    history.waits = {parent.id for parent in waited}
    missing = sum(not future.done() for future in others)
    if status is JOINING:
        history.joining, history.joined_others = record.launched, missing
        history.joined = tuple(parent.id for parent in parents)
    else:
        history.depends, history.others = tuple(parent.id for parent in parents), missing
    return history, waited
