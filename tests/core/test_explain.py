"""Explanations from records: every reason by itself, and what holds whatever the records are."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlib.dataflow.states import States
from flowlib.events.schema import Code
from flowlib.explain import Explanation, Interval, Reason
from flowlib.explain import capacity as capacity_module
from flowlib.explain.capacity import Capacity
from flowlib.explain.overview import Overview
from flowlib.explain.place import Place, refined
from flowlib.explain.reasons import WORDS
from flowlib.explain.recount import Recount
from flowlib.explain.sentences import sentence

Record = tuple[Any, ...]

APP: Record = (Code.APP, 0.0, 0, "simulate", "python", "m", "f.py", 3)
HTEX: Record = (Code.EXECUTOR, 0.0, 0, "htex", "HighThroughputExecutor", "")
UP: Record = (Code.INTERCHANGE, 0.0, 0, "started", 1, "", "")
THREADS: Record = (Code.EXECUTOR, 0.0, 1, "threads", "ThreadPoolExecutor", "")


def submitted(when: float, task: int, *depends: int, others: int = 0) -> Record:
    """A task."""
    return (Code.TASK_SUBMITTED, when, task, 0, depends, *([others] if others else []))


def launched(when: float, task: int, attempt: int = 0, executor: int = 0) -> Record:
    """A try begins its way."""
    return (Code.TASK_LAUNCHED, when, task, attempt, executor)


def tried(when: float, task: int, started: float, ended: float, **more: Any) -> Record:
    """A try is over; OK unless told otherwise."""
    given = {"attempt": 0, "status": 0, "manager": 0, "kind": "", "text": "", **more}
    return (
        *(Code.TRY_ENDED, when, task, given["attempt"], given["status"], started, ended),
        *(given["manager"], 0, given["kind"], given["text"]),
    )


def done(when: float, task: int, state: States = States.exec_done) -> Record:
    """A task is over."""
    return (Code.TASK_DONE, when, task, int(state))


def manager(when: float, change: str, number: int = 0, slots: int = 1, reason: str = "", host: str = "") -> Record:
    """A manager of executor 0 changes."""
    return (Code.MANAGER, when, 0, number, f"m{number}", change, "0", host or f"node{number}", slots, reason, {})


def block(when: float, change: str, reason: str = "", name: str = "0") -> Record:
    """A block of executor 0 changes."""
    return (Code.BLOCK, when, 0, name, change, f"job{name}", reason)


def explained(task: int, now: float, *records: Record) -> Explanation:
    """The explanation of one task of a run with these records, in the order of their times."""
    recount = Recount([task])
    recount.take([APP, HTEX, UP, THREADS, *records])
    history = recount.tasks[task]
    now = history.done or now
    intervals = tuple(recount.intervals(history, now))
    return Explanation(task, history.app, recount.state(history), now, len(history.tries), intervals)


def life(told: Explanation) -> list[tuple[str, float, float | None]]:
    """Reasons with their times."""
    return [(str(i.reason), i.since, i.until) for i in told.intervals]


# ------------------------------------------------------------------------------------------------------- each reason


def test_inputs_that_are_not_done() -> None:
    """A task waits for the tasks it needs; the one that holds up all the others is named with what it does."""
    told = explained(
        3,
        100.0,
        *(manager(0.5, "registered", slots=2), submitted(1.0, 0), launched(1.0, 0), submitted(1.0, 1, 0)),
        *(submitted(1.0, 2), launched(1.0, 2), submitted(2.0, 3, 1, 2, 1)),
        (Code.TASK_RUNNING, 1.5, 0, 0, 0),
        tried(4.0, 2, 1.1, 3.9),
        done(4.0, 2),
    )
    assert life(told) == [("dependency", 2.0, None)]
    detail = told.intervals[0].detail
    assert (detail["inputs"], detail["done"], detail["waiting_for"], detail["root_count"]) == (2, 1, [1], 1)
    assert detail["roots"] == [
        {
            "task": 0,
            "app": "simulate",
            "reason": "running",
            "since": 1.5,
            "host": "node0",
            "manager": "m0",
            "attempt": 0,
        }
    ]
    assert str(told) == (
        "task 3 (simulate) has been waiting for 1 min 38 s: 1 of 2 inputs are done; "
        "task 0 (simulate) has been running on node0 for 1 min 38 s"
    )


def test_inputs_that_were_waited_for() -> None:
    """The wait for inputs ends with the last of them; then comes what is left until the launch."""
    told = explained(
        1,
        9.0,
        *(manager(0.5, "registered"), submitted(1.0, 0), launched(1.0, 0), submitted(2.0, 1, 0)),
        *(done(5.0, 0), launched(5.25, 1), tried(8.0, 1, 6.0, 7.0), done(8.5, 1)),
    )
    assert life(told) == [
        *(("dependency", 2.0, 5.0), ("preparing", 5.0, 5.25), ("dispatch", 5.25, 6.0)),
        *(("running", 6.0, 7.0), ("return", 7.0, 8.5)),
    ]
    assert told.reason is Reason.DONE
    assert told.intervals[3].detail["host"] == "node0"
    assert told.seconds[Reason.DEPENDENCY] == 3.0
    assert str(told).startswith("task 1 (simulate) ended with a value after 6.5 s: 3.0 s for inputs, 1.5 s on its way")


def test_inputs_that_failed() -> None:
    """A task that was not run for its inputs' sake spent its life waiting for them."""
    told = explained(
        1, 9.0, submitted(1.0, 0), submitted(2.0, 1, 0), done(5.0, 0, States.failed), done(5.5, 1, States.dep_fail)
    )
    assert life(told) == [("dependency", 2.0, 5.5)]
    assert "was not run" in str(told)


