"""The decisions of a manager: single cases, and random walks beside a model of workers."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowlib.executors.high_throughput.manager_core import (
    AHEAD,
    BEGUN_AFTER,
    GRACE,
    MOST_AHEAD,
    SETTLE,
    STUCK,
    STUCK_BESIDE_IDLE,
    WALLTIME_GRACE,
    WEIGH,
    ManagerCore,
)
from flowlib.executors.high_throughput.manager_orders import (
    Answers,
    Cause,
    Collect,
    Kill,
    Look,
    Revoke,
    Terminate,
    Weigh,
)
from flowlib.executors.high_throughput.messages import Needs, Result, Status, Task

SHORT, LONG = 1, 2
OK, WITHDRAWN = int(Status.OK), int(Status.WITHDRAWN)


def _task(number: int, function: int = LONG, **needs: object) -> Task:
    return Task(number, 0, function, b"", Needs(**needs) if needs else None)  # type: ignore[arg-type]


def _ok(number: int, seconds: float = 1.0) -> Result:
    return Result(number, 0, OK, b"", started=100.0, ended=100.0 + seconds)


def _numbers(core: ManagerCore, now: float = 0.0) -> dict[int, list[int]]:
    return {batch.rank: [task.task for task in batch.tasks] for batch in core.assign(now)}


def _core(workers: int = 2) -> ManagerCore:
    core = ManagerCore()
    for rank in reversed(range(workers)):
        core.ready(rank, 0.0)
    return core


def _taught(workers: int = 2) -> ManagerCore:
    """A manager that knows that SHORT is short."""
    core = _core(workers)
    core.add([_task(1000, SHORT)])
    assert _numbers(core) == {0: [1000]}
    core.finish(0, [_ok(1000, 1e-6)], 0.0)
    return core


def test_one_task_each_first_in_first_out() -> None:
    """Tasks of unknown length go out one for each worker, in order."""
    core = _core()
    core.add([_task(i) for i in range(4)])
    assert _numbers(core) == {0: [0], 1: [1]}
    assert _numbers(core) == {}
    assert [r.task for r in core.finish(1, [_ok(1)], 0.0)] == [1]
    assert _numbers(core) == {1: [2]}
    assert core.waiting == 1


def test_higher_priority_first() -> None:
    """A higher priority runs first, equal ones in order of arrival."""
    core = _core(1)
    core.add([_task(0), _task(1, priority=1.0), _task(2, priority=-1.0), _task(3, priority=1.0)])
    order = []
    while batches := core.assign(0.0):
        (task,) = batches[0].tasks
        order.append(task.task)
        core.finish(0, [_ok(task.task)], 0.0)
    assert order == [1, 3, 0, 2]


def test_functions_are_sent_once_to_each_worker() -> None:
    """A batch names the functions that its worker lacks; a fresh worker lacks all, a forgotten one is sent again."""
    core = _core(1)

    def functions(number: int) -> list[int]:
        core.add([_task(number)])
        (batch,) = core.assign(0.0)
        core.finish(0, [_ok(number)], 0.0)
        return batch.functions

    assert functions(0) == [LONG]
    assert functions(1) == []
    core.forget_functions([LONG])
    assert functions(2) == [LONG]
    core.died(0, 3)
    core.ready(0, 0.0)
    assert functions(3) == [LONG]


def test_short_tasks_go_out_in_bundles() -> None:
    """Tasks of a short function are shared out equally, up to a limit; long ones are not bundled."""
    core = _taught()
    core.add([_task(i, SHORT) for i in range(10)])
    assert {rank: len(tasks) for rank, tasks in _numbers(core).items()} == {0: 5, 1: 5}
    core.add([_task(i, SHORT) for i in range(10, 1000)])
    _numbers(core)
    assert len(core.in_hand(0)) == len(core.in_hand(1)) == MOST_AHEAD
    core = _taught(1)
    core.add([_task(0), _task(1), _task(2, SHORT)])
    assert _numbers(core) == {0: [0]}


def test_bundles_hold_little_work() -> None:
    """A bundle's expected work stays below the limit."""
    core = _core(1)
    core.add([_task(0, SHORT)])
    _numbers(core)
    core.finish(0, [_ok(0, AHEAD / 10)], 0.0)
    core.add([_task(i, SHORT) for i in range(1, 100)])
    assert 5 <= len(_numbers(core)[0]) <= 10


