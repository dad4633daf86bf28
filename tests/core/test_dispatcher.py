"""The dispatcher: every attempt answered once, credits kept, priorities kept, and no work that grows with managers."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from typing import Any

import pytest

from flowlib.executors.high_throughput.avoidance import PATIENCE
from flowlib.executors.high_throughput.dispatcher import MOST_SPARED, Dispatcher
from flowlib.executors.high_throughput.managers import LONG_TASK, Key
from flowlib.executors.high_throughput.messages import Needs, Register, Result, Status, Task
from flowlib.executors.high_throughput.ranks import SELECTORS


def manager(
    name: str, slots: int = 1, prefetch: int = 0, block: str = "0", running: Any = (), host: str = "host"
) -> Register:
    """A registration."""
    return Register(1, "3.11", "0", name, block, host, 1, slots, prefetch, running=list(running))


def task(
    number: int,
    priority: float = 0.0,
    attempt: int = 0,
    function: int = 1,
    avoid: list[tuple[str, str]] | None = None,
    firm: bool = True,
    near: str = "",
) -> Task:
    """A task."""
    needs = Needs(priority, avoid=avoid, firm=firm, near=near) if priority or avoid or near else None
    return Task(number, attempt, function, b"", needs)


def ok(number: int, seconds: float = 1.0, attempt: int = 0) -> Result:
    """A result."""
    return Result(number, attempt, Status.OK, b"", 100.0, 100.0 + seconds)


def given(core: Dispatcher) -> dict[str, list[int]]:
    """Hand out what can be, by manager."""
    assigned = {a.manager.name: [t.task for t in a.tasks] for a in core.assign()}
    core.check_invariants()
    return assigned


class Walk:
    """A driver and managers that do random things to a dispatcher, and keep account of what they are owed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.core = Dispatcher(self.rng.choice(SELECTORS))
        self.now = 0.0
        self.next = 0
        self.answers: Counter[Key] = Counter()
        self.submitted: dict[Key, Task] = {}
        self.asked: set[Key] = set()
        self.dying: set[Key] = set()
        self.holds: dict[str, dict[Key, Task]] = {}
        self.functions: dict[str, set[int]] = {}
        self.away: dict[str, Register] = {}
        self.facts: dict[str, Register] = {}
        self.begun: dict[str, set[Key]] = {}
        self.relented: set[Key] = set()

    def step(self) -> None:
        """One random event, and what follows from it at once."""
        self.now += self.rng.random()
        move = self.rng.choices(
            [self.submit, self.come, self.finish, self.cancel, self.lose, self.return_, self.reconnect, self.steal,
             self.give_back, self.drain, self.kill, self.bury, self.begin, self.relent],
            [8, 2, 12, 3, 1, 1, 1, 3, 1, 1, 2, 2, 4, 1],
        )[0]  # fmt: skip
        move()
        self.hand_out()
        self.core.check_invariants()

    def submit(self) -> None:
        batch = []
        for _ in range(self.rng.randrange(1, 12)):
            self.next += 1
            avoid = None
            if self.facts and self.rng.random() < 0.2:
                some = self.rng.sample(sorted(self.facts), min(len(self.facts), self.rng.randrange(1, 4)))
                avoid = [(name, self.facts[name].host) for name in some]
            fresh = task(
                *(self.next, self.rng.choice([0, 0, 0, 0, 5, -1, 2.5]), 0, self.rng.randrange(3)),
                *(avoid, self.rng.random() < 0.7, self.rng.choice(["", "", "", "gone", *self.holds])),
            )
            self.submitted[self.next, 0] = fresh
            batch.append(fresh)
        self.core.submit(batch)

    def come(self) -> None:
        if len(self.holds) < 6:
            name = f"m{self.rng.randrange(10**9)}"
            facts = manager(
                *(name, self.rng.randrange(1, 6), self.rng.choice([-1, 0, 0, 3]), str(self.rng.randrange(3))),
                host=f"host{self.rng.randrange(3)}",
            )
            self.facts[name] = facts
            self.holds[name], self.functions[name] = {}, set()
            assert self.core.register(facts, self.now).lost == ([], [])

    def some(self, name: str) -> list[Key]:
        keys = list(self.holds[name])
        return self.rng.sample(keys, self.rng.randrange(len(keys) + 1))

    def finish(self) -> None:
        if self.holds:
            name = self.rng.choice(list(self.holds))
            self.result(name, self.some(name), Status.OK)

    def result(self, name: str, keys: list[Key], status: int) -> None:
        for key in keys:
            self.holds[name].pop(key)
            # Given again it has not begun again.
            self.begun.get(name, set()).discard(key)
        results = [Result(*key, status, b"", 1.0, 1.0 + self.rng.random() / 10) for key in keys]
        for told in self.core.finish(name, results, self.now):
            assert told.status != Status.WITHDRAWN or (told.task, told.attempt) in self.asked
            self.answers[told.task, told.attempt] += 1

    def give_back(self) -> None:
        """A manager that leaves gives back what it has not started."""
        if self.holds:
            name = self.rng.choice(list(self.holds))
            self.result(name, self.some(name), Status.WITHDRAWN)

    def cancel(self) -> None:
        keys = self.rng.sample(list(self.submitted), min(len(self.submitted), self.rng.randrange(6)))
        self.asked.update(keys)
        done = self.core.cancel(keys)
        for key in done.withdrawn:
            self.answers[key] += 1
        for asked, there in done.ask:
            self.answer_cancel(asked.name, there)

    def kill(self) -> None:
        """Cancel what runs: managers answer when it is dead, and meanwhile nothing that is asked about it."""
        keys = self.rng.sample(list(self.submitted), min(len(self.submitted), self.rng.randrange(6)))
        self.asked.update(keys)
        done = self.core.cancel(keys)
        for key in done.withdrawn:
            self.answers[key] += 1
        for asked, there in done.ask:
            self.dying.update(key for key in there if key in self.holds.get(asked.name, {}))

    def bury(self) -> None:
        """A manager tells of some that it has killed: the driver is told of each, and none of them is queued again."""
        for name in self.holds:
            dead = [key for key in self.some(name) if key in self.dying]
            known = [key for key, at in self.core.places() if at == name and key in dead]
            before = {key: self.answers[key] for key in known}
            self.result(name, dead, Status.WITHDRAWN)
            assert all(self.answers[key] == before[key] + 1 for key in known)

    def answer_cancel(self, name: str, keys: list[Key]) -> None:
        keys = [key for key in keys if key not in self.dying]
        taken = [key for key in keys if self.rng.random() < 0.6 and key in self.holds.get(name, {})]
        self.core.not_cancelled([key for key in keys if key not in taken])
        if taken:
            self.result(name, taken, Status.WITHDRAWN)

    def steal(self) -> None:
        for asked, keys in self.core.steal():
            self.answer_cancel(asked.name, keys)

    def drain(self) -> None:
        if self.holds and self.rng.random() < 0.3:
            self.core.drain(self.rng.choice(list(self.holds)))

    def lose(self) -> None:
        """A manager falls silent; what it does afterwards counts for nothing."""
        if self.holds:
            name = self.rng.choice(list(self.holds))
            held = self.holds.pop(name)
            self.away[name] = self.facts[name]
            told = self.begun.pop(name, set()) & held.keys()
            for_good, answered = self.rng.random() < 0.5, self.rng.random() < 0.2
            had = {key for key, place in self.core.places() if place == name}
            begun, unstarted = self.core.lose(name, for_good=for_good, answered=answered)
            slots = self.facts[name].slots
            if answered:
                assert not begun
            else:
                assert told & had <= set(begun), "what is known to have begun is lost"
                assert len(begun) == min(len(had), max(slots, len(told & had))), "no more than workers can run"
            again = had.difference(begun, unstarted)
            waiting = {key for key, place in self.core.places() if not place}
            assert again <= waiting and (for_good or not again)
            assert not for_good or set(unstarted) <= self.asked, "only what is cancelled is not queued again"
            self.answers.update([*begun, *unstarted])

    def begin(self) -> None:
        """A manager says that workers have begun some of what it has, and no more than it has workers."""
        if self.holds:
            name = self.rng.choice(list(self.holds))
            begun = self.begun.setdefault(name, set())
            begun.intersection_update(self.holds[name])
            room = self.facts[name].slots - len(begun)
            fresh = [key for key in self.some(name) if key not in begun][: max(0, room)]
            begun.update(fresh)
            self.core.begun(name, [*fresh, (10**6, 0)])

    def return_(self) -> None:
        """A manager that was given up is heard again, in one of two ways, and still finishes things."""
        if not self.away:
            return
        name = self.rng.choice(list(self.away))
        facts = self.away.pop(name)
        if self.core.revive(name, self.now) is None:
            stale = [key for key in self.submitted if self.answers[key]][:3]
            self.core.register(manager(name, facts.slots, facts.prefetch, facts.block, stale), self.now)
            assert self.core.finish(name, [Result(*key, Status.OK) for key in stale], self.now) == []
        self.holds[name], self.functions[name] = {}, self.functions[name]

    def reconnect(self) -> None:
        """A connection breaks and is found again; some of what was on the way is gone."""
        if self.holds:
            name = self.rng.choice(list(self.holds))
            kept = self.some(name)
            f = self.facts[name]
            known = self.core.register(manager(name, f.slots, f.prefetch, f.block, kept), self.now)
            self.functions[name] = set()
            assert not known.ghosts
            begun = self.begun.get(name, set())
            assert all(key in begun for key in known.lost.begun) and not begun & set(known.lost.unstarted)
            for key in [*known.lost.begun, *known.lost.unstarted]:
                self.answers[key] += 1
                del self.holds[name][key]

    def relent(self) -> None:
        """Somebody has waited for long enough."""
        before = set(self.core._queue.avoiding.keys)
        self.now += self.rng.choice([1.0, PATIENCE])
        self.core.relent(self.now)
        self.relented |= before - self.core._queue.avoiding.keys

    def may_have(self, sent: Task, to: Any) -> bool:
        """Whether a manager may get a task, because nobody is there who is better for it."""
        key = (sent.task, sent.attempt)
        if sent.needs is None or not sent.needs.avoid or not sent.needs.firm or key in self.relented:
            return True
        return to.open and self.best(sent.needs.avoid, to) == max(
            self.best(sent.needs.avoid, m) for m in self.core.managers.values() if m.open
        )

    @staticmethod
    def best(places: list[tuple[str, str]], to: Any) -> int:
        """How well a manager suits a task that avoids some places: 0 to 2."""
        if to.facts.host not in {host for _, host in places}:
            return 2
        return int(to.name not in {name for name, _ in places})

    def hand_out(self) -> None:
        waiting = [key for key, place in self.core.places() if not place]
        for part in self.core.assign():
            name, to = part.manager.name, part.manager
            assert to.open and part.tasks
            assert to.used <= to.slots + to.prefetch, "credit exceeded"
            self.functions[name].update(part.functions)
            for sent in part.tasks:
                key = (sent.task, sent.attempt)
                assert key in waiting and sent is self.submitted[key]
                assert sent.function in self.functions[name], "a body is missing"
                assert self.may_have(sent, to), "there was a better place"
                self.holds[name][key] = sent
        left = [self.submitted[key] for key, place in self.core.places() if not place]
        strict = self.core._queue.avoiding.keys
        for one in left:
            key = (one.task, one.attempt)
            assert key not in strict or (one.needs is not None and one.needs.avoid)
            able = [m for m in self.core.managers.values() if m.open and (key not in strict or self.may_have(one, m))]
            assert all(m.used >= m.slots + m.prefetch for m in able)

    def settle(self) -> None:
        """Everything ends; every attempt was answered exactly once."""
        self.come() if not self.holds else None
        for _ in range(10_000):
            self.relent()
            if not any(True for _ in self.core.places()):
                break
            if not any(m.open and not m.ghosts for m in self.core.managers.values()):
                name = f"last{self.next}-{len(self.facts)}"
                self.facts[name] = manager(name, 4)
                self.holds[name], self.functions[name] = {}, set()
                self.core.register(self.facts[name], self.now)
            self.hand_out()
            for name in list(self.holds):
                self.result(name, list(self.holds[name]), Status.OK)
        assert set(self.answers) == set(self.submitted)
        assert set(self.answers.values()) == {1} or not self.submitted