def test_inputs_that_were_done_before() -> None:
    """Who needs only what is there already waits for nothing."""
    told = explained(1, 9.0, submitted(1.0, 0), done(2.0, 0), submitted(3.0, 1, 0), launched(3.5, 1))
    assert life(told)[0] == ("preparing", 3.0, 3.5)


def test_futures_from_elsewhere() -> None:
    """What is no task of the run is told apart, after the tasks of the run."""
    told = explained(1, 9.0, submitted(1.0, 0), submitted(1.0, 1, 0, others=2), done(3.0, 0))
    assert life(told) == [("dependency", 1.0, 3.0), ("external", 3.0, None)]
    assert "2 future(s) from outside the run" in str(told)


def test_join() -> None:
    """A join app's task waits for those that its body returned."""
    start = [
        *(submitted(1.0, 0), launched(1.0, 0, executor=1), submitted(1.5, 1), launched(1.5, 1)),
        *(tried(2.0, 0, 1.25, 1.75, manager=-1), (Code.TASK_JOINING, 2.0, 0, (1,))),
    ]
    going = explained(0, 5.0, *start)
    assert life(going)[-1] == ("join", 2.0, None)
    assert "0 of 1 tasks that it returned are done; task 1 (simulate)" in str(going)
    assert going.state is States.joining
    over = explained(0, 9.0, *start, done(6.0, 1), done(6.5, 0))
    assert life(over)[-2:] == [("join", 2.0, 6.0), ("return", 6.0, 6.5)]


def test_join_of_futures_from_elsewhere() -> None:
    """A join that waits for no task of the run says so."""
    told = explained(
        *(0, 9.0, submitted(1.0, 0), launched(1.0, 0, executor=1), tried(2.0, 0, 1.0, 2.0, manager=-1)),
        (Code.TASK_JOINING, 2.0, 0, (), 1),
    )
    assert life(told)[-1] == ("external", 2.0, None)


def test_busy_workers() -> None:
    """Without more workers than attempts that are out, a task waits for the others."""
    told = explained(
        1,
        9.0,
        *(manager(0.5, "registered"), submitted(1.0, 0), launched(1.0, 0), submitted(1.0, 1), launched(1.0, 1)),
        *(tried(4.0, 0, 1.0, 4.0), done(4.0, 0), tried(6.0, 1, 4.5, 6.0), done(6.0, 1)),
    )
    assert life(told) == [("capacity", 1.0, 4.0), ("dispatch", 4.0, 4.5), ("running", 4.5, 6.0)]
    assert told.intervals[0].detail == {"executor": "htex", "workers": 1, "managers": 1}