def test_a_function_that_turns_slow_is_not_bundled_any_more() -> None:
    """One slow run is enough."""
    core = _taught(1)
    core.add([_task(0, SHORT)])
    _numbers(core)
    core.finish(0, [_ok(0, 1.0)], 0.0)
    core.add([_task(1, SHORT), _task(2, SHORT)])
    assert _numbers(core) == {0: [1]}


def _stuck(now: float = 0.0) -> ManagerCore:
    """One worker with tasks 0 to 3 in hand, the first of which is running."""
    core = _taught(1)
    core.add([_task(i, SHORT) for i in range(4)])
    assert _numbers(core, now) == {0: [0, 1, 2, 3]}
    core.take_orders()
    return core


def test_what_is_stuck_behind_a_long_task_is_taken_back() -> None:
    """After a while the tasks behind are revoked, looked at, and wait again in their order."""
    core = _stuck()
    core.tick(STUCK_BESIDE_IDLE)
    assert core.take_orders() == [Collect(0)]
    core.tick(STUCK)
    assert core.take_orders() == [Collect(0), Revoke(0, 3)]
    core.tick(STUCK + SETTLE / 2)
    assert core.take_orders() == []
    core.tick(STUCK + SETTLE)
    assert core.take_orders() == [Look(0)]
    core.looked(0, started=2, now=STUCK + SETTLE)
    assert core.in_hand(0) == [(0, 0)]
    assert core.waiting == 3
    core.ready(1, 1.0)
    assert _numbers(core, 1.0)[1][0] == 1
    core.check_invariants()


def test_an_idle_worker_gets_them_sooner() -> None:
    """While another worker has nothing to do, less patience is shown."""
    core = _stuck()
    core.ready(1, 0.0)
    core.tick(STUCK_BESIDE_IDLE)
    assert core.take_orders() == [Collect(0), Revoke(0, 3)]


def test_a_revoked_worker_gets_nothing_until_it_has_skipped() -> None:
    """Its further tasks would have revoked numbers; its skips are not answers of the tasks."""
    core = _stuck()
    core.tick(STUCK)
    core.looked(0, started=2, now=STUCK)
    core.take_orders()
    assert [r.task for r in core.finish(0, [_ok(0, 0.03)], 0.03)] == [0]
    assert _numbers(core) == {}
    skips = [Result(i, 0, WITHDRAWN) for i in (1, 2, 3)]
    assert core.finish(0, skips, 0.03) == []
    assert core.take_orders() == [Revoke(0, None)]
    assert _numbers(core) == {0: [1]}


def test_a_task_that_started_meanwhile_stays() -> None:
    """What the worker began before the look runs on, and is answered by its result."""
    core = _stuck()
    core.tick(STUCK)
    core.looked(0, started=4, now=STUCK)
    assert core.in_hand(0) == [(0, 0), (1, 0), (2, 0)]
    assert [r.task for r in core.finish(0, [_ok(0), _ok(1), _ok(2)], 1.0)] == [0, 1, 2]
    core.check_invariants()


def test_skips_before_the_look() -> None:
    """A worker may come by before it is looked at; then its skips bring the tasks back."""
    core = _stuck()
    core.tick(STUCK)
    core.finish(0, [_ok(0), *(Result(i, 0, WITHDRAWN) for i in (1, 2, 3))], STUCK)
    assert core.waiting == 3
    core.looked(0, started=5, now=STUCK)
    assert core.take_orders()[-1] == Revoke(0, None)
    assert _numbers(core)[0][0] == 1
    core.check_invariants()