@pytest.mark.parametrize("seed", range(60))
def test_random_walk(seed: int) -> None:
    """Whatever happens, each attempt is in one place at a time and answered once, and no manager gets too much."""
    walk = Walk(seed)
    for _ in range(150):
        walk.step()
    walk.settle()


def test_first_come_first_served() -> None:
    """Tasks without priority run in the order in which they came."""
    core = Dispatcher()
    core.submit(map(task, range(5)))
    core.register(manager("m", 3), 0.0)
    assert given(core) == {"m": [0, 1, 2]}
    core.finish("m", [ok(1)], 1.0)
    assert given(core) == {"m": [3]}


def test_priorities() -> None:
    """Higher priorities run first, the usual one is 0, equal ones keep their order."""
    core = Dispatcher()
    core.submit([task(1, -1), task(2), task(3, 5), task(4), task(5, 5), task(6, 0.5), task(7, -3)])
    core.register(manager("m", 7), 0.0)
    assert given(core) == {"m": [3, 5, 6, 2, 4, 1, 7]}


def test_given_back_tasks_keep_their_place() -> None:
    """What a leaving manager gives back runs next, in its old order, and the manager gets nothing more."""
    core = Dispatcher()
    core.register(manager("m", 3), 0.0)
    core.submit(map(task, range(6)))
    given(core)
    assert core.finish("m", [Result(1, 0, Status.WITHDRAWN), Result(2, 0, Status.WITHDRAWN)], 1.0) == []
    assert given(core) == {}
    core.register(manager("n", 3), 2.0)
    assert given(core) == {"n": [1, 2, 3]}