def test_busy_with_the_task_itself() -> None:
    """Of what has just begun there is no record: who came first is taken to be what workers are busy with."""
    start = [
        *(manager(0.5, "registered", slots=2), *(submitted(1.0, n) for n in range(4))),
        *(launched(1.0, n) for n in range(4)),
    ]
    assert [str(explained(n, 1.5, *start).reason) for n in range(4)] == ["dispatch", "dispatch", "capacity", "capacity"]
    later = [*start, tried(3.0, 0, 1.0, 3.0), done(3.0, 0)]
    assert life(explained(2, 4.0, *later)) == [("capacity", 1.0, 3.0), ("dispatch", 3.0, None)]
    assert life(explained(3, 4.0, *later)) == [("capacity", 1.0, None)]


def test_more_workers_end_the_wait() -> None:
    """A manager that comes makes room."""
    told = explained(
        1,
        9.0,
        *(manager(0.5, "registered"), block(0.75, "pending", "Priority", "1"), submitted(1.0, 0), launched(1.0, 0)),
        *(submitted(1.0, 1), launched(1.0, 1), manager(5.0, "registered", 1)),
    )
    assert life(told) == [("capacity", 1.0, 5.0), ("dispatch", 5.0, None)]
    assert told.intervals[0].detail["blocks_queued"] == 1
    words = sentence(Reason.CAPACITY, told.intervals[0].detail, 9.0)
    assert words == "the worker of 'htex' is busy; 1 more block is queued: Priority"


def test_life_of_a_block() -> None:
    """Each step of a block on its way is a reason of its own, with the scheduler's words."""
    told = explained(
        0,
        60.0,
        *(submitted(1.0, 0), launched(1.0, 0), block(2.0, "submitting"), block(3.0, "submitted")),
        *(block(4.0, "pending", "Priority"), block(9.0, "pending", "Resources"), block(20.0, "running")),
        *(block(30.0, "failed", "exit code 1"), block(31.0, "submitting", name="1"), manager(40.0, "registered")),
    )
    reasons = [(str(i.reason), i.since) for i in told.intervals]
    assert reasons == [
        *(("no_block", 1.0), ("block_queued", 2.0), ("block_queued", 4.0)),
        *(("block_queued", 9.0), ("block_starting", 20.0), ("block_failed", 30.0), ("block_queued", 31.0)),
        ("dispatch", 40.0),
    ]
    assert told.intervals[3].detail == {"executor": "htex", "blocks": 1, "job": "job0", "why": "Resources"}
    text = sentence(Reason.BLOCK_QUEUED, told.intervals[3].detail, 60.0)
    assert text == "a block of 'htex' is queued as job job0: Resources"
    assert told.intervals[6].detail["failed"] == 1


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ("quarantined", Reason.QUARANTINE, "node0 gets no more tasks: bad"),
        ("draining", Reason.DRAINING, "the managers that there are finish what they have and leave: bad"),
        ("lost", Reason.MANAGER_LOST, "its block's managers are lost: bad"),
    ],
)
def test_managers_that_take_nothing(change: str, reason: Reason, words: str) -> None:
    """Managers that are there and take no tasks are the reason, with theirs."""
    told = explained(
        0,
        9.0,
        *(block(0.25, "registered"), manager(0.5, "registered"), submitted(1.0, 0), manager(2.0, change, reason="bad")),
        launched(3.0, 0),
    )
    assert told.reason is reason
    assert sentence(reason, told.intervals[-1].detail, 9.0) == words


def test_release_ends_quarantine() -> None:
    """A host that gets tasks again has its workers again."""
    told = explained(
        0,
        9.0,
        *(manager(0.5, "registered"), manager(0.75, "quarantined", reason="bad"), submitted(1.0, 0), launched(1.0, 0)),
        manager(4.0, "released"),
    )
    assert life(told) == [
        *(("quarantine", 1.0, 4.0), ("dispatch", 4.0, None)),
    ]


def test_threads() -> None:
    """Threads are waited for like workers; of what is under way only the run itself can tell."""
    over = explained(
        0, 9.0, submitted(1.0, 0), launched(1.0, 0, executor=1), tried(5.0, 0, 3.0, 5.0, manager=-1), done(5.0, 0)
    )
    assert life(over) == [("capacity", 1.0, 3.0), ("running", 3.0, 5.0)]
    going = explained(0, 9.0, submitted(1.0, 0), launched(1.0, 0, executor=1))
    assert life(going) == [("executor", 1.0, None)]
    assert "no record tells whether it has begun" in str(going)


