"""The end of a job: who tells it, what is started before it and what is not, and when another block is asked for."""

from __future__ import annotations

import random

import pytest

from flowlib.errors import InvalidResourceSpecification
from flowlib.executors.high_throughput.dispatcher import Dispatcher
from flowlib.executors.high_throughput.endings import FRESH, USELESS, Endings
from flowlib.executors.high_throughput.fleet import Fleet
from flowlib.executors.high_throughput.lifetime import STARTED, JobEnd, ahead, job_end, margin
from flowlib.executors.high_throughput.manager_core import ManagerCore
from flowlib.executors.high_throughput.manager_orders import Cause, Look, Revoke, Terminate
from flowlib.executors.high_throughput.messages import ManagerChanged, Needs, Register, Result, Status, Task
from flowlib.executors.high_throughput.needs import check_time
from flowlib.executors.high_throughput.whereabouts import describe, place_of
from flowlib.explain.reasons import Reason
from flowlib.explain.sentences import sentence
from flowlib.providers import LocalProvider
from flowlib.scaling import BlockLoad, Load, Scaler, Settings

Key = tuple[int, int]


def manager(
    name: str, slots: int = 1, left: float | None = None, prefetch: int = 0, life: float | None = None
) -> Register:
    """A registration; its life is what it has left, if nothing else is said."""
    life = life if life is not None else left or 0.0
    return Register(1, "3.11", "0", name, name, "host", 1, slots, prefetch, cores=slots, left=left, life=life)


def task(
    number: int,
    walltime: float | None = None,
    function: int = 1,
    cores: int = 0,
    priority: float = 0.0,
    attempt: int = 0,
) -> Task:
    """A task."""
    needs = None
    if walltime is not None or cores or priority:
        needs = Needs(priority, walltime, {"cores": cores} if cores else None)
    return Task(number, attempt, function, b"", needs)


def done(number: int, seconds: float, status: int = Status.OK) -> Result:
    """A result."""
    return Result(number, 0, status, b"", 100.0, 100.0 + seconds)


def given(core: Dispatcher, now: float) -> dict[str, list[int]]:
    """Hand out what can be, by manager."""
    assigned = {a.manager.name: [t.task for t in a.tasks] for a in core.assign(now)}
    core.check_invariants()
    return assigned


# ------------------------------------------------------------------------------------------------------------ the end


@pytest.mark.parametrize(
    ("environment", "walltime", "end"),
    [
        ({}, None, None),
        ({}, 60.0, JobEnd(1060.0, "the provider's walltime", 60.0)),
        ({STARTED: "990"}, 60.0, JobEnd(1050.0, "the provider's walltime", 60.0)),
        ({"SLURM_JOB_START_TIME": "900", "SLURM_JOB_END_TIME": "1500"}, None, JobEnd(1500.0, "SLURM_JOB_END_TIME", 600.0)),
        ({STARTED: "990", "SLURM_JOB_END_TIME": "1020"}, 60.0, JobEnd(1020.0, "SLURM_JOB_END_TIME", 30.0)),
        ({STARTED: "990", "SLURM_JOB_END_TIME": "1200"}, 60.0, JobEnd(1050.0, "the provider's walltime", 60.0)),
        ({"PBS_WALLTIME": "30", STARTED: "995"}, None, JobEnd(1025.0, "PBS_WALLTIME", 30.0)),
        ({"SLURM_JOB_END_TIME": "800"}, None, None),
        ({"SLURM_JOB_END_TIME": "never", "PBS_WALLTIME": "", STARTED: "-5"}, 60.0, JobEnd(1060.0, "the provider's walltime", 60.0)),
        ({STARTED: "2000"}, 60.0, JobEnd(1060.0, "the provider's walltime", 60.0)),
    ],
)  # fmt: skip
def test_end_of_a_job(environment: dict[str, str], walltime: float | None, end: JobEnd | None) -> None:
    """The provider and the scheduler tell it, the earlier counts; what is over or senseless does not."""
    assert job_end(environment, walltime, 1000.0) == end