def test_tasks_go_to_where_their_objects_are() -> None:
    """A task goes to an idle manager that has what it uses, before others that came first; to any if that is busy."""
    core = Dispatcher()
    for name in ("a", "b", "c"):
        core.register(manager(name), 0.0)
    core.submit([task(1), task(2, near="a"), task(3, near="a"), task(4, near="gone")])
    assignments = given(core)
    assert assignments["a"] == [2] and sorted(assignments["b"] + assignments["c"]) == [1, 3]
    assert next(core.places()) == ((4, 0), "")
    core.finish("a", [ok(2)], 1.0)
    core.submit([task(5, near="a")])
    assert given(core) == {"a": [5]}, "the one that waited for any manager had had its turn"


def test_priority_comes_before_nearness() -> None:
    """A task that is near what it uses does not overtake a more important one."""
    core = Dispatcher()
    core.register(manager("a"), 0.0)
    core.submit([task(1, 5), task(2, near="a"), task(3, 7, near="a")])
    assert given(core) == {"a": [3]}


def test_spread_is_even() -> None:
    """A few tasks go to different managers, whatever their sizes."""
    core = Dispatcher()
    for n in range(4):
        core.register(manager(f"m{n}", 64), 0.0)
    core.submit(map(task, range(4)))
    assert sorted(given(core)) == ["m0", "m1", "m2", "m3"]
    core.submit(map(task, range(4, 128)))
    sizes = [len(tasks) for tasks in given(core).values()]
    assert sum(sizes) == 124 and max(sizes) - min(sizes) <= 64 // 8