def test_foreign_executor() -> None:
    """An executor that writes no records has the task, and that is all."""
    told = explained(0, 9.0, submitted(1.0, 0), launched(1.0, 0, executor=5), done(8.0, 0))
    assert life(told) == [("executor", 1.0, 8.0)]


def test_retry() -> None:
    """Between a failed try and the next is a reason of its own, which tells the error."""
    told = explained(
        0,
        20.0,
        *(manager(0.5, "registered"), submitted(1.0, 0), launched(1.0, 0)),
        tried(3.0, 0, 1.0, 3.0, status=1, kind="builtins.ValueError", text="bad"),
        *(launched(7.0, 0, 1), tried(9.0, 0, 7.0, 9.0, attempt=1), done(9.0, 0)),
    )
    assert life(told) == [("running", 1.0, 3.0), ("backoff", 3.0, 7.0), ("running", 7.0, 9.0)]
    assert told.intervals[1].detail == {"attempt": 0, "outcome": "raised", "error": "ValueError: bad"}
    assert told.intervals[2].detail["attempt"] == 1
    assert told.attempts == 2


def test_between_tries_now() -> None:
    """A task whose try failed and that has no next one yet is between tries."""
    told = explained(
        *(0, 20.0, manager(0.5, "registered"), submitted(1.0, 0), launched(1.0, 0)),
        tried(3.0, 0, 1.0, 3.0, status=1, kind="builtins.ValueError", text="bad"),
    )
    assert life(told)[-1] == ("backoff", 3.0, None)
    assert told.state is States.fail_retryable
    assert str(told).endswith("try 1 failed with ValueError: bad")


def test_lost_machine() -> None:
    """What ran on a machine that was lost is lost time; what waited there is not."""
    told = explained(
        0,
        20.0,
        *(manager(0.5, "registered"), submitted(1.0, 0), launched(1.0, 0), (Code.TASK_RUNNING, 2.0, 0, 0, 0)),
        tried(6.0, 0, 0.0, 0.0, status=3, kind="flowlib.errors.ManagerLost", text="gone"),
        *(manager(6.0, "lost"), launched(6.0, 0, 1)),
    )
    assert life(told)[:2] == [("dispatch", 1.0, 2.0), ("lost", 2.0, 6.0)]
    assert sentence(Reason.LOST, told.intervals[1].detail, 20.0) == "it was lost with node0: ManagerLost: gone"


def test_running_now() -> None:
    """A record tells that a longer try has begun, and where; told twice, the first time counts."""
    told = explained(
        *(0, 20.0, manager(0.5, "registered"), submitted(1.0, 0), launched(1.0, 0), (Code.TASK_RUNNING, 2.0, 0, 0, 0)),
        (Code.TASK_RUNNING, 9.0, 0, 0, 0),
    )
    assert life(told) == [("dispatch", 1.0, 2.0), ("running", 2.0, None)]
    assert str(told) == "task 0 (simulate) has been running for 18 s: it runs on node0"


def test_clocks_that_differ() -> None:
    """A worker's clock that is ahead or behind moves a begin or end, and never makes a hole."""
    for started, ended in ((-50.0, 1e6), (1e6, 2e6), (5.0, 2.0)):
        told = explained(
            *(0, 20.0, manager(0.5, "registered"), submitted(1.0, 0), launched(1.0, 0)),
            *(tried(6.0, 0, started, ended), done(6.0, 0)),
        )
        assert told.intervals[0].since == 1.0
        assert told.intervals[-1].until == 6.0
        tile(told.intervals, 1.0, 6.0, 20.0)


def asking(when: float, task: int, **asks: Any) -> Record:
    """A task that asks for resources."""
    return (Code.TASK_SUBMITTED, when, task, 0, (), 0, asks)


