"""Tasks that ask for resources: no node is overbooked, none waits for ever, and nodes stay busy."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from flowlib.executors.high_throughput.avoidance import PATIENCE
from flowlib.executors.high_throughput.capacity import slots_for, total
from flowlib.executors.high_throughput.dispatcher import Dispatcher
from flowlib.executors.high_throughput.manager_core import ManagerCore
from flowlib.executors.high_throughput.messages import Needs, Register, Result, Status, Task

GB = 1 << 30


def node(name: str, slots: int = 8, **facts: Any) -> Register:
    """A registration of a node with a core for each slot, unless said otherwise."""
    host = facts.pop("host", "host")
    return Register(1, "3.11", "0", name, "0", host, 1, slots, 0, **{"cores": slots, "memory": 64 * GB, **facts})


def task(
    number: int, priority: float = 0.0, avoid: list[tuple[str, str]] | None = None, firm: bool = True, **asked: Any
) -> Task:
    """A task."""
    needs = Needs(priority, None, asked, avoid=avoid, firm=firm) if asked or priority or avoid else None
    return Task(number, 0, 1, b"", needs)


def given(core: Dispatcher) -> dict[int, Task]:
    """Hand out what can be, by number."""
    sent = {t.task: t for a in core.assign() for t in a.tasks}
    core.check_invariants()
    return sent


def end(core: Dispatcher, *numbers: int) -> None:
    """Tasks end."""
    core.finish("m", [Result(n, 0, Status.OK, b"", 1.0, 2.0) for n in numbers], 1.0)


def test_cores_count_as_slots() -> None:
    """A task with several cores takes their slots, and the manager is told how many."""
    core = Dispatcher()
    core.register(node("m", 4), 0.0)
    core.submit([task(1, cores=3), task(2), task(3)])
    sent = given(core)
    assert sorted(sent) == [1, 2]
    needs = sent[1].needs
    assert needs is not None and needs.slots == 3
    end(core, 1)
    assert sorted(given(core)) == [3]


@pytest.mark.parametrize(
    ("facts", "asked", "most"),
    [
        ({}, {"memory": 30 * GB}, 2),
        ({"share": 8 * GB}, {"memory": 9 * GB}, 4),
        ({"disk": 100}, {"disk": 30}, 3),
        ({"labels": {"licence": 2}}, {"licence": 1}, 2),
        ({"gpus": ["a", "b"], "shared_gpus": True}, {"gpus": 1}, 2),
        ({"gpus": ["a", "b"], "shared_gpus": True}, {"gpus": 0.5}, 4),
        ({"gpus": ["a", "b"], "shared_gpus": True}, {"gpus": 2}, 1),
        ({}, {"cores": 0.5}, 8),
    ],
)
def test_amounts(facts: dict[str, Any], asked: dict[str, Any], most: int) -> None:
    """Only as many run at a time as there is of what they ask, and plain tasks have the rest of the workers."""
    core = Dispatcher()
    core.register(node("m", **facts), 0.0)
    core.submit([task(n, **asked) for n in range(20)])
    first = given(core)
    assert sorted(first) == list(range(most))
    end(core, 0)
    assert sorted(given(core)) == [most]


def test_accelerators_are_given_by_name() -> None:
    """Whole ones are exclusive, fractions fill one before they open the next."""
    core = Dispatcher()
    core.register(node("m", gpus=["a", "b", "c"], shared_gpus=True), 0.0)
    core.submit([task(1, gpus=0.5), task(2, gpus=1), task(3, gpus=0.5), task(4, gpus=1), task(5, gpus=0.5)])
    sent = given(core)
    names = {n: t.needs.gpus for n, t in sent.items() if t.needs is not None}
    assert sorted(names) == [1, 2, 3, 4]
    assert names[1] == names[3]
    assert sorted(gpu for n in (1, 2, 4) for gpu in names[n] or ()) == ["a", "b", "c"]


def test_large_task_is_not_starved() -> None:
    """A task that needs the whole node gets it after at most a node's worth of others has passed it."""
    core = Dispatcher()
    core.register(node("m", 8), 0.0)
    core.submit([task(n) for n in range(8)])
    running = list(given(core))
    core.submit([task(1000, cores=8)])
    passed = 0
    for number in range(2000, 2500):
        core.submit([task(number)])
        end(core, running.pop(0))
        sent = given(core)
        running.extend(sent)
        passed += len(sent)
        if 1000 in sent:
            break
    assert 1000 in running and passed <= 2 * 8 + 1