@pytest.mark.parametrize(("selector", "first"), [("block", "young"), ("pack", "busy")])
def test_other_selectors(selector: str, first: str) -> None:
    """The selector "block" fills the newest block first, "pack" the busiest manager."""
    core = Dispatcher(selector)
    names = {"young": "10", "busy": "8", "old": "9"}
    core.register(manager("busy", 8, block="8"), 0.0)
    core.submit(map(task, range(2)))
    given(core)
    for name in ("young", "old"):
        core.register(manager(name, 8, block=names[name]), 0.0)
    core.submit(map(task, range(2, 7)))
    assert given(core) == {first: [2, 3, 4, 5, 6]}


def test_unknown_selector() -> None:
    """A selector that does not exist is refused with those that do."""
    with pytest.raises(ValueError, match="spread"):
        Dispatcher("sprad")


def test_prefetch_follows_the_length_of_tasks() -> None:
    """Nothing is prefetched before the first result; much for short tasks; nothing again once they are long."""
    core = Dispatcher()
    core.register(manager("m", 2, prefetch=-1), 0.0)
    core.submit(map(task, range(10_000)))
    assert len(given(core)["m"]) == 2
    core.finish("m", [ok(0, 0.0001), ok(1, 0.0001)], 1.0)
    many = given(core)["m"]
    assert 200 < len(many) < 2000
    core.finish("m", [ok(n, 3 * LONG_TASK) for n in many[:3]], 2.0)
    assert given(core) == {}
    assert core.managers["m"].prefetch == 0