def test_a_task_that_no_block_has_time_for_is_refused() -> None:
    """The message names both times and where the second comes from."""
    provider = LocalProvider(walltime="10m")
    check_time(600, provider, "htex")
    check_time(1e9, LocalProvider(), "htex")
    with pytest.raises(InvalidResourceSpecification) as refused:
        check_time(900, provider, "htex")
    text = str(refused.value)
    assert "walltime of 15m" in text and "10m" in text and "LocalProvider(walltime='10m')" in text
    assert margin(10) == 0.5


# ------------------------------------------------------------------------------------------------------ the dispatcher


def test_a_declared_task_goes_to_the_manager_that_has_the_time() -> None:
    """It passes over one that ends before it could, which takes the shorter tasks behind it."""
    core = Dispatcher()
    core.register(manager("soon", left=50.0, life=600.0), 0.0)
    core.submit([task(1, 60.0), task(2, 40.0), task(3)])
    assert given(core, 1.0) == {"soon": [2]}
    core.register(manager("later", left=600.0), 2.0)
    assert given(core, 2.0) == {"later": [1]}
    core.finish("soon", [done(2, 5.0)], 7.0)
    assert given(core, 7.0) == {"soon": [3]}


def test_bash_tasks_declare_as_well() -> None:
    """What a task sees to itself counts like what is enforced."""
    core = Dispatcher()
    core.register(manager("soon", left=50.0, life=600.0), 0.0)
    core.submit([Task(1, 0, 1, b"", Needs(lasts=60.0))])
    assert given(core, 0.0) == {}


def test_the_past_of_an_app_counts() -> None:
    """Calls of a function that took long before are not started near the end; those of others are."""
    core = Dispatcher()
    core.register(manager("m", 2, left=100.0), 0.0)
    core.submit([task(1)])
    assert given(core, 0.0) == {"m": [1]}
    core.finish("m", [done(1, 30.0)], 30.0)
    core.submit([task(2), task(3), task(4, function=2)])
    assert given(core, 69.0) == {"m": [2, 3]}
    core.finish("m", [done(2, 2.0), done(3, 2.0)], 71.0)
    core.submit([task(5)])
    assert given(core, 76.0) == {"m": [4]}, "24.7 s are expected, 24 are left"
    core.finish("m", [done(4, 1.0)], 76.0)
    assert given(core, 76.0) == {}
    core.register(manager("next", left=100.0), 77.0)
    assert given(core, 77.0) == {"next": [5]}


def test_what_was_cut_short_is_a_lower_bound() -> None:
    """A call that failed early says nothing for others; one that was lost after long says that it takes longer."""
    ends = Endings()
    ends.learn(1, 50.0, whole=True)
    ends.learn(1, 0.2, whole=False)
    assert ends.slow == {1: 50.0}
    ends.learn(1, 70.0, whole=False)
    assert ends.slow == {1: 70.0}
    for _ in range(200):
        ends.learn(1, 0.01, whole=True)
    assert ends.slow == {}, "one slow call is forgotten after many quick ones"


def test_the_past_alone_keeps_no_task_for_ever() -> None:
    """A function whose calls took longer than any block lives is tried on fresh ones, and on these only."""
    core = Dispatcher()
    core.register(manager("old", left=100.0), 0.0)
    core.submit([task(1)])
    core.assign(0.0)
    core.finish("old", [done(1, 1000.0, Status.LOST)], 30.0)
    core.submit([task(2)])
    assert given(core, 30.0) == {}
    core.register(manager("fresh", left=100.0), 40.0)
    assert given(core, 40.0 + (1 - FRESH) * 99) == {"fresh": [2]}


def test_the_whole_walltime_of_a_block_is_for_fresh_ones() -> None:
    """A task that has declared a little more than a block has for tasks is run by a new one, and by no other."""
    core = Dispatcher()
    core.register(manager("old", left=75.0, life=95.0), 0.0)
    core.submit([task(1, 100.0)])
    assert not core.impossible()
    assert given(core, 0.0) == {}
    core.register(manager("fresh", left=95.0, life=95.0), 1.0)
    assert given(core, 1.0) == {"fresh": [1]}