def test_no_room_on_a_node() -> None:
    """A task that asks for more than a worker waits for room, whether single workers are free or not."""
    node = (Code.MANAGER, 0.5, 0, 0, "m0", "registered", "0", "node0", 4, "", {"cores": 8})
    start = [node, submitted(1.0, 0), launched(1.0, 0), asking(1.0, 1, cores=8, licence=1), launched(1.0, 1)]
    told = explained(1, 9.0, *start)
    assert life(told) == [("no_fit", 1.0, None)]
    assert str(told).endswith("no node of 'htex' has room for what it asks for (cores=8, licence=1)")
    over = explained(1, 9.0, *start, tried(4.0, 0, 1.0, 4.0), done(4.0, 0), tried(6.0, 1, 4.1, 6.0), done(6.0, 1))
    assert life(over) == [("no_fit", 1.0, 4.0), ("dispatch", 4.0, 4.1), ("running", 4.1, 6.0)]


def test_large_tasks_keep_workers_busy() -> None:
    """Who asks for the share of several workers counts for as many."""
    node = (Code.MANAGER, 0.5, 0, 0, "m0", "registered", "0", "node0", 4, "", {"cores": 8})
    start = [node, asking(1.0, 0, cores=8), launched(1.0, 0), submitted(1.0, 1), launched(1.0, 1)]
    assert life(explained(1, 9.0, *start)) == [("capacity", 1.0, None)]
    over = explained(1, 9.0, *start, tried(4.0, 0, 1.0, 4.0), done(4.0, 0))
    assert life(over) == [("capacity", 1.0, 4.0), ("dispatch", 4.0, None)]


def test_chain_names_its_root() -> None:
    """However long a chain is, what is named is its beginning."""
    chain = [submitted(1.0 + n, n, *([n - 1] if n else [])) for n in range(5000)]
    told = explained(4999, 9000.0, launched(1.0, 0), *chain)
    assert told.intervals[-1].detail["roots"][0]["task"] == 0
    assert told.intervals[-1].detail["root_count"] == 1


def test_several_roots_are_counted() -> None:
    """Of many roots few are named, the first that was launched before the others."""
    roots = [record for n in range(8) for record in (submitted(1.0, n), launched(9.0 - n, n))]
    told = explained(9, 20.0, *roots, submitted(10.0, 9, *range(8)))
    detail = told.intervals[-1].detail
    assert detail["root_count"] == 8
    assert [root["task"] for root in detail["roots"]] == [7, 6, 5, 4, 3]
    assert str(told).endswith(", and 7 more")


def test_dictionary_is_json() -> None:
    """The machine-readable form has the codes, and survives a trip through JSON."""
    told = explained(1, 9.0, submitted(1.0, 0), submitted(2.0, 1, 0)).to_dict()
    assert json.loads(json.dumps(told)) == told
    assert (told["version"], told["reason"], told["task"], told["state"]) == (1, "dependency", 1, "pending")
    assert told["intervals"][0] | {"detail": None} == {
        "reason": "dependency",
        "since": 2.0,
        "until": None,
        "seconds": 7.0,
        "detail": None,
    }


def test_every_reason_has_words() -> None:
    """No reason is without a name for its time, and codes are lower-case words."""
    assert set(WORDS) == set(Reason) - {Reason.DONE}
    assert all(reason.value.replace("_", "").isalpha() and reason.value.islower() for reason in Reason)


# -------------------------------------------------------------------------------------------------------- the executor


def test_executor_can_tell_more() -> None:
    """What the executor says stands in the place of the last interval, or follows it."""
    dispatch = Interval(Reason.DISPATCH, 1.0, None, {"a": 1})
    assert refined([dispatch], Place(Reason.DISPATCH, {"b": 2}), 9.0) == [dispatch._replace(detail={"a": 1, "b": 2})]
    assert refined([dispatch], Place(Reason.HELD, {}), 9.0) == [Interval(Reason.HELD, 1.0, None, {})]
    for outside in (0.5, 1.0, 9.0, 50.0):
        assert refined([dispatch], Place(Reason.RUNNING, {}, outside), 9.0) == [Interval(Reason.RUNNING, 1.0, None, {})]