def test_given_prefetch_is_used() -> None:
    """A prefetch that the user chose is kept, however long the tasks are."""
    core = Dispatcher()
    core.register(manager("m", 2, prefetch=3), 0.0)
    core.submit(map(task, range(10)))
    assert len(given(core)["m"]) == 5
    core.finish("m", [ok(0, 1000.0)], 1.0)
    assert len(given(core)["m"]) == 1


def test_prefetched_tasks_are_stolen_for_idle_workers() -> None:
    """Tasks that only wait at one manager are asked back for another that idles."""
    core = Dispatcher()
    core.register(manager("m", 1, prefetch=4), 0.0)
    core.submit(map(task, range(5)))
    given(core)
    assert not core.imbalanced
    core.register(manager("n", 2), 1.0)
    given(core)
    assert core.imbalanced
    ((victim, keys),) = core.steal()
    assert (victim.name, keys) == ("m", [(4, 0), (3, 0)])
    assert core.steal() == [], "they have been asked for"
    assert core.finish("m", [Result(4, 0, Status.WITHDRAWN)], 2.0) == []
    assert core.not_cancelled([(3, 0)]) == []
    assert given(core) == {"n": [4]}
    assert core.managers["m"].open


def test_urgent_task_overtakes_prefetched_ones() -> None:
    """With every place taken, a more important task makes room by taking a prefetched one back."""
    core = Dispatcher()
    core.register(manager("m", 1, prefetch=2), 0.0)
    core.submit(map(task, range(3)))
    given(core)
    core.submit([task(7, 1.0)])
    assert given(core) == {} and core.imbalanced
    assert [(v.name, k) for v, k in core.steal()] == [("m", [(2, 0)])]
    core.finish("m", [Result(2, 0, Status.WITHDRAWN)], 1.0)
    assert given(core) == {"m": [7]}


def test_cancel() -> None:
    """Waiting attempts are withdrawn at once, those at managers are asked for, others are unknown."""
    core = Dispatcher()
    core.register(manager("m", 1), 0.0)
    core.submit([task(1), task(2)])
    given(core)
    done = core.cancel([(1, 0), (2, 0), (3, 0)])
    assert done.withdrawn == [(2, 0)] and done.unknown == [(3, 0)]
    assert [(m.name, keys) for m, keys in done.ask] == [("m", [(1, 0)])]
    assert [r.status for r in core.finish("m", [Result(1, 0, Status.WITHDRAWN)], 1.0)] == [Status.WITHDRAWN]
    assert core.managers["m"].open, "it was asked for, so it does not mean that the manager leaves"
    assert list(core.places()) == []