def test_cancel_of_waiting_running_and_unknown_tasks() -> None:
    """What waits is withdrawn at once; what runs, or is not here, cannot be."""
    core = _core(1)
    core.add([_task(0), _task(1)])
    _numbers(core)
    core.cancel([(0, 0), (1, 0), (2, 0), (1, 1)], 0.0)
    assert core.take_answers() == Answers([(1, 0)], [(0, 0), (2, 0), (1, 1)])
    assert not core.has_answers()
    assert core.keys() == [(0, 0)]


def test_cancel_of_a_task_in_hand_waits_for_the_look() -> None:
    """It is withdrawn if the worker had not begun it; those behind it wait again."""
    core = _stuck()
    core.cancel([(2, 0)], 0.0)
    assert not core.has_answers()
    assert core.take_orders() == [Revoke(0, 4)]
    core.looked(0, started=2, now=SETTLE)
    assert core.take_answers() == Answers([(2, 0)], [])
    assert core.in_hand(0) == [(0, 0), (1, 0)]
    assert core.waiting == 1


def test_cancel_that_comes_too_late_is_told() -> None:
    """A cancelled task that the worker had begun is told to be running, and its result counts."""
    core = _stuck()
    core.cancel([(1, 0)], 0.0)
    core.looked(0, started=3, now=SETTLE)
    assert core.take_answers() == Answers([], [(1, 0)])
    assert [r.task for r in core.finish(0, [_ok(0), _ok(1)], 1.0)] == [0, 1]


def test_death_costs_the_running_task_only() -> None:
    """What the worker had begun is lost; what was behind it goes before all others, free of charge."""
    core = _stuck()
    core.add([_task(9, SHORT)])
    assert [r.task for r in core.finish(0, [_ok(0)], 0.0)] == [0]
    assert [task.task for task in core.died(0, started=3)] == [1]
    core.ready(0, 0.0)
    assert _numbers(core)[0][0] == 2
    assert (1, 0) not in core.keys()


def test_death_between_tasks_costs_nothing() -> None:
    """A worker that dies with all that it began answered takes nothing along."""
    core = _stuck()
    core.finish(0, [_ok(0)], 0.0)
    assert core.died(0, started=2) == []
    assert core.waiting == 3
    assert core.died(0, started=2) == []


def test_a_retiring_worker_gets_nothing() -> None:
    """Tasks behind its last one wait for others."""
    core = _stuck()
    core.finish(0, [_ok(0)], 0.0)
    core.retire(0)
    core.add([_task(9)])
    assert _numbers(core) == {}
    assert core.died(0, started=2) == []
    assert core.waiting == 4


def test_drain_gives_back_what_has_not_started() -> None:
    """Waiting tasks at once, those in hand after a look, later ones as they come; what runs is finished."""
    core = _stuck()
    core.add([_task(8), _task(9)])
    core.drain(0.0)
    assert sorted(core.take_answers().withdrawn) == [(8, 0), (9, 0)]
    core.looked(0, started=2, now=SETTLE)
    assert sorted(core.take_answers().withdrawn) == [(1, 0), (2, 0), (3, 0)]
    core.add([_task(10)])
    assert core.take_answers().withdrawn == [(10, 0)]
    assert len(core) == 1
    core.finish(0, [_ok(0)], 0.0)
    assert len(core) == 0


def test_a_task_that_outlives_its_walltime_is_killed() -> None:
    """Some grace after the walltime, once; a finished one is left alone."""
    core = _core(2)
    core.add([_task(0, walltime=3.0), _task(1, walltime=1.0)])
    _numbers(core, 10.0)
    assert core.wake_at() == 10.0 + 1.0 + WALLTIME_GRACE
    core.finish(1, [_ok(1)], 10.5)
    core.tick(12.9)
    assert core.take_orders() == []
    core.tick(13.0 + WALLTIME_GRACE)
    assert core.take_orders() == [Revoke(0, 2)]
    core.looked(0, started=1, now=13.0 + WALLTIME_GRACE + SETTLE)
    assert core.take_orders() == [Terminate(0, Cause.WALLTIME, GRACE, 3.0)]
    core.tick(100.0)
    assert core.take_orders() == []
    assert [task.task for task in core.died(0, started=1)] == [0]
    core.check_invariants()