def test_longer_than_the_life_of_any_manager_is_refused() -> None:
    """What is declared beyond that is refused, wherever it waits, as soon as managers are there or when it comes."""
    core = Dispatcher()
    core.submit([task(1, 90.0), task(2, 500.0), task(3, 500.0, cores=1), task(4, 10.0)])
    assert not core.has_fresh or core.impossible() == []
    core.register(manager("m", 4, left=20.0, life=95.0), 0.0)
    assert core.has_fresh
    assert sorted((t.task, lack) for t, lack in core.impossible()) == [
        (2, ("walltime", 500.0, 95.0)),
        (3, ("walltime", 500.0, 95.0)),
    ]
    assert given(core, 0.0) == {"m": [4]}, "task 1 waits for a fresh one"
    core.submit([task(5, 120.0)])
    assert core.has_fresh and [t.task for t, _ in core.impossible()] == [5]
    core.register(manager("endless"), 1.0)
    core.submit([task(6, 1e6)])
    assert core.impossible() == []
    assert given(core, 1.0) in ({"endless": [1]}, {"endless": [6]})


def test_requests_for_resources_fit_as_well() -> None:
    """A request waits for a node that has both the room and the time, and keeps none that has not."""
    core = Dispatcher()
    core.register(manager("soon", 4, left=50.0, life=600.0), 0.0)
    core.submit([task(1, 60.0, cores=4), task(2, 20.0, cores=2), *(task(n) for n in range(10, 30))])
    assert given(core, 0.0) == {"soon": [10, 2, 11]}
    core.register(manager("later", 4, left=600.0), 1.0)
    assert given(core, 1.0) == {"later": [1]}
    core.check_invariants()


def test_short_managers_go_on_with_short_work() -> None:
    """One long declaration does not make near managers slow: tasks without a past are prefetched as before."""
    core = Dispatcher()
    core.register(manager("m", 2, left=50.0, life=600.0, prefetch=6), 0.0)
    core.submit(
        [task(1, 60.0), task(2, 40.0), task(3, 40.0), task(4, 40.0), *(task(n, function=7) for n in range(10, 20))]
    )
    assert given(core, 0.0) == {"m": [2, 3, 10, 11, 12, 13, 14, 15]}, "what is declared does not stand by"


def test_what_stands_by_is_asked_back_when_time_becomes_short() -> None:
    """A declared task that was sent ahead and has not begun comes back, and costs its manager nothing."""
    core = Dispatcher()
    core.register(manager("m", 1, left=100.0, prefetch=3), 0.0)
    core.submit([task(1, function=3), task(2, 60.0), task(3, function=3)])
    assert given(core, 0.0) == {"m": [1, 2, 3]}
    core.begun("m", [(1, 0)])
    assert core.recall() == []
    core.assign(41.0)
    assert [(m.name, keys) for m, keys in core.recall()] == [("m", [(2, 0)])]
    assert core.recall() == []
    core.finish("m", [Result(2, 0, Status.WITHDRAWN)], 42.0)
    assert not core.managers["m"].draining
    assert given(core, 42.0) == {}


def test_an_idle_manager_that_is_too_short_for_all_leaves() -> None:
    """After a moment; not while something fits, runs there or nothing waits."""
    core = Dispatcher()
    core.register(manager("m", 1, left=50.0, life=600.0), 0.0)
    core.submit([task(1, 60.0), task(2, 10.0)])
    core.assign(0.0)
    assert core.useless() == []
    core.finish("m", [done(2, 0.01)], 1.0)
    core.assign(1.0)
    assert core.useless() == []
    core.assign(1.0 + USELESS)
    assert [m.name for m in core.useless()] == ["m"]
    core.cancel([(1, 0)])
    assert core.useless() == []


def test_the_end_survives_a_reconnection() -> None:
    """A manager that was given up and is heard again has no more time than before; one that registers says anew."""
    core = Dispatcher()
    core.register(manager("m", left=50.0, life=100.0), 0.0)
    core.lose("m")
    core.revive("m", 40.0)
    core.submit([task(1, 20.0)])
    assert given(core, 40.0) == {}
    core.register(manager("m", left=30.0, life=100.0), 40.0)
    assert given(core, 40.0) == {"m": [1]}


def test_a_manager_without_an_end_is_one_like_any_other() -> None:
    """Nothing of this concerns it, whatever tasks declare."""
    core = Dispatcher()
    core.register(manager("m", 2), 0.0)
    core.submit([task(1, 1e9), task(2)])
    assert given(core, 1e6) == {"m": [1, 2]}
    assert not core.managers["m"].short