def test_late_results_are_dropped() -> None:
    """After a manager was given up, its results change nothing, and its room counts as taken until they came."""
    core = Dispatcher()
    core.register(manager("m", 2), 0.0)
    core.submit(map(task, range(2)))
    given(core)
    assert core.lose("m") == ([(0, 0), (1, 0)], [])
    back = core.revive("m", 5.0)
    assert back is not None and back.ghosts == [(0, 0), (1, 0)]
    core.submit([task(0, attempt=1), task(1, attempt=1)])
    assert given(core) == {}
    assert core.finish("m", [ok(0)], 6.0) == []
    assert given(core) == {"m": [0]}
    assert core.dropped == 1


def test_reconnection_keeps_what_runs() -> None:
    """A manager that registers again keeps what it says it has; the rest is lost; the results of both connections count."""
    core = Dispatcher()
    core.register(manager("m", 3), 0.0)
    core.submit(map(task, range(3)))
    given(core)
    assert [r.task for r in core.finish("", [ok(0)], 1.0)] == [0], "sent before the registration, on the new connection"
    again = core.register(manager("m", 3, running=[(1, 0), (77, 0)]), 2.0)
    assert again.lost == ([], [(2, 0)]) and again.ghosts == [(77, 0)]
    assert [r.task for r in core.finish("m", [ok(1), ok(2)], 3.0)] == [1]


def test_unsent_tasks_are_queued_again() -> None:
    """What could not be sent is given to others, and the manager waits for its next registration."""
    core = Dispatcher()
    core.register(manager("m", 2), 0.0)
    core.submit(map(task, range(2)))
    (part,) = core.assign()
    core.cut(part)
    core.check_invariants()
    assert given(core) == {}
    core.register(manager("n", 1), 1.0)
    assert given(core) == {"n": [0]}
    core.register(manager("m", 1), 2.0)
    (part,) = core.assign()
    assert part.functions == [1], "the body did not arrive either"


def _lost_with(prefetch: int, begun: list[int], *tasks: Task, for_good: bool = True) -> tuple[Any, dict[str, Any]]:
    """What goes with a manager of two workers that has these tasks; what another one of two gets then."""
    core = Dispatcher()
    core.register(manager("m", 2, prefetch), 0.0)
    core.submit(tasks)
    given(core)
    core.begun("m", [(number, 0) for number in begun])
    core.register(manager("n", 9), 1.0)
    core.drain("n")
    lost = core.lose("m", for_good=for_good)
    core.register(manager("o", 9), 2.0)
    return lost, given(core)


def test_lost_managers_cost_only_what_has_begun() -> None:
    """What a dead manager's workers had not begun is queued again as it is, in its order, before others."""
    lost, after = _lost_with(3, [1, 3], *map(task, range(6)))
    assert lost == ([(1, 0), (3, 0)], [])
    assert after == {"o": [0, 2, 4, 5]}


def test_workers_of_which_nothing_is_known_run_what_came_first() -> None:
    """A worker may have begun a task in the last moment: the most important that the manager got first."""
    assert _lost_with(3, [3], *map(task, range(5)))[0].begun == [(0, 0), (3, 0)]
    assert _lost_with(3, [], task(0), task(1), task(2, 5.0))[0].begun == [(2, 0), (0, 0)]


def test_silent_managers_tasks_get_another_attempt() -> None:
    """A manager that may come back keeps its attempts; those that had not begun are told apart."""
    lost, after = _lost_with(3, [0, 1], *map(task, range(4)), for_good=False)
    assert lost == ([(0, 0), (1, 0)], [(2, 0), (3, 0)])
    assert after == {}


def test_a_manager_that_said_goodbye_had_begun_nothing_more() -> None:
    """It answered what it had, so what is left never reached it."""
    core = Dispatcher()
    core.register(manager("m", 2), 0.0)
    core.submit(map(task, range(2)))
    given(core)
    assert core.lose("m", for_good=True, answered=True) == ([], [])
    assert core.waiting == 2