def test_first_come_first_served_between_kinds() -> None:
    """A request does not overtake plain tasks that came before it, nor do later ones overtake it where it fits."""
    core = Dispatcher()
    core.submit([task(1), task(2), task(3, cores=1), task(4)])
    core.register(node("m", 2), 0.0)
    assert sorted(given(core)) == [1, 2]
    end(core, 1)
    assert sorted(given(core)) == [3]
    end(core, 2, 3)
    assert sorted(given(core)) == [4]


def test_priorities_between_kinds() -> None:
    """Higher priorities go first, whatever is asked for."""
    core = Dispatcher()
    core.submit([task(1, cores=1), task(2, 5.0), task(3, 7.0, cores=2), task(4, 5.0, cores=1)])
    core.register(node("m", 2), 0.0)
    order = []
    while sent := given(core):
        order.append(sorted(sent))
        end(core, *sent)
    assert order == [[3], [2, 4], [1]]


def test_impossible_requests_come_out() -> None:
    """What no node can hold is taken out with what it lacks; what fits stays."""
    core = Dispatcher()
    core.submit([task(1, cores=64), task(2, cores=2), task(3, gpus=1)])
    assert core.impossible() == [], "no node is known"
    core.register(node("m"), 0.0)
    assert sorted((t.task, *lack) for t, lack in core.impossible()) == [(1, "cores", 64, 8), (3, "gpus", 1, 0)]
    assert sorted(given(core)) == [2]
    assert not core.has_fresh
    core.submit([task(4, cores=65)])
    assert core.has_fresh, "what comes later is to be looked at as well"


def test_requests_avoid_the_places_where_they_failed() -> None:
    """A request waits for room on another node that could hold it, not for ever, and not for one that is too small."""
    core = Dispatcher()
    core.register(node("a", 4, host="x"), 0.0)
    core.register(node("b", 4, host="y"), 0.0)
    core.submit([task(1, cores=4, avoid=[("a", "x")])])
    assert list(core.assign()[0].manager.running) == [(1, 0)]
    assert [key for key, name in core.places() if name == "b"] == [(1, 0)]
    core.submit([task(2, cores=2, avoid=[("a", "x")])])
    assert given(core) == {}
    core.submit([task(3, cores=2, avoid=[("a", "x")], firm=False)])
    assert sorted(given(core)) == [3], "an exception is worth no wait"
    core.relent(10.0)
    core.relent(9.0 + PATIENCE)
    assert given(core) == {}
    core.relent(10.0 + PATIENCE)
    assert sorted(given(core)) == [2]
    core = Dispatcher()
    core.register(node("a", 4, host="x"), 0.0)
    core.register(node("b", 2, host="y"), 0.0)
    core.submit([task(1, cores=4, avoid=[("a", "x")])])
    assert sorted(given(core)) == [1], "the other node could never hold it"


def test_cancelled_reservation_frees_the_node() -> None:
    """When the task is withdrawn for which a node was kept, others get the node at once."""
    core = Dispatcher()
    core.register(node("m", 2), 0.0)
    core.submit([task(n) for n in range(2)])
    given(core)
    core.submit([task(9, cores=2), *(task(n) for n in range(10, 40))])
    for number in (0, 1):
        end(core, number)
        given(core)
    end(core, 10)
    given(core)
    assert core.managers["m"].reserved
    assert core.cancel([(9, 0)]).withdrawn == [(9, 0)]
    given(core)
    assert not core.managers["m"].reserved and core.managers["m"].used == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_node_stays_busy(seed: int) -> None:
    """With 64 cores and a random mix of requests, at least nine tenths of the cores are busy while small tasks wait."""
    rng = random.Random(seed)
    core = Dispatcher()
    core.register(node("m", 64), 0.0)
    sizes: dict[int, int] = {}
    running: list[tuple[float, int]] = []
    number, now, busy, until = 0, 0.0, 0.0, 400.0
    while now < until:
        batch = []
        while core.waiting + len(batch) < 200:
            number += 1
            cores = rng.choice([1, 1, 1, 1, 1, 1, 2, 4, 8, 16])
            sizes[number] = cores
            batch.append(task(number, cores=cores) if cores > 1 else task(number))
        core.submit(batch)
        for assignment in core.assign():
            for t in assignment.tasks:
                heapq.heappush(running, (now + rng.expovariate(0.5), t.task))
        at, ended = heapq.heappop(running)
        taken = sizes[ended] + sum(sizes[n] for _, n in running)
        assert taken <= 64
        busy += taken * (min(at, until) - now)
        now = at
        end(core, ended)
    core.check_invariants()
    assert busy / (64 * until) >= 0.9