def test_the_walltime_of_a_task_behind_others_begins_with_it() -> None:
    """Only the first task in hand runs."""
    core = _taught(1)
    core.add([_task(0, SHORT), Task(1, 0, SHORT, b"", Needs(walltime=1.0))])
    assert _numbers(core) == {0: [0, 1]}
    core.finish(0, [_ok(0, 1e-6)], 5.0)
    assert core.wake_at() is not None
    core.take_orders()
    core.tick(5.0 + WALLTIME_GRACE + 0.9)
    assert not any(isinstance(order, Revoke) for order in core.take_orders())
    core.tick(5.0 + WALLTIME_GRACE + 1.0)
    assert any(isinstance(order, Revoke) for order in core.take_orders())
    core.looked(0, started=3, now=5.0 + WALLTIME_GRACE + 1.0 + SETTLE)
    assert core.take_orders() == [Terminate(0, Cause.WALLTIME, GRACE, 1.0)]


def test_a_cancelled_running_task_is_ended_and_withdrawn_when_it_is_dead() -> None:
    """What is behind it is taken back before the signal; its worker begins nothing any more; no result counts."""
    core = _stuck()
    core.cancel([(0, 0)], 0.0, 2.0)
    assert core.take_orders() == [Revoke(0, 2)]
    core.looked(0, started=2, now=SETTLE)
    assert core.take_orders() == [Terminate(0, Cause.CANCEL, 2.0)]
    assert core.waiting == 3 and not core.has_answers()
    core.cancel([(0, 0)], 0.0)
    assert not core.has_answers(), "a plain cancel does not take it back"
    assert core.finish(0, [_ok(0)], 1.0) == []
    assert core.take_orders() == [Kill(0)]
    assert _numbers(core) == {}
    core.check_invariants()
    assert core.died(0, started=2) == []
    assert core.take_answers() == Answers([(0, 0)], [])
    core.check_invariants()


def test_the_signal_hits_no_other_task() -> None:
    """A task that ended before the look is not ended, nor is the one behind it; one not begun is only withdrawn."""
    core = _stuck()
    core.cancel([(0, 0)], 0.0, 2.0)
    core.looked(0, started=3, now=SETTLE)
    assert core.take_orders() == [Revoke(0, 2)]
    assert core.in_hand(0) == [(0, 0), (1, 0)]
    assert [r.task for r in core.finish(0, [_ok(0)], 1.0)] == [0]
    core = _stuck()
    core.cancel([(2, 0)], 0.0, 2.0)
    core.looked(0, started=3, now=SETTLE)
    assert core.take_orders() == [Revoke(0, 4)]
    assert core.take_answers() == Answers([(2, 0)], [])
    core.check_invariants()


def test_a_task_that_was_skipped_in_that_moment() -> None:
    """Its worker noted it as begun and then saw that it is revoked: it is told to end, so it is replaced at once."""
    core = _stuck()
    core.cancel([(0, 0)], 0.0, 2.0)
    core.looked(0, started=2, now=SETTLE)
    assert core.take_orders() == [Revoke(0, 2), Terminate(0, Cause.CANCEL, 2.0)]
    assert core.finish(0, [Result(0, 0, Status.WITHDRAWN)], 1.0) == []
    assert core.take_orders() == [Kill(0)]
    assert core.take_answers() == Answers([(0, 0)], [])
    assert core.died(0, started=2) == []
    core.check_invariants()