def test_a_task_that_is_always_there_when_managers_die_pays_at_last() -> None:
    """Losses before the beginning cost nothing, but not for ever: the manager may die of receiving the task."""
    core = Dispatcher()
    core.submit([task(7)])
    for n in range(MOST_SPARED):
        core.register(manager(f"m{n}"), 0.0)
        assert given(core) == {f"m{n}": [7]}
        assert core.lose(f"m{n}", for_good=True, answered=True) == ([], [])
    core.register(manager("last"), 0.0)
    given(core)
    assert core.lose("last", for_good=True, answered=True) == ([(7, 0)], [])


def test_cancelled_attempts_of_a_dead_manager_stay_away() -> None:
    """What the driver wanted to cancel is answered, not queued again."""
    core = Dispatcher()
    core.register(manager("m", 1, 2), 0.0)
    core.submit(map(task, range(3)))
    given(core)
    core.begun("m", [(0, 0)])
    core.begun("stranger", [(1, 0)])
    core.cancel([(1, 0)])
    assert core.lose("m", for_good=True) == ([(0, 0)], [(1, 0)])
    assert [key for key, _ in core.places()] == [(2, 0)]


def places(core: Dispatcher, *avoid: tuple[str, str], firm: bool = True, priority: float = 0.0) -> dict[str, list[int]]:
    """Where task 9 goes, which avoids some places."""
    core.submit([task(9, priority, 1, avoid=list(avoid), firm=firm)])
    return given(core)


def test_failed_tasks_go_to_another_host() -> None:
    """Another host is better than another manager of the same one, and that is better than the same."""
    core = Dispatcher("pack")
    for name, host in (("a", "x"), ("b", "x"), ("c", "y")):
        core.register(manager(name, 9, host=host), 0.0)
    assert places(core, ("a", "x")) == {"c": [9]}
    core.finish("c", [ok(9, attempt=1)], 1.0)
    assert places(core, ("a", "x"), ("c", "y")) == {"b": [9]}
    core.finish("b", [ok(9, attempt=1)], 1.0)
    core.drain("b")
    core.drain("c")
    assert places(core, ("a", "x")) == {"a": [9]}, "nobody else takes tasks"


def test_failed_tasks_wait_for_room_elsewhere() -> None:
    """A task waits for a place where it has not failed, before others that come later, but not for ever."""
    core = Dispatcher()
    core.register(manager("a", 1, host="x"), 0.0)
    core.register(manager("b", 1, host="y"), 0.0)
    core.submit([task(1), task(2)])
    at = {tasks[0]: name for name, tasks in given(core).items()}
    one, two = at[1], at[2]
    host = core.managers[one].facts.host
    assert places(core, (one, host)) == {}
    core.finish(one, [ok(1)], 1.0)
    assert given(core) == {}, "it waits beside an idle worker"
    assert core.waiting == 1
    assert core.held() == [(9, 1), (2, 0)]
    core.submit([task(3)])
    assert given(core) == {one: [3]}
    core.submit([task(4)])
    core.finish(two, [ok(2)], 2.0)
    assert given(core) == {two: [9]}
    core.finish(one, [ok(3)], 3.0)
    assert given(core) == {one: [4]}
    core.finish(one, [ok(4)], 3.0)
    core.submit([task(10, 0.0, 1, avoid=[(one, host)])])
    core.relent(3.0)
    core.relent(3.0 + PATIENCE - 1)
    assert given(core) == {}
    core.relent(3.0 + PATIENCE)
    assert given(core) == {one: [10]}


def test_exceptions_are_worth_no_wait() -> None:
    """After an exception of the app another place is taken if it is free, else any."""
    core = Dispatcher()
    core.register(manager("a", 2, host="x"), 0.0)
    core.register(manager("b", 1, host="y"), 0.0)
    assert places(core, ("a", "x"), firm=False) == {"b": [9]}
    core.submit([task(10, 0.0, 1, avoid=[("a", "x")], firm=False)])
    assert given(core) == {"a": [10]}