def test_capacity_forgets_what_nobody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of an executor stays small, and right for attempts that are out."""
    monkeypatch.setattr(capacity_module, "KEPT", 50)
    capacity = Capacity("htex")
    capacity.manager(0.0, 0, "registered", "node0", 1, "")
    capacity.launched(1.0, 10**6)
    for n in range(1000):
        capacity.launched(2.0 + n, n)
        capacity.ended(2.5 + n, n)
        if n == 500:
            capacity.ended(2.75 + n, 10**6)
            capacity.launched(2.75 + n, 10**6)
    assert len(capacity._times) < 3000
    kept = list(capacity.slices(502.75, 1002.0))
    assert kept[0][1] == 502.75
    assert [reason for reason, *_ in kept[:3]] == [Reason.DISPATCH, Reason.CAPACITY, Reason.DISPATCH]


# ------------------------------------------------------------------------------------------------------------ the run


def test_overview() -> None:
    """A run's reasons: how many wait for each now, how many ever did, the time of all."""
    records = [
        *(APP, HTEX, UP, manager(0.5, "registered"), submitted(1.0, 0), launched(1.0, 0), submitted(1.0, 1)),
        *(launched(1.0, 1), submitted(1.0, 2, 1), tried(4.0, 0, 1.0, 4.0), done(4.0, 0)),
    ]
    overview = Overview(records, lambda recount: 10.0)
    rows = {str(reason): (row.now, row.tasks, row.seconds) for reason, row in overview.rows.items()}
    assert rows == {"running": (0, 1, 3.0), "capacity": (0, 1, 3.0), "dispatch": (1, 1, 6.0), "dependency": (1, 1, 9.0)}
    lines = overview.lines()
    assert lines[0] == "3 tasks, 1 ended, 2 not"
    assert lines[2].endswith(
        "task 2 (simulate): 0 of 1 inputs are done; task 1 (simulate) is on its way to a worker, or has just begun"
    )
    told = overview.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["reasons"][0]["reason"] == "dependency"
    assert told["reasons"][0]["example"]["task"] == 2


def test_overview_is_the_sum_of_its_tasks() -> None:
    """The overview of a random run has the time that the explanations of its tasks have together."""
    for seed in range(20):
        records = random_run(random.Random(seed), 200)
        recount = Recount(range(10_000))
        recount.take(records)
        totals: dict[Reason, float] = {}
        for history in recount.tasks.values():
            now = history.done or recount.now
            for interval in history.intervals(recount.capacity, now):
                totals[interval.reason] = totals.get(interval.reason, 0.0) + interval.seconds(now)
        overview = Overview(records)
        assert {r: row.seconds for r, row in overview.rows.items() if row.seconds} == pytest.approx(
            {r: seconds for r, seconds in totals.items() if seconds}
        )


# ------------------------------------------------------------------------------------------------------- random walks


def tile(intervals: Sequence[Interval], start: float, end: float | None, now: float) -> None:
    """Intervals fill a life: no gap, no overlap, none without length."""
    at = start
    for index, interval in enumerate(intervals):
        assert interval.since == at
        last = index + 1 == len(intervals)
        if last and end is None:
            assert interval.until is None
            assert now >= interval.since
        else:
            assert interval.until is not None
            assert interval.until > interval.since
            at = interval.until
    if end is not None:
        assert at == end