def test_a_running_task_is_ended_while_the_worker_has_still_to_skip_others() -> None:
    """Tasks were taken back from behind it before: nobody waits for the worker to come by."""
    core = _stuck()
    core.tick(STUCK)
    core.looked(0, started=2, now=STUCK + SETTLE)
    core.take_orders()
    core.cancel([(0, 0)], 1.0, 2.0)
    assert core.take_orders() == [Revoke(0, 2)]
    core.looked(0, started=2, now=1.0 + SETTLE)
    assert core.take_orders() == [Terminate(0, Cause.CANCEL, 2.0)]
    core.check_invariants()


def test_memory_is_looked_at_only_while_somebody_has_a_limit() -> None:
    """A task that asked for memory is weighed, and ended at once when it has more; others never are."""
    core = _core(2)
    core.add([_task(0), Task(1, 0, LONG, b"", Needs(resources={"memory": 1000}))])
    numbers = _numbers(core, 0.0)
    rank = next(rank for rank, tasks in numbers.items() if tasks == [1])
    assert core.wake_at() == WEIGH
    core.tick(WEIGH)
    assert core.take_orders() == [Weigh(rank, 1000)]
    core.weighed(rank, 1000, 1000, WEIGH)
    assert core.take_orders() == []
    core.weighed(rank, 1001, 1000, 2 * WEIGH)
    assert core.take_orders() == [Revoke(rank, 2)]
    core.looked(rank, started=1, now=1.0)
    assert core.take_orders() == [Terminate(rank, Cause.MEMORY, 0.0, 1000, 1001)]
    assert [task.task for task in core.died(rank, started=1)] == [1]
    core.tick(2.0)
    core.tick(3.0)
    assert core.wake_at() is None


def test_a_share_of_memory_counts_for_all() -> None:
    """With a limit for every worker, each that has work is weighed; what a task asks for itself goes first."""
    core = ManagerCore(share=500)
    core.ready(0, 0.0)
    core.ready(1, 0.0)
    core.add([_task(0), Task(1, 0, LONG, b"", Needs(resources={"memory": 1000}))])
    _numbers(core, 0.0)
    core.tick(WEIGH)
    orders = core.take_orders()
    assert sorted(order.limit for order in orders if isinstance(order, Weigh)) == [500, 1000]


@pytest.mark.parametrize(("status", "passes"), [(Status.OK, True), (Status.RAISED, False)])
def test_what_a_task_over_its_walltime_says_in_its_grace(status: Status, passes: bool) -> None:
    """A value counts; an exception that the signal caused does not, for the walltime is the cause."""
    core = _core(1)
    core.add([_task(0, walltime=1.0)])
    _numbers(core, 0.0)
    core.tick(1.0 + WALLTIME_GRACE)
    core.looked(0, started=1, now=1.0 + WALLTIME_GRACE + SETTLE)
    assert bool(core.finish(0, [Result(0, 0, status)], 3.0)) is passes
    assert Kill(0) in core.take_orders()
    assert bool(core.died(0, started=1)) is not passes
    core.check_invariants()


def test_what_runs_for_a_while_is_told_once() -> None:
    """The interchange hears of long tasks that they have begun, of short ones and of waiting ones nothing."""
    core = _core()
    core.add([_task(i) for i in range(4)])
    assert core.tell_at is None
    core.assign(5.0)
    assert core.tell_at == 5.0 + BEGUN_AFTER
    started = {0: 1, 1: 0}
    later = 5.0 + 2 * BEGUN_AFTER
    assert core.begun(started.__getitem__, later) == [(0, 0)]
    assert core.tell_at == later + BEGUN_AFTER, "the other worker has not looked at its task yet"
    started[1] = 1
    assert core.begun(started.__getitem__, later + BEGUN_AFTER) == [(1, 0)]
    assert core.tell_at is None, "nothing is due while nothing changes"
    core.finish(0, [_ok(0)], later)
    core.assign(later)
    assert core.begun({0: 2, 1: 1}.__getitem__, later) == []
    core.tell_again(later)
    assert core.tell_at == later
    assert sorted(core.begun({0: 2, 1: 1}.__getitem__, later + BEGUN_AFTER)) == [(1, 0), (2, 0)]