class Walk:
    """Managers that come and end, and tasks that take up to a while."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.core = Dispatcher(self.rng.choice(["spread", "pack", "block"]))
        self.now = 0.0
        self.tasks: dict[Key, Task] = {}
        self.where: dict[Key, tuple[str, float]] = {}
        self.ends: dict[str, float] = {}
        self.answered: set[Key] = set()
        self.came = 0

    def come(self) -> None:
        """A manager comes, a fresh one or one with little time left."""
        self.came += 1
        name, left = f"m{self.came}", self.rng.choice([10.0, 40.0, 100.0, 100.0])
        slots, prefetch = self.rng.randrange(1, 5), self.rng.choice([0, 0, 3])
        self.core.register(manager(name, slots, left, prefetch, life=100.0), self.now)
        self.ends[name] = self.now + left

    def leave(self) -> None:
        """Managers whose time is over give back what they have."""
        for name in [name for name, end in self.ends.items() if end <= self.now]:
            del self.ends[name]
            back = [key for key, (at, _) in self.where.items() if at == name]
            self.core.finish(name, [Result(*key, Status.WITHDRAWN) for key in back], self.now)
            for key in back:
                del self.where[key]
            self.core.lose(name, for_good=True, answered=True)

    def submit(self) -> None:
        """A task comes."""
        number, rng = len(self.tasks), self.rng
        walltime, priority = rng.choice([None, None, 5.0, 30.0, 90.0]), rng.choice([0, 0, 2.0, -1.0])
        fresh = self.tasks[number, 0] = task(number, walltime, rng.randrange(3), rng.choice([0, 0, 0, 1]), priority)
        self.core.submit([fresh])

    def hand_out(self) -> None:
        """What is handed out can end in time."""
        assert not self.core.has_fresh or self.core.impossible() == []
        for part in self.core.assign(self.now):
            for sent in part.tasks:
                declared = None if sent.needs is None else sent.needs.walltime
                assert declared is None or self.now + declared <= self.ends[part.manager.name] + 1e-6
                self.where[sent.task, sent.attempt] = (part.manager.name, self.now)
        self.core.check_invariants()

    def finish(self, chance: float) -> None:
        """Some of what runs ends."""
        for key, (name, since) in list(self.where.items()):
            if self.rng.random() < chance:
                del self.where[key]
                status = self.rng.choice([Status.OK, Status.RAISED])
                result = Result(*key, status, b"", since + 1, self.now + 1)
                self.answered.update((r.task, r.attempt) for r in self.core.finish(name, [result], self.now))

    def tick(self) -> None:
        """Managers that nothing fits leave."""
        for one in self.core.useless():
            self.core.drain(one.name)
            self.ends[one.name] = self.now
        self.core.relent(self.now)


@pytest.mark.parametrize("seed", range(40))
def test_walk(seed: int) -> None:
    """No task is ever with a manager where what it declared does not fit, and each one runs in the end."""
    walk = Walk(seed)
    for _ in range(120):
        walk.now += walk.rng.random() * 3
        walk.leave()
        if len(walk.ends) < 3:
            walk.come()
        for _ in range(walk.rng.randrange(4)):
            walk.submit()
        walk.hand_out()
        walk.finish(0.4)
        walk.tick()
    for _ in range(400):
        if len(walk.answered) == len(walk.tasks):
            break
        walk.now += 1.0
        walk.leave()
        if not any(m.open for m in walk.core.managers.values()):
            walk.come()
        walk.hand_out()
        walk.finish(1.0)
        walk.tick()
    assert walk.answered == set(walk.tasks), "nothing starves"


# ----------------------------------------------------------------------------------------------------- why it waits


def test_explain() -> None:
    """A task that waits for time is told from one that waits for a worker."""
    core = Dispatcher()
    core.register(manager("m", 1, left=50.0, life=600.0), 0.0)
    core.submit([task(1, 60.0), task(2, 60.0, cores=1), task(3), task(4)])
    core.finish("m", [], 0.0)
    core.submit([task(5, 55.0)])
    told = describe(core, [(1, 0)], {}, {})
    assert "time" not in told["attempts"][0], "nothing has been looked at yet"
    core.register(manager("n", 1, left=20.0, life=600.0), 0.0)
    core.cancel([(3, 0), (4, 0)])
    core.assign(1.0)
    for key in ((1, 0), (2, 0)):
        place = place_of("htex", describe(core, [key], {}, {}), 0, {})
        assert place is not None and place.reason is Reason.WALLTIME
        assert (place.detail["takes"], place.detail["declared"], place.detail["left"]) == (60.0, True, 49.0)
        text = sentence(place.reason, place.detail, 0.0)
        assert "it may take 1 min" in text and "49" in text
    core.submit([task(6), task(7), task(8)])
    core.assign(1.0)
    place = place_of("htex", describe(core, [(1, 0)], {}, {}), 0, {})
    assert place is not None and place.reason is not Reason.WALLTIME, "no worker is free, either"


# ------------------------------------------------------------------------------------------------------ the node's side


def test_what_runs_is_ended_and_the_rest_given_back() -> None:
    """At the end of the job running tasks are signalled; one that was only sent ahead is withdrawn, never killed."""
    core = ManagerCore()
    for rank in (0, 1):
        core.ready(rank, 0.0)
    core.add([task(1), task(2)])
    core.assign(0.0)
    core.drain(10.0)
    core.end_all(10.0, 2.0)
    revoked = [order for order in core.take_orders() if isinstance(order, Revoke)]
    assert sorted(order.rank for order in revoked) == [0, 1]
    core.tick(11.0)
    assert {order.rank for order in core.take_orders() if isinstance(order, Look)} == {0, 1}
    hands = {rank: core.in_hand(rank)[0] for rank in (0, 1)}
    core.looked(0, 1, 11.0)
    core.looked(1, 0, 11.0)
    orders = [order for order in core.take_orders() if isinstance(order, Terminate)]
    assert [(order.rank, order.cause, order.grace) for order in orders] == [(0, Cause.END, 2.0)]
    assert core.take_answers().withdrawn == [hands[1]]
    assert [(t.task, t.attempt) for t in core.died(0, 1)] == [hands[0]]
    assert not len(core)
    core.check_invariants()


# ------------------------------------------------------------------------------------------------------------- blocks


def test_another_block_is_asked_for_before_one_ends() -> None:
    """A block whose workers are about to leave is no capacity, is not given up, and counts against the limit."""
    scaler = Scaler(Settings(init_blocks=1, min_blocks=1, max_blocks=2, slots_per_block=2, max_idletime=10.0))
    assert scaler.decide(Load(), 0.0).start == 1
    scaler.submitting("0", 0.0)
    scaler.registered("0", 1.0)
    busy = Load(0, 2, {"0": BlockLoad(1, 2, 2)})
    assert scaler.decide(busy, 2.0).start == 0
    leaving = Load(0, 2, {"0": BlockLoad(1, 2, 2, 0.0, 2)})
    assert scaler.decide(leaving, 3.0).start == 1
    scaler.submitting("1", 3.0)
    decision = scaler.decide(leaving, 4.0)
    assert (decision.start, decision.drain, decision.cancel) == (0, (), ())
    idle = Load(0, 0, {"0": BlockLoad(1, 2, 0, 50.0, 2), "1": BlockLoad(1, 2, 0, 50.0)})
    for now in (5.0, 100.0):
        decision = scaler.decide(idle, now)
        assert (decision.start, decision.drain, decision.cancel) == (0, (), ()), "it ends by itself"
    scaler.check_invariants()


def test_the_fleet_knows_who_leaves() -> None:
    """Those that drain, and those whose time is nearly over."""
    fleet = Fleet()

    def change(name: str, what: str, left: float | None = None, life: float = 0.0) -> None:
        facts = manager(name, 4, left, life=life)
        fleet.changed(ManagerChanged(name, what, name, "host", 4, "", facts if what == "registered" else None))

    change("a", "registered")
    change("b", "registered", 30.0, 1000.0)
    change("c", "registered", 500.0, 1000.0)
    change("d", "registered")
    change("d", "draining")
    assert ahead(1000.0) == 100.0
    leaving = {name: block.leaving for name, block in fleet.load(1).blocks.items()}
    assert leaving == {"a": 0, "b": 4, "c": 0, "d": 4}