def test_failed_tasks_respect_priorities_and_can_be_withdrawn() -> None:
    """What is more important goes first; one that waits for another place is cancelled like any other."""
    core = Dispatcher()
    core.register(manager("a", 1, host="x"), 0.0)
    core.submit([task(1), task(2, 5.0)])
    assert given(core) == {"a": [2]}
    core.register(manager("b", 1, host="y"), 0.0)
    core.submit([task(3, 5.0)])
    assert places(core, ("a", "x"), priority=1.0) == {"b": [3]}
    assert core.cancel([(9, 1)]).withdrawn == [(9, 1)]
    core.check_invariants()
    core.finish("b", [ok(3)], 1.0)
    assert given(core) == {"b": [1]}


def test_what_avoids_an_idle_place_is_not_stolen_for_it() -> None:
    """A prefetched task is taken back for an idle worker only if it may run there."""
    core = Dispatcher("pack")
    core.register(manager("a", 1, host="x"), 0.0)
    core.register(manager("b", 1, 3, host="y"), 0.0)
    core.hold("a")
    core.submit([task(1), task(2, 0.0, 1, avoid=[("a", "x")]), task(3)])
    assert sorted(given(core)["b"]) == [1, 2, 3]
    core.release("a")
    assert [(m.name, keys) for m, keys in core.steal()] == [("b", [(3, 0)])]


def test_idle_blocks() -> None:
    """A block is idle for as long as all its managers are."""
    core = Dispatcher("block")
    for name, block in (("a", "1"), ("b", "1"), ("c", "0")):
        core.register(manager(name, 1, block=block), 10.0)
    core.submit([task(1)])
    given(core)
    assert core.idle_blocks(15.0) == {"1": 0.0, "0": 5.0}
    core.finish("b", [ok(1)], 16.0)
    assert core.idle_blocks(20.0) == {"1": 4.0, "0": 10.0}


def test_memory_of_withdrawn_tasks_is_freed() -> None:
    """A queue of which most was withdrawn holds little more than what is left."""
    core = Dispatcher()
    core.submit(map(task, range(10_000)))
    for n in range(9_990):
        core.cancel([(n, 0)])
    assert core.waiting == 10
    assert len(core._queue._fifo) <= 128


def test_adopts_what_a_former_interchange_gave_out() -> None:
    """Attempts that managers bring along are answered as if given here; what is taken back goes to the driver."""
    core = Dispatcher()
    core.submit([task(7)])
    core.register(manager("a", 4, running=[(1, 0), (2, 1), (7, 0)]), 0.0, adopt=True)
    core.check_invariants()
    assert sorted(core.held()) == [(1, 0), (2, 1), (7, 0)]
    assert core.managers["a"].ghosts == {(7, 0)}, "an attempt that waits here was not given to it by anybody"
    assert core.finish("a", [ok(1)], 1.0) == [ok(1)]
    withdrawn = Result(2, 1, Status.WITHDRAWN)
    assert core.finish("a", [withdrawn], 1.0) == [withdrawn]
    assert not core.managers["a"].draining
    core.check_invariants()
    core.register(manager("b", running=[(9, 0)]), 0.0)
    assert core.managers["b"].ghosts == {(9, 0)}, "later ones are nobody's"


def seconds_per_task(managers: int, slots: int) -> float:
    """Processor seconds for one task to end and the next to start; the least of several rounds."""
    core = Dispatcher()
    for n in range(managers):
        core.register(manager(f"m{n}", slots), 0.0)
    rounds, each = 8, 500
    core.submit(map(task, range(managers * slots + rounds * each)))
    core.assign()
    rng = random.Random(1)
    names = [f"m{n}" for n in range(managers)]
    least = math.inf
    for _ in range(rounds):
        began, done = time.process_time(), 0
        while done < each:
            running = core.managers[rng.choice(names)].running
            results = [Result(*key, Status.OK, b"", 1.0, 2.0) for key in list(running)[:4]]
            core.finish("m0", results, 1.0)
            core.assign()
            done += len(results)
        least = min(least, (time.process_time() - began) / done)
    return least


def test_work_per_task_does_not_grow() -> None:
    """However many managers there are, and however long the queue is."""
    one = seconds_per_task(1, 8)
    assert seconds_per_task(50, 8) < 5 * one
    assert seconds_per_task(1000, 8) < 5 * one