MOVES = {
    "submit": 5,
    "end": 10,
    "lose": 0.3,
    "come": 0.5,
    "back": 1,
    "cancel": 1,
    "lapse": 0.3,
    "revive": 1,
    "restart": 0.2,
}


class Site:
    """Nodes that run what they get, do random things to the dispatcher, and look whether they are overbooked."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.core = Dispatcher(self.rng.choice(["spread", "pack", "block"]))
        self.nodes: dict[str, Register] = {}
        self.at: dict[str, dict[int, Task]] = {}
        self.open: set[int] = set()
        self.given_up: set[int] = set()
        self.number = 0
        self.asked: dict[int, Task] = {}

    def ask(self) -> Task:
        rng = self.rng
        self.number += 1
        asked: dict[str, Any] = rng.choice(
            [{}, {}, {}, {"cores": rng.choice([0.5, 2, 3, 8])}, {"gpus": rng.choice([0.25, 0.5, 1, 2])},
             {"memory": rng.choice([1, 20, 60]) * GB, "cores": 2}, {"licence": 1}, {"disk": 40, "gpus": 0.5}]
        )  # fmt: skip
        avoid = None
        if self.nodes and rng.random() < 0.2:
            some = rng.sample(sorted(self.nodes), min(len(self.nodes), rng.randrange(1, 3)))
            avoid = [(name, self.nodes[name].host) for name in some]
        made = task(self.number, rng.choice([0.0, 0.0, 0.0, 3.0, -2.0]), avoid, rng.random() < 0.7, **asked)
        made.early = rng.random() < 0.3
        self.asked[self.number] = made
        self.open.add(self.number)
        return made

    def come(self, slots: int | None = None) -> None:
        """A block of one of several shapes; the requests are such that the largest can hold each."""
        name = f"m{self.number}-{len(self.nodes)}"
        host = f"host{self.rng.randrange(2)}"
        slots = slots or self.rng.choice([2, 4, 8, 8])
        gpus = ["a", "b"][: slots // 4]
        labels = {"licence": slots // 4}
        self.nodes[name] = node(name, slots, host=host, gpus=gpus, shared_gpus=True, disk=100, labels=labels)
        self.at[name] = {}
        self.core.register(self.nodes[name], 0.0)

    def registration(self, name: str, running: list[int]) -> Register:
        """What a node says when it comes back."""
        needs = [(n, 0, t.needs) for n in running if (t := self.at[name][n]).needs is not None and t.needs.resources]
        return msgspec.structs.replace(self.nodes[name], running=[(n, 0) for n in running], needs=needs)

    def restart(self) -> None:
        """Another interchange takes over: nodes tell what they have, the driver sends again what nobody has."""
        self.core = Dispatcher("spread")
        for name, tasks in self.at.items():
            self.core.register(self.registration(name, [*tasks]), 0.0, adopt=True)
        held = {n for n, _ in self.core.held()}
        # The driver sends again, by itself, what is nowhere now; what it had given up is of no interest when it ends.
        self.core.submit([self.asked[n] for n in sorted(self.open - held)])
        self.given_up |= held - self.open

    def answer(self, numbers: Iterable[int]) -> None:
        """The driver is told what became of tasks: once of each."""
        for number in numbers:
            assert number in self.open or number in self.given_up
            self.open.discard(number)

    def hand_out(self) -> None:
        for part in self.core.assign():
            self.at[part.manager.name].update({t.task: t for t in part.tasks})
        self.core.check_invariants()
        for name, tasks in self.at.items():
            asked = [t.needs.resources or {} for t in tasks.values() if t.needs is not None]
            plain = len(tasks) - len(asked)
            facts = self.nodes[name]
            assert plain + sum(slots_for(a, facts) for a in asked) <= facts.slots
            for what in ("memory", "disk", "licence", "gpus"):
                assert sum(a.get(what, 0) for a in asked) <= total(what, facts)
            parts: dict[str, float] = {}
            for t in tasks.values():
                if t.needs is not None and t.needs.gpus:
                    for gpu in t.needs.gpus:
                        assert t.needs.resources is not None
                        parts[gpu] = parts.get(gpu, 0.0) + min(1.0, t.needs.resources["gpus"])
            assert all(part <= 1 for part in parts.values())

    def step(self) -> None:
        rng = self.rng
        move = rng.choices([*MOVES], [*MOVES.values()])[0]
        names = [*self.at]
        if move == "submit":
            self.core.submit([self.ask() for _ in range(rng.randrange(1, 12))])
        elif move == "come" and len(names) < 4:
            self.come()
        elif move == "cancel" and self.number:
            self.answer(n for n, _ in self.core.cancel([(rng.randint(1, self.number), 0)]).withdrawn)
        elif names:
            name = rng.choice(names)
            tasks = self.at[name]
            some = rng.sample([*tasks], rng.randrange(len(tasks) + 1))
            if move == "lose":
                lost = self.core.lose(name, for_good=True)
                self.answer(n for n, _ in (*lost.begun, *lost.unstarted))
                del self.at[name]
            elif move == "back":
                lost = self.core.register(self.registration(name, some), 0.0).lost
                self.answer(n for n, _ in (*lost.begun, *lost.unstarted))
                self.at[name] = {n: tasks[n] for n in some}
            elif move == "lapse":
                lost = self.core.lose(name)
                self.answer(n for n, _ in (*lost.begun, *lost.unstarted))
            elif move == "revive":
                self.core.revive(name, 0.0)
            elif move == "restart":
                self.restart()
            else:
                if name not in self.core.managers:
                    self.core.revive(name, 0.0)
                for n in some:
                    del tasks[n]
                told = self.core.finish(name, [Result(n, 0, Status.OK, b"", 1.0, 2.0) for n in some], 1.0)
                self.answer(r.task for r in told)
        self.hand_out()


@pytest.mark.parametrize("seed", range(25))
def test_random_walk(seed: int) -> None:
    """Whatever happens, no node has more than it holds, nothing starves, and every task is answered once."""
    site = Site(seed)
    for _ in range(150):
        site.step()
    for name in site.at:
        site.core.revive(name, 0.0)
    site.come(8)
    for second in range(3000):
        site.core.relent(float(second))
        site.hand_out()
        held = [(name, n) for name, tasks in site.at.items() for n in tasks]
        if not held:
            break
        for name, n in held[:3]:
            del site.at[name][n]
            site.answer(r.task for r in site.core.finish(name, [Result(n, 0, Status.OK)], 1.0))
    assert not site.open


def test_manager_keeps_the_share_free() -> None:
    """While a task with several slots runs, its node hands out no more than the other workers' worth."""
    core = ManagerCore()
    for rank in range(4):
        core.ready(rank, 0.0)
    wide = Task(1, 0, 1, b"", Needs(slots=3))
    core.add([wide, *(Task(n, 0, 1, b"") for n in range(2, 6))])
    sent = [t.task for batch in core.assign(0.0) for t in batch.tasks]
    core.check_invariants()
    assert sorted(sent) == [1, 2]
    rank = next(r for r in range(4) if core.in_hand(r) == [(1, 0)])
    core.finish(rank, [Result(1, 0, Status.OK, b"", 0.0, 9.0)], 1.0)
    assert len([t for batch in core.assign(1.0) for t in batch.tasks]) == 3
    core.check_invariants()


def test_manager_lets_a_wide_task_have_its_workers() -> None:
    """A wide task at the head waits for enough idle workers, and gets its share back when its worker dies."""
    core = ManagerCore()
    for rank in range(2):
        core.ready(rank, 0.0)
    core.add([Task(1, 0, 1, b""), Task(2, 0, 1, b"", Needs(slots=2)), Task(3, 0, 1, b"")])
    ((rank, _, _),) = core.assign(0.0)
    assert core.assign(0.0) == []
    core.finish(rank, [Result(1, 0, Status.OK, b"", 0.0, 9.0)], 1.0)
    ((wide, tasks, _),) = core.assign(1.0)
    assert [t.task for t in tasks] == [2]
    assert [t.task for t in core.died(wide, 2 if wide == rank else 1)] == [2]
    core.check_invariants()
    assert [t.task for batch in core.assign(2.0) for t in batch.tasks] == [3]