class Walk:
    """Writes records as a run might, of clocks that differ and threads that overtake each other."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.records: list[Record] = [APP, HTEX, UP, THREADS]
        self.when = 1.0
        self.tasks = 0
        self.out: dict[int, int] = {}
        self.pending: list[int] = []
        self.joining: list[int] = []
        self.over: list[int] = []

    def later(self) -> float:
        self.when += self.rng.choice([0.0, 1e-4, 0.5, 30.0])
        return max(0.5, self.when - self.rng.choice([0.0, 0.0, 0.01]))

    def submit(self) -> None:
        depends = self.rng.sample(range(self.tasks), min(self.tasks, self.rng.choice([0, 0, 1, 3])))
        asks = self.rng.choice([None, None, {"cores": 2}, {"licence": 1}])
        others = self.rng.choice([0, 0, 0, 1])
        record = (Code.TASK_SUBMITTED, self.later(), self.tasks, 0, depends, others)
        self.records.append((*record, asks) if asks else record)
        self.pending.append(self.tasks)
        self.tasks += 1

    def launch(self) -> None:
        if self.pending:
            task = self.pending.pop(self.rng.randrange(len(self.pending)))
            self.out[task] = 0
            self.records.append(launched(self.later(), task, 0, self.rng.choice([0, 0, 1, 7])))

    def begin(self) -> None:
        if self.out:
            task = self.rng.choice(list(self.out))
            when = self.later() - self.rng.random()
            self.records.append((Code.TASK_RUNNING, when, task, self.out[task], self.rng.choice([0, 1, 9])))

    def end_try(self) -> None:
        if not self.out:
            return
        rng, task = self.rng, self.rng.choice(list(self.out))
        attempt = self.out.pop(task)
        status = rng.choice([0, 0, 0, 1, 2, 3, 4, 5])
        began = rng.choice([0.0, self.when + rng.uniform(-100, 10)])
        more = {"attempt": attempt, "status": status, "kind": "builtins.ValueError" if status else ""}
        self.records.append(tried(self.later(), task, began, began + rng.random(), **more))
        what = rng.random()
        if status and what < 0.5:
            self.out[task] = attempt + 1
            self.records.append(launched(self.later(), task, attempt + 1, rng.choice([0, 1])))
        elif what < 0.7:
            waits = rng.sample(range(self.tasks), min(self.tasks, 2))
            self.records.append((Code.TASK_JOINING, self.later(), task, waits, *([1] if rng.random() < 0.3 else [])))
            self.joining.append(task)
        else:
            self.over.append(task)

    def end(self) -> None:
        rng = self.rng
        for group in (self.over, self.joining, self.pending):
            if group and rng.random() < 0.5:
                task = group.pop(rng.randrange(len(group)))
                state = rng.choice([States.exec_done, States.failed, States.dep_fail])
                self.records.append(done(self.later(), task, state))
        if self.out and rng.random() < 0.1:
            task = rng.choice(list(self.out))
            del self.out[task]
            self.records.append(done(self.later(), task, States.cancelled))

    def machines(self) -> None:
        rng = self.rng
        if rng.random() < 0.5:
            changes = ["registered", "draining", "drained", "quarantined", "released", "lost", "rejected"]
            told = manager(self.later(), rng.choice(changes), rng.randrange(3), rng.randrange(3), "because")
            told = (*told[:-1], rng.choice([{}, {"cores": 4}]))
        else:
            changes = ["submitting", "submitted", "pending", "running", "registered", "draining", "ended", "failed"]
            told = block(self.later(), rng.choice(changes), "why", str(rng.randrange(3)))
        self.records.append(told)


def random_run(rng: random.Random, steps: int) -> list[Record]:
    """The records of a random run."""
    walk = Walk(rng)
    moves: list[Callable[[], None]] = [
        *(walk.submit, walk.submit, walk.launch, walk.launch, walk.begin, walk.end_try, walk.end_try, walk.end),
        walk.machines,
    ]
    for _ in range(steps):
        rng.choice(moves)()
    return walk.records


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 150))
def test_intervals_tile_every_life(seed: int, steps: int) -> None:
    """Whatever happens, in whatever order it is told: lives are filled, and every answer can be said and sent."""
    records = random_run(random.Random(seed), steps)
    recount = Recount(range(10_000))
    for record in records:
        recount.take([record])
    now = recount.now + 1
    for task, history in recount.tasks.items():
        end = history.done or None
        intervals = recount.intervals(history, history.done or now)
        if not (end is not None and end == history.submitted):
            tile(intervals, history.submitted, end, now)
        told = Explanation(task, history.app, recount.state(history), end or now, 1, tuple(intervals))
        assert str(told)
        assert told.lines()
        assert sum(told.seconds.values()) == pytest.approx(told.total)
        json.dumps(told.to_dict())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_memory_goes_with_open_tasks(seed: int, steps: int) -> None:
    """Finished tasks that nobody asked for are forgotten, and a task's life is the same as with all others kept."""
    records = random_run(random.Random(seed), steps)
    everything = Recount(range(10_000))
    everything.take(records)
    alone = Recount([0])
    alone.take(records)
    assert all(task == 0 or not history.done for task, history in alone.tasks.items())
    if 0 in alone.tasks:
        now = everything.now + 1
        there, here = everything.tasks[0], alone.tasks[0]
        assert alone.intervals(here, here.done or now) == everything.intervals(there, there.done or now)