def test_abandoned_tasks_are_told_apart() -> None:
    """A manager that ends knows what its workers had begun, also of several that one has in hand."""
    core = _taught(1)
    core.add([_task(i, SHORT) for i in range(4)])
    core.assign(0.0)
    core.add([_task(9)])
    assert core.abandon(lambda rank: 3) == ([(0, 0), (1, 0)], [(2, 0), (3, 0), (9, 0)])
    assert len(core) == 0


def test_doubles_and_strangers_are_dropped() -> None:
    """A task that is here already is not taken twice; a result of another worker's task is none."""
    core = _core(2)
    core.add([_task(0), _task(0)])
    assert len(core) == 1
    _numbers(core)
    assert core.finish(1, [_ok(0), _ok(5)], 0.0) == []
    assert core.finish(7, [_ok(0)], 0.0) == []
    assert [r.task for r in core.finish(0, [_ok(0), _ok(0)], 0.0)] == [0]


@pytest.mark.parametrize("workers", [1, 64])
def test_work_per_task_does_not_grow_with_the_queue(workers: int) -> None:
    """Handing out from a long queue looks at the head only, however long it is."""
    core = _taught(workers)
    core.add([_task(i, SHORT) for i in range(20_000)])
    done = 0
    while batches := core.assign(0.0):
        for batch in batches:
            done += len(core.finish(batch.rank, [_ok(task.task, 1e-6) for task in batch.tasks], 0.0))
    assert done == 20_000


# ------------------------------------------------------------------------------------------------------ random walks


class _ModelWorker:
    """A worker as ``worker.py`` is: reads its socket in order, skips what is revoked, says so."""

    def __init__(self) -> None:
        self.inbox: deque[tuple[int, Task]] = deque()
        self.received = 0
        self.started = 0
        self.revoked: int | None = None
        self.running: Task | None = None
        self.said: list[Result] = []

    def send(self, tasks: list[Task]) -> None:
        for task in tasks:
            self.received += 1
            self.inbox.append((self.received, task))

    def begin(self) -> Task | None:
        while self.running is None and self.inbox:
            number, task = self.inbox.popleft()
            self.started = number
            if self.revoked is not None and number >= self.revoked:
                self.said.append(Result(task.task, task.attempt, WITHDRAWN))
            else:
                self.running = task
        return self.running


def test_shares_are_lent_by_rank() -> None:
    """A task with several shares has those of certain idle workers, which get nothing else until it has ended."""
    core = _core(4)
    core.add([_task(0, slots=3), _task(1), _task(2)])
    given = _numbers(core)
    assert given == {0: [0], 1: [1]}, "only one worker is left, for the first of those behind it"
    assert sorted(core.shares((0, 0))) == [0, 2, 3] and core.shares((0, 0))[0] == 0
    assert core.shares((1, 0)) == [1]
    # One of those that are lent dies: its successor is lent as well.
    assert core.died(3, 0) == []
    core.ready(3, 0.0)
    assert _numbers(core) == {}
    core.finish(0, [_ok(0)], 0.0)
    assert [*_numbers(core).values()] == [[2]]
    core.check_invariants()


def test_wide_tasks_are_not_sent_ahead() -> None:
    """However short its function is, a task with several shares waits until they are idle."""
    core = _taught()
    core.add([_task(0, SHORT), _task(1, SHORT), _task(2, SHORT), _task(3, SHORT, slots=2), _task(4, SHORT)])
    given = _numbers(core)
    assert sorted(number for numbers in given.values() for number in numbers) == [0, 1, 2]
    core.check_invariants()


class Walk(RuleBasedStateMachine):
    """Random events; each task is answered exactly once and begun at most once before its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.core = ManagerCore()
        self.now = 0.0
        self.next_task = 0
        self.workers: dict[int, _ModelWorker] = {}
        self.open: set[tuple[int, int]] = set()
        self.begun: set[tuple[int, int]] = set()
        self.asked: list[tuple[int, int]] = []
        self.killed: set[tuple[int, int]] = set()

    @initialize()
    def teach(self) -> None:
        """Two workers, and a function that is known to be short: bundles go out from the start."""
        self.spawn()
        self.spawn()
        self.add(1, SHORT, 0)
        for rank in self.workers:
            self._step(rank, 1e-6)
            self._hear(rank)
        self.add(40, SHORT, 0)

    def _answer(self, key: tuple[int, int]) -> None:
        assert key in self.open, "answered twice, or never given"
        self.open.remove(key)

    def _settle(self) -> None:
        for batch in self.core.assign(self.now):
            self.workers[batch.rank].send(batch.tasks)
        while orders := self.core.take_orders():
            for order in orders:
                self._obey(order)
        withdrawn, running = self.core.take_answers()
        for key in withdrawn:
            assert key not in self.begun or key in self.killed, "withdrawn although it was begun"
            self._answer(key)
            if key in self.asked:
                self.asked.remove(key)
        for key in running:
            self.asked.remove(key)

    def _obey(self, order: object) -> None:
        if isinstance(order, Revoke) and order.rank in self.workers:
            self.workers[order.rank].revoked = order.number
        elif isinstance(order, Look) and order.rank in self.workers:
            self.core.looked(order.rank, self.workers[order.rank].started, self.now)
        elif isinstance(order, Terminate):
            task = self.workers[order.rank].running
            assert task is None or (task.task, task.attempt) in self.killed, "an innocent task is signalled"
        elif isinstance(order, Kill) and order.rank in self.workers:
            self._bury(order.rank)

    @rule(
        count=st.integers(1, 80),
        function=st.sampled_from([SHORT, SHORT, LONG]),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        slots=st.sampled_from([1, 1, 1, 2, 3]),
    )
    def add(self, count: int, function: int, priority: int, slots: int = 1) -> None:
        tasks = [
            _task(self.next_task + i, function, priority=float(priority), slots=slots)
            if priority or slots > 1
            else _task(self.next_task + i, function)
            for i in range(count)
        ]
        self.next_task += count
        self.open.update((task.task, 0) for task in tasks)
        self.core.add(tasks)
        self._settle()

    @precondition(lambda self: len(self.workers) < 3)
    @rule()
    def spawn(self) -> None:
        rank = min(set(range(3)) - set(self.workers))
        self.workers[rank] = _ModelWorker()
        self.core.ready(rank, self.now)
        self._settle()

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), steps=st.integers(1, 40), seconds=st.sampled_from([1e-6, 1e-6, 1e-3, 1.0]))
    def work(self, data: st.DataObject, steps: int, seconds: float) -> None:
        rank = data.draw(st.sampled_from(sorted(self.workers)))
        for _ in range(steps):
            self._step(rank, seconds)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        task = self.workers[data.draw(st.sampled_from(sorted(self.workers)))].begin()
        if task is not None:
            self.begun.add((task.task, task.attempt))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), looks=st.booleans(), before=st.integers(0, 3))
    def stall(self, data: st.DataObject, looks: bool, before: int) -> None:
        """A worker runs a few tasks and then a long one, until those behind it are revoked, and perhaps taken back."""
        rank = data.draw(st.sampled_from(sorted(self.workers)))
        for _ in range(before):
            self._step(rank, 1e-6)
        task = self.workers[rank].begin()
        if task is not None:
            self.begun.add((task.task, task.attempt))
        self.wait(STUCK)
        if looks:
            self.wait(SETTLE)

    @precondition(lambda self: any(worker.running for worker in self.workers.values()))
    @rule()
    def end(self) -> None:
        """The running tasks end, and the workers come by what is behind them."""
        for worker in self.workers.values():
            if worker.running is not None:
                worker.said.append(Result(worker.running.task, worker.running.attempt, OK, b"", 0.0, 1e-3))
                worker.running = None
                if (task := worker.begin()) is not None:
                    self.begun.add((task.task, task.attempt))

    def _step(self, rank: int, seconds: float) -> None:
        worker = self.workers[rank]
        if (task := worker.begin()) is not None:
            self.begun.add((task.task, task.attempt))
            worker.said.append(Result(task.task, task.attempt, OK, b"", 0.0, seconds))
            worker.running = None

    def _hear(self, rank: int) -> None:
        worker = self.workers[rank]
        said, worker.said = worker.said, []
        for result in self.core.finish(rank, said, self.now):
            self._answer((result.task, result.attempt))

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        self._hear(data.draw(st.sampled_from(sorted(self.workers))))
        self._settle()

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def collect(self, data: st.DataObject) -> None:
        """Results are read from the outbox, and come again when the worker sends them."""
        rank = data.draw(st.sampled_from(sorted(self.workers)))
        copies = [r for r in self.workers[rank].said if r.status == OK]
        for result in self.core.finish(rank, copies, self.now):
            self._answer((result.task, result.attempt))
        self._settle()

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), retire=st.booleans())
    def die(self, data: st.DataObject, retire: bool) -> None:
        rank = data.draw(st.sampled_from(sorted(self.workers)))
        self._hear(rank)
        if retire:
            self.core.retire(rank)
        self._bury(rank)
        self._settle()

    def _bury(self, rank: int) -> None:
        self._hear(rank)
        worker = self.workers.pop(rank)
        lost = self.core.died(rank, worker.started)
        assert len(lost) <= 1
        running = worker.running
        if running is not None and (running.task, running.attempt) not in self.killed:
            assert running.task in {task.task for task in lost}, (
                "a running task is not run again as if it had not begun"
            )
        for task in lost:
            self._answer((task.task, task.attempt))

    @rule(seconds=st.sampled_from([SETTLE, STUCK, 1.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)
        self._settle()
        due = self.core.wake_at()
        assert due is None or due > self.now - 1e-9

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        keys = data.draw(st.lists(st.sampled_from(sorted(self.open)), min_size=1, max_size=5, unique=True))
        fresh = [key for key in keys if key not in self.asked]
        self.asked += fresh
        self.core.cancel(fresh, self.now)
        self._settle()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """Tasks are cancelled even if they run, some of them after they were cancelled only if they do not."""
        keys = data.draw(st.lists(st.sampled_from(sorted(self.open)), min_size=1, max_size=3, unique=True))
        fresh = [key for key in keys if key not in self.killed]
        self.asked += [key for key in fresh if key not in self.asked]
        self.killed.update(fresh)
        self.core.cancel(fresh, self.now, 1.0)
        self._settle()

    @rule(really=st.integers(0, 20))
    def drain(self, really: int) -> None:
        if really == 20:
            self.core.drain(self.now)
            self._settle()

    @invariant()
    def consistent(self) -> None:
        self.core.check_invariants()
        assert set(self.core.keys()) == self.open

    def teardown(self) -> None:
        """Left alone with working workers, everything is answered."""
        for _ in range(10_000):
            if not self.open and not self.asked:
                break
            while len(self.workers) < 3:
                self.spawn()
            for rank, worker in [*self.workers.items()]:
                while worker.running is not None or worker.inbox:
                    self._step(rank, 1e-3)
                if rank in self.workers:
                    self._hear(rank)
                self._settle()
            self.now += SETTLE
            self.core.tick(self.now)
            self._settle()
            self.core.check_invariants()
        assert not self.open
        assert not self.asked
        assert not self.core._lent, "a share is not given back"


TestWalk = Walk.TestCase
TestWalk.settings = settings(settings.default, stateful_step_count=60)
