"""Which task goes to which manager: the decisions of the interchange, without its sockets and clocks.

Tasks wait in one queue (``taskqueue``); managers have credit: workers, plus a prefetch that keeps a little short work
at hand there (``managers``).  Managers that can take more are kept in order (``ranks``), so that neither a task nor a
result costs more with a thousand managers than with one.  Nothing here looks at all managers but questions and
``silent``, once per tick.

An attempt is in exactly one place: waiting here, at one manager, or answered.  Whatever is said about an attempt that
is nowhere is dropped, so the driver gets one answer per attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Any, NamedTuple

from flowlib.executors.high_throughput.avoidance import Group
from flowlib.executors.high_throughput.endings import LOOK, Endings, limit_of
from flowlib.executors.high_throughput.managers import NOWHERE, Key, Manager
from flowlib.executors.high_throughput.messages import Needs, Register, Result, Status, Task
from flowlib.executors.high_throughput.packing import Lane, Packing
from flowlib.executors.high_throughput.ranks import Ranks
from flowlib.executors.high_throughput.taskqueue import TaskQueue

_WITHDRAWN = int(Status.WITHDRAWN)
_WHOLE = (int(Status.OK), int(Status.STORED))
_REMEMBERED = 1000
MOST_SPARED = 10
"""Losses of managers that cost a task nothing because it had not begun. Were there more, it could be their cause."""
ADOPTED = -1
"""Function number of an attempt that a former interchange gave out: what it consists of is not known here."""


class Assignment(NamedTuple):
    """Tasks for a manager.

    Attributes:
        manager: The manager.
        tasks: In the order in which it should start them.
        functions: Numbers of functions whose bodies it needs with them.
    """

    manager: Manager
    tasks: list[Task]
    functions: list[int]


class Cancelled(NamedTuple):
    """What became of a request to cancel.

    Attributes:
        withdrawn: Were waiting here and are gone.
        unknown: Ended, or were never here.
        ask: What their managers must be asked.
    """

    withdrawn: list[Key]
    unknown: list[Key]
    ask: list[tuple[Manager, list[Key]]]


class Losses(NamedTuple):
    """Attempts that went with a manager, beside those that are queued again.

    Attributes:
        begun: Those that its workers ran.
        unstarted: The others.
    """

    begun: list[Key]
    unstarted: list[Key]


class Registration(NamedTuple):
    """What a registration brings to light.

    Attributes:
        manager: The manager.
        lost: Attempts that it should have and does not. They never reached it, so they have not begun, but for those
            to which that happened too often.
        ghosts: Attempts that it has and nobody waits for.
    """

    manager: Manager
    lost: Losses
    ghosts: list[Key]


class Dispatcher:
    """The queue and the managers.

    Args:
        selector: One of ``ranks.SELECTORS``.

    Attributes:
        managers: Those that are there, by name.
        dropped: Results that nobody waited for.

    Raises:
        ValueError: An unknown selector.

    Example:
        >>> core = Dispatcher()
        >>> core.submit([Task(1, 0, 7, b""), Task(2, 0, 7, b"")])
        >>> _ = core.register(Register(1, "3.11", "1", "m", "0", "host", 1, slots=1), now=0.0)
        >>> [(a.manager.name, [t.task for t in a.tasks], a.functions) for a in core.assign()]
        [('m', [1], [7])]
        >>> [r.task for r in core.finish("m", [Result(1, 0, Status.OK)], now=1.0)]
        [1]
    """

    def __init__(self, selector: str = "spread") -> None:
        self.managers: dict[str, Manager] = {}
        self.dropped = 0
        self._gone: dict[str, Manager] = {}
        self._queue = TaskQueue()
        self._endings = Endings()
        self._packing = Packing(self._endings)
        # Tasks that were taken out of the queue, in all: who waits in ``_packing`` has a turn by this count.
        self._taken = 0
        self._at: dict[Key, Manager] = {}
        self._cancelling: set[Key] = set()
        self._stealing: set[Key] = set()
        self._spared: dict[int, int] = {}
        self._ranks = Ranks(selector)
        self._dirty: set[Manager] = set()
        self._over: dict[Manager, None] = {}
        # Tasks that came since ``assign`` and would best go where a large object is.
        self._near: list[Task] = []

    # ---------------------------------------------------------------------------------------------------- the queue

    @property
    def waiting(self) -> int:
        """Tasks that no manager has yet."""
        return len(self._queue.keys) + len(self._packing)

    @property
    def outstanding(self) -> int:
        """Tasks that managers have."""
        return len(self._at)

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue tasks. One that is already here is ignored."""
        waiting, at, put = self._queue.keys, self._at, self._queue.put
        for task in tasks:
            key = (task.task, task.attempt)
            if key in waiting or key in at:
                self.dropped += 1
            elif task.needs is None or not task.needs.resources:
                put(task, key)
                if task.needs is not None:
                    self._note(task, task.needs)
            elif key in self._packing.keys:
                self.dropped += 1
            else:
                ahead = self._queue.early if task.early else self.waiting
                self._packing.put(task, self._taken + ahead, self.managers.values())
                self._note(task, task.needs)

    def _note(self, task: Task, needs: Needs) -> None:
        """Note what a new task wishes beside resources."""
        if needs.near and not needs.avoid and not needs.resources:
            self._near.append(task)
        limit = limit_of(needs)
        if limit is not None:
            self._endings.declare(limit)

    def _put_back(self, tasks: Sequence[Task]) -> None:
        """Queue tasks before all others of their priority, in this order."""
        self._taken -= len(tasks)
        plain: list[Task] = []
        for task in reversed(tasks):
            if task.needs is None or not task.needs.resources:
                plain.append(task)
            else:
                self._packing.put(task, 0, self.managers.values(), front=True)
        self._queue.put_back(plain[::-1])

    @property
    def has_fresh(self) -> bool:
        """Whether requests have come that ``impossible`` has not looked at."""
        return self._packing.fresh or self._endings.fresh

    def impossible(self) -> list[tuple[Task, tuple[str, Any, Any]]]:
        """Take out tasks that ask for more than any manager has: with the resource, the amount, the most there is."""
        found = self._packing.impossible(self.managers.values())
        return found + self._too_long() if self._endings.fresh else found

    def _too_long(self) -> list[tuple[Task, tuple[str, Any, Any]]]:
        """Take out tasks that declare to take longer than any manager lives."""
        found: list[tuple[Task, tuple[str, Any, Any]]] = []
        for task in (*self._queue.tasks(), *self._queue.avoiding.tasks(), *self._packing.tasks()):
            limit = limit_of(task.needs)
            there = self._endings.impossible(limit)
            if there is not None:
                found.append((task, ("walltime", limit, there)))
        keys = [(task.task, task.attempt) for task, _ in found]
        self._queue.withdraw(keys)
        self._packing.withdraw(keys)
        self._taken += len(keys)
        self._endings.refused()
        return found

    def held(self) -> list[Key]:
        """All attempts that are here or at managers."""
        return [*self._queue.keys, *self._packing.keys, *self._at]

    def cancel(self, keys: Iterable[Key]) -> Cancelled:
        """Withdraw attempts for the driver. Those at managers are answered when the managers have answered."""
        withdrawn: dict[Key, None] = {}
        unknown: list[Key] = []
        ask: dict[Manager, list[Key]] = {}
        for key in keys:
            manager = self._at.get(key)
            if manager is not None:
                self._cancelling.add(key)
                ask.setdefault(manager, []).append(key)
            elif (key in self._queue.keys or key in self._packing.keys) and key not in withdrawn:
                withdrawn[key] = None
            else:
                unknown.append(key)
        waiting = self.waiting
        self._queue.withdraw(withdrawn)
        self._packing.withdraw(withdrawn)
        self._taken += waiting - self.waiting
        return Cancelled(list(withdrawn), unknown, list(ask.items()))

    # -------------------------------------------------------------------------------------------------- the managers

    def register(self, facts: Register, now: float, *, adopt: bool = False) -> Registration:
        """A manager came, or came back on a new connection.

        Args:
            facts: What it says of itself.
            now: The time.
            adopt: Whether attempts that it has and that are unknown here were given to it by a former interchange, and
                are to be answered.
        """
        name = facts.manager
        known = self.managers.get(name)
        reported = {(task, attempt) for task, attempt in facts.running}
        needs = {(task, attempt): given for task, attempt, given in facts.needs}
        lost = Losses([], [])
        manager = Manager(facts, self._ranks.order(facts.block), now)
        if known is not None:
            self._ranks.remove(known)
            self._over.pop(known, None)
            self._dirty.discard(known)
            self._packing.gone(known)
            self._endings.gone(known, ())
            for key, task in known.running.items():
                if key in reported:
                    manager.running[key] = task
                    self._at[key] = manager
                    holding = known.holding(key)
                    if holding is not None:
                        manager.hold_again(key, holding)
                else:
                    self._forget(key)
                    spared = key not in known.begun and self._spare_loss(key)
                    (lost.unstarted if spared else lost.begun).append(key)
            manager.begun = known.begun & manager.running.keys()
            manager.duration, manager.prefetch = known.duration, known.prefetch
            manager.draining, manager.held = known.draining, known.held
        if adopt:
            for key in reported:
                if key not in self._at and key not in self._queue.keys and key not in self._packing.keys:
                    manager.running[key] = Task(*key, ADOPTED, b"", needs.get(key))
                    self._at[key] = manager
        self._gone.pop(name, None)
        manager.ghosts = {key for key in reported if key not in manager.running}
        for key in needs.keys() & reported:
            manager.hold_given(key, needs[key])
        self._enter(manager)
        return Registration(manager, lost, sorted(manager.ghosts))

    def _enter(self, manager: Manager) -> None:
        self.managers[manager.name] = manager
        self._dirty.add(manager)
        self._endings.come(manager, self.managers.values())

    def revive(self, name: str, now: float) -> Registration | None:
        """A manager that was given up is heard of again; None if nothing is remembered of it."""
        gone = self._gone.pop(name, None)
        if gone is None:
            return None
        manager = Manager(gone.facts, gone.order, now)
        manager.ghosts = set(gone.ghosts)
        for key in gone.ghosts:
            holding = gone.holding(key)
            if holding is not None:
                manager.hold_again(key, holding)
        manager.known = gone.known
        manager.draining, manager.held, manager.end = gone.draining, gone.held, gone.end
        self._enter(manager)
        return Registration(manager, Losses([], []), sorted(manager.ghosts))

    def lose(self, name: str, *, for_good: bool = False, answered: bool = False) -> Losses:
        """A manager is given up, or left.

        Args:
            name: The manager.
            for_good: It is known to have ended, so that it cannot come back. What it had not begun is queued again.
            answered: It has said what became of everything that reached it.

        Returns:
            What the driver is to be told.
        """
        manager = self.managers.pop(name, None)
        if manager is None:
            return Losses([], [])
        self._ranks.remove(manager)
        self._over.pop(manager, None)
        self._dirty.discard(manager)
        self._packing.gone(manager)
        self._endings.gone(manager, self.managers.values())
        losses, again = self._judge(manager, set() if answered else manager.may_have_begun(), for_good)
        for key in manager.running:
            self._forget(key)
        self._put_back(again)
        if not for_good:
            manager.ghosts.update(manager.running)
            manager.running.clear()
            self._gone[name] = manager
            if len(self._gone) > _REMEMBERED:
                del self._gone[next(iter(self._gone))]
        return losses

    def _judge(self, manager: Manager, begun: set[Key], for_good: bool) -> tuple[Losses, list[Task]]:
        """What went with a manager, and what of it can be queued again as it is."""
        losses = Losses([], [])
        again: list[Task] = []
        for key, task in manager.running.items():
            if key in begun or not self._spare_loss(key):
                losses.begun.append(key)
            elif for_good and task.function != ADOPTED and key not in self._cancelling:
                again.append(task)
            else:
                losses.unstarted.append(key)
        return losses, again

    def _spare_loss(self, key: Key) -> bool:
        """Whether a loss may cost a task nothing."""
        losses = self._spared[key[0]] = self._spared.get(key[0], 0) + 1
        return losses <= MOST_SPARED

    def _forget(self, key: Key) -> None:
        self._at.pop(key, None)
        self._cancelling.discard(key)
        self._stealing.discard(key)

    def _forgive(self, results: Iterable[Result]) -> None:
        for result in results:
            self._spared.pop(result.task, None)

    def begun(self, name: str, keys: Iterable[Key]) -> None:
        """A manager's workers run these."""
        manager = self.managers.get(name)
        if manager is not None:
            manager.begun.update(key for key in keys if key in manager.running)

    def running(self, name: str, keys: Iterable[Key]) -> list[Key]:
        """Those of some attempts that a manager's workers run, as far as it said so."""
        manager = self.managers.get(name)
        return [] if manager is None else [key for key in keys if key in manager.begun]

    def heard(self, name: str, now: float) -> None:
        """A manager gave a sign of life."""
        manager = self.managers.get(name)
        if manager is not None:
            manager.heard = now

    def silent(self, since: float) -> list[Manager]:
        """Managers that were last heard of before ``since``."""
        return [m for m in self.managers.values() if m.heard < since]

    def drain(self, name: str) -> bool:
        """Give a manager no more tasks, because it is to leave. Whether that is news."""
        manager = self.managers.get(name)
        if manager is None or manager.draining:
            return False
        manager.draining = True
        self._dirty.add(manager)
        return True

    def sever(self, name: str) -> None:
        """The connection to a manager is gone: it gets no more tasks until it registers again, or is lost."""
        manager = self.managers.get(name)
        if manager is not None:
            manager.cut = True
            self._dirty.add(manager)

    def hold(self, name: str) -> bool:
        """Give a manager no more tasks. Whether there is such a manager."""
        manager = self.managers.get(name)
        if manager is None:
            return False
        manager.held = True
        self._dirty.add(manager)
        return True

    def release(self, name: str) -> None:
        """Give a manager tasks again after ``hold``."""
        manager = self.managers.get(name)
        if manager is not None:
            manager.held = False
            self._dirty.add(manager)

    def of_block(self, block: str) -> list[Manager]:
        """The managers of a block."""
        return [m for m in self.managers.values() if m.facts.block == block]

    def idle_blocks(self, now: float) -> dict[str, float]:
        """For each block with managers: the seconds for which all of them have been idle; 0 for busy ones."""
        idle: dict[str, float] = {}
        for manager in self.managers.values():
            seconds = 0.0 if manager.used else now - manager.idle_since
            block = manager.facts.block
            idle[block] = min(idle.get(block, seconds), seconds)
        return idle

    def running_in_blocks(self) -> dict[str, int]:
        """For each block with managers: the tasks they have."""
        running: dict[str, int] = {}
        for manager in self.managers.values():
            block = manager.facts.block
            running[block] = running.get(block, 0) + manager.used
        return running

    def asked(self) -> tuple[list[tuple[dict[str, Any], int]], int]:
        """What waiting tasks ask for, with their number; and the slots that tasks take beyond one each."""
        return self._packing.asked(), sum(manager.extra for manager in self.managers.values())

    def forget_functions(self, functions: Iterable[int]) -> None:
        """These functions are not used any more."""
        gone = set(functions)
        self._endings.forget(gone)
        for manager in self.managers.values():
            manager.known -= gone

    # -------------------------------------------------------------------------------------------------- what happens

    def finish(self, sender: str, results: Sequence[Result], now: float) -> list[Result]:
        """Results came from a manager.

        Args:
            sender: The manager's name. It need not be registered: a connection that was lost and found again may
                bring results before the registration.
            results: What it says.
            now: The time.

        Returns:
            What the driver is to be told. Tasks that were given back without being cancelled are queued again.
        """
        at, floor = self._at, self._endings.floor
        accepted: list[Result] = []
        returned: list[Task] = []
        seconds, timed = 0.0, 0
        last: Manager | None = None
        for result in results:
            key = (result.task, result.attempt)
            manager = at.pop(key, None)
            if manager is None:
                self._drop(sender, key, now)
                continue
            task = manager.running.pop(key)
            if manager.begun or task.needs is not None:
                manager.ended(key)
            if manager is not last:
                self._dirty.add(manager)
                if last is not None:
                    last.rested(now)
                last = manager
            if result.status == _WITHDRAWN and task.function != ADOPTED:
                if not self._was_cancelled(key, manager):
                    returned.append(task)
                    continue
            elif self._cancelling or self._stealing:
                self._cancelling.discard(key)
                self._stealing.discard(key)
            if result.started:
                took = result.ended - result.started
                seconds += took
                timed += 1
                if took > floor:
                    self._endings.learn(task.function, took, whole=result.status in _WHOLE)
            accepted.append(result)
        if self._spared:
            self._forgive(accepted)
        if last is not None:
            if timed:
                last.learn(max(0.0, seconds), timed)
            last.rested(now)
        if returned:
            self._put_back(returned)
        return accepted

    def _was_cancelled(self, key: Key, manager: Manager) -> bool:
        """Whether the driver asked for an attempt that a manager gave back."""
        stolen = key in self._stealing
        self._stealing.discard(key)
        if key in self._cancelling:
            self._cancelling.remove(key)
            return True
        if not stolen:
            # Nobody asked: it is about to leave, and would only give back what it got next.
            self.drain(manager.name)
        return False

    def _drop(self, sender: str, key: Key, now: float) -> None:
        self.dropped += 1
        manager = self.managers.get(sender)
        if manager is not None and key in manager.ghosts:
            manager.ghosts.remove(key)
            manager.release(key)
            self._dirty.add(manager)
            if not manager.used:
                manager.idle_since = now

    def not_cancelled(self, keys: Iterable[Key]) -> list[Key]:
        """A manager could not withdraw these; returns those that the driver asked for."""
        told: list[Key] = []
        for key in keys:
            self._stealing.discard(key)
            if key in self._cancelling:
                self._cancelling.remove(key)
                told.append(key)
        return told

    def assign(self, now: float | None = None) -> list[Assignment]:
        """Give waiting tasks to managers that can take more.

        Args:
            now: The time; None for about when it was told last. Matters only where managers have an end.
        """
        self._refresh()
        queue, ranks = self._queue, self._ranks
        given: dict[Manager, tuple[list[Task], list[int]]] = {}
        if self._endings.active:
            self._assign_ending(given, self._endings.now if now is None else now)
        before = -1
        # Once for nearly all; tasks that avoid places and had to let more important ones go first get another turn.
        while before < 0 or (queue.avoiding.keys and ranks.available and self._taken > before):
            before = self._taken
            if queue.avoiding.keys:
                self._assign_elsewhere(given)
            self._assign_queued(given)
        return [Assignment(manager, tasks, functions) for manager, (tasks, functions) in given.items()]

    def _assign_queued(self, given: dict[Manager, tuple[list[Task], list[int]]]) -> None:
        queue, ranks, at = self._queue, self._ranks, self._at
        turn = self._pack(given) if self._packing.active else None
        if self._near and ranks.available:
            self._give_near(given)
        if not queue or not ranks.available:
            return
        while queue and ranks.available:
            most = len(queue)
            if turn is not None:
                if self._taken >= turn:
                    turn = self._pack(given)
                    continue
                most = min(most, turn - self._taken)
            manager = ranks.pop()
            tasks = queue.take(min(most, ranks.portion(manager, len(queue))))
            self._taken += len(tasks)
            if tasks:
                parts = given.get(manager)
                if parts is None:
                    parts = given[manager] = ([], [])
                parts[0].extend(tasks)
                running, known = manager.running, manager.known
                for task in tasks:
                    key = (task.task, task.attempt)
                    running[key] = task
                    at[key] = manager
                    if task.function not in known:
                        known.add(task.function)
                        parts[1].append(task.function)
            self._place(manager)
        if not queue and self._packing.active:
            self._pack(given)

    def _assign_ending(self, given: dict[Manager, tuple[list[Task], list[int]]], now: float) -> None:
        """Give tasks to managers that end soon, as far as they can end before; these can take nothing else."""
        endings, packing = self._endings, self._packing
        for manager in endings.review(now):
            if packing.active:
                packing.changed(manager)
            self._place(manager)
        if not endings.short or not endings.may_look() or not self.waiting:
            return
        turn = self._pack(given) if packing.active else None
        for manager in endings.by_left():
            if manager.reserved:
                continue
            self._retry_at(manager, given)
            started = self._taken
            while True:
                before = self._taken
                passed = self._fill(manager, turn, given)
                if turn is None or self._taken == before or manager.reserved:
                    break
                turn = self._pack(given)
            if passed >= LOOK:
                endings.found_nothing()
            if passed and self._taken == started and manager.used < manager.slots:
                # Those that have less time left would find nothing, either.
                break

    def _retry_at(self, manager: Manager, given: dict[Manager, tuple[list[Task], list[int]]]) -> None:
        """Give tasks that avoid other places to a manager that ends soon."""
        avoiding = self._queue.avoiding
        for group in avoiding.groups() if avoiding.keys else ():
            first = avoiding.first(group)
            if first is None or manager.used >= manager.slots or not self._endings.fits(first, manager):
                continue
            if group.wish(self.managers.values())(manager):
                group.since = None
                task = avoiding.take(group)
                self._queue.keys.discard((task.task, task.attempt))
                self._hand(manager, task, task, given)

    def _fill(self, manager: Manager, turn: int | None, given: dict[Manager, tuple[list[Task], list[int]]]) -> int:
        """Give a manager that ends soon what fits, until ``turn``; returns how many were passed that do not fit."""
        queue, endings, passed = self._queue, self._endings, 0
        for room, fits in (
            (manager.slots, partial(endings.fits, manager=manager)),
            (manager.slots + manager.prefetch, partial(endings.fits_behind, manager=manager)),
        ):
            most = room - manager.used
            if turn is not None:
                most = min(most, turn - self._taken)
            if most > 0 and queue:
                tasks, looked = queue.pick(most, fits, LOOK)
                passed = max(passed, looked)
                for task in tasks:
                    self._hand(manager, task, task, given)
        self._place(manager)
        return passed

    def recall(self) -> list[tuple[Manager, list[Key]]]:
        """Ask back tasks that have declared how long they take and have not begun where time becomes short.

        Returns:
            What to ask of whom; what comes back is queued again, in front.
        """
        asked: list[tuple[Manager, list[Key]]] = []
        for manager in self._endings.short:
            if len(manager.running) + manager.extra <= manager.slots:
                continue
            keys = [
                key
                for key, task in manager.running.items()
                if limit_of(task.needs) is not None and key not in manager.begun
                if key not in self._stealing and key not in self._cancelling
            ]
            if keys:
                self._stealing.update(keys)
                asked.append((manager, keys))
        return asked

    def useless(self) -> list[Manager]:
        """Managers that end soon, have nothing to do, and are too short for all that waits; asked for at each tick."""
        waiting = len(self._queue) + len(self._packing)
        return self._endings.useless(waiting > 0) if self._endings.short else []

    def _assign_elsewhere(self, given: dict[Manager, tuple[list[Task], list[int]]]) -> None:
        """Give out tasks that avoid places, as far as there is room elsewhere."""
        queue, ranks, avoiding = self._queue, self._ranks, self._queue.avoiding
        for group in avoiding.groups():
            if queue and group.priority < queue.first_priority():
                break
            suits = group.wish(self.managers.values())
            passed: list[Manager] = []
            while ranks.available and avoiding.first(group) is not None:
                manager = ranks.pop()
                if suits(manager):
                    group.since = None
                    task = avoiding.take(group)
                    queue.keys.discard((task.task, task.attempt))
                    self._hand(manager, task, task, given)
                    self._place(manager)
                else:
                    passed.append(manager)
            for manager in passed:
                self._place(manager)
            if ranks.available and not group.firm:
                queue.let_go(group)

    def _hand(
        self, manager: Manager, task: Task, told: Task, given: dict[Manager, tuple[list[Task], list[int]]]
    ) -> None:
        """Give a task that stood beside the queue to a manager, in the form in which that is told."""
        key = (task.task, task.attempt)
        self._taken += 1
        manager.running[key] = task
        self._at[key] = manager
        parts = given.setdefault(manager, ([], []))
        parts[0].append(told)
        if task.function not in manager.known:
            manager.known.add(task.function)
            parts[1].append(task.function)

    def relent(self, now: float) -> None:
        """Let those run anywhere that have waited for too long for another place than where they failed."""
        for group in self._queue.avoiding.expired(now):
            self._queue.let_go(group)
        self._packing.relent(now)
        if self._endings.active:
            self._endings.relax()

    def _pack(self, given: dict[Manager, tuple[list[Task], list[int]]]) -> int | None:
        """Give out tasks that ask for resources, as far as it is their turn.

        Returns:
            When to come back, by ``_taken``; None for not before something happens.
        """
        while True:
            again = self._pack_once(given)
            # A node that is kept no more, because the task went elsewhere, may be what another waits for.
            if not self._place_freed():
                return again

    def _place_freed(self) -> bool:
        freed = [m for m in self._packing.take_freed() if self.managers.get(m.name) is m]
        for manager in freed:
            self._place(manager)
        return bool(freed)

    def _pack_once(self, given: dict[Manager, tuple[list[Task], list[int]]]) -> int | None:
        packing, queue = self._packing, self._queue
        again: int | None = None
        lanes = packing.lanes()
        self._place_freed()
        heap = [(lane.place, n, lane) for n, lane in enumerate(lanes)]
        while heap:
            (_, _, turn), n, lane = heappop(heap)
            if queue and lane.reserved is None:
                first = queue.first_priority()
                if lane.priority < first:
                    if first > 0:
                        urgent = self._taken + max(1, queue.urgent())
                        again = urgent if again is None else min(again, urgent)
                    break
                if lane.priority == first and self._taken < turn:
                    again = turn if again is None else min(again, turn)
                    if lane.early:
                        continue
                    break
            found = packing.find(lane, self.managers.values())
            if found is None:
                kept = packing.reserve(lane, self._taken, self.managers.values())
                if kept is not None:
                    self._place(kept)
                continue
            self._give(lane, found, given)
            if packing.settle(lane):
                heappush(heap, (lane.place, n, lane))
        for _, _, lane in heap:
            # What a manager was kept for gets it, whoever has come since: nobody else can have it.
            if lane.reserved is not None and (found := packing.find(lane, self.managers.values())) is not None:
                self._give(lane, found, given)
        return again

    def _give(self, lane: Lane, manager: Manager, given: dict[Manager, tuple[list[Task], list[int]]]) -> None:
        """Give the first of a lane to a manager that has room for it."""
        task = self._packing.take(lane)
        key = (task.task, task.attempt)
        needs = task.needs
        assert needs is not None
        # Put aside for what is entered in the same step.
        holding = manager.hold(key, lane.asked)
        gpus = [*holding.gpus] if holding.gpus else None
        told = Needs(
            needs.priority,
            needs.walltime,
            needs.resources,
            needs.environment,
            holding.slots,
            gpus,
            objects=needs.objects,
            ranks=needs.ranks,
            nodes=[*holding.nodes] if holding.nodes else None,
        )
        self._hand(manager, task, Task(task.task, task.attempt, task.function, task.payload, told), given)
        self._place(manager)

    def _give_near(self, given: dict[Manager, tuple[list[Task], list[int]]]) -> None:
        """Give tasks to managers that have what they use, where a worker is idle there; the others take their turn."""
        near, self._near = self._near, []
        for task in near:
            key = (task.task, task.attempt)
            assert task.needs is not None
            manager = self.managers.get(task.needs.near)
            if manager is None or key not in self._queue.keys or manager.used >= manager.slots:
                continue
            if self._ranks.rank_of(manager) == NOWHERE:
                continue
            if self._queue.first_priority() > task.needs.priority:
                continue
            self._queue.withdraw([key])
            self._hand(manager, task, task, given)
            self._place(manager)

    def cut(self, assignment: Assignment) -> None:
        """Tasks could not be sent, because the manager's connection is gone: queue them again.

        The manager gets nothing more until it registers again.
        """
        manager = assignment.manager
        self.sever(manager.name)
        tasks: list[Task] = []
        for sent in assignment.tasks:
            key = (sent.task, sent.attempt)
            if self._at.pop(key, None) is not None:
                tasks.append(manager.running.pop(key))
                manager.release(key)
        manager.known.difference_update(assignment.functions)
        self._put_back(tasks)

    @property
    def imbalanced(self) -> bool:
        """Whether ``steal`` could do some good: cheap, and true for good reasons only most of the time."""
        if not self._over:
            return False
        if self._queue:
            return not self._ranks.available and self._queue.first_priority() > 0
        return self._ranks.some_idle()

    def _refresh(self) -> None:
        dirty = self._dirty
        if dirty:
            for manager in dirty:
                if self.managers.get(manager.name) is manager:
                    if self._packing.active:
                        self._packing.changed(manager)
                    self._place(manager)
            dirty.clear()

    def _place(self, manager: Manager) -> None:
        if len(manager.running) + manager.extra > manager.slots:
            self._over[manager] = None
        else:
            self._over.pop(manager, None)
        if manager.short:
            self._endings.place(manager)
        self._ranks.place(manager)

    def steal(self) -> list[tuple[Manager, list[Key]]]:
        """Ask back prefetched tasks that could run elsewhere now, or that stand in the way of more important ones.

        Returns:
            What to ask of whom; what comes back is queued again, in front.
        """
        self._refresh()
        if not self._over:
            return []
        below: float | None = None
        if not self._queue:
            want = self._ranks.idle_slots()
        elif self._ranks.available:
            want = 0
        else:
            want, below = self._queue.urgent(), self._queue.first_priority()
        want -= len(self._stealing)
        asked: list[tuple[Manager, list[Key]]] = []
        for manager in list(self._over):
            if want <= 0:
                break
            spare = min(want, len(manager.running) + manager.extra - manager.slots)
            keys = self._spare(manager, spare, below)
            if keys:
                self._stealing.update(keys)
                asked.append((manager, keys))
                want -= len(keys)
        return asked

    def _spare(self, manager: Manager, most: int, below: float | None) -> list[Key]:
        """The attempts that a manager got last, at most that many, of a priority lower than ``below``."""
        keys: list[Key] = []
        for key in reversed(manager.running):
            if len(keys) >= most:
                break
            needs = manager.running[key].needs
            if needs is not None and (
                needs.resources
                or (below is not None and needs.priority >= below)
                or (needs.avoid and not self._is_room_elsewhere(needs.avoid))
            ):
                continue
            if key not in self._stealing and key not in self._cancelling:
                keys.append(key)
        return keys

    def _is_room_elsewhere(self, places: Sequence[tuple[str, str]]) -> bool:
        """Whether a worker is idle where a task has not failed yet."""
        suits = Group(places, True, 0.0).wish(self.managers.values())
        return any(m.used < m.slots and suits(m) for _, m in self._ranks.members())

    # ---------------------------------------------------------------------------------------------------- invariants

    def check_invariants(self) -> None:
        """Every attempt is in one place, no manager has more than its credit, the ranks say what is.

        Raises:
            AssertionError: They are broken.
        """
        self._queue.check_invariants()
        self._ranks.check_invariants()
        self._packing.check_invariants(self.managers.values())
        self._endings.check_invariants(self.managers.values())
        assert not self._queue.keys & self._at.keys()
        assert not self._packing.keys.keys() & (self._at.keys() | self._queue.keys)
        assert sum(len(m.running) for m in self.managers.values()) == len(self._at)
        for name, manager in self.managers.items():
            assert name == manager.name
            assert not manager.ghosts & manager.running.keys()
            assert manager.begun <= manager.running.keys()
            assert all(self._at.get(key) is manager for key in manager.running)
        assert self._cancelling <= self._at.keys() and self._stealing <= self._at.keys()
        for rank, manager in self._ranks.members():
            assert self.managers.get(manager.name) is manager
            assert manager in self._dirty or rank == self._ranks.rank_of(manager)
        for manager in self.managers.values():
            if manager not in self._dirty:
                self._endings.check_place(manager)
                assert manager.rank == self._ranks.rank_of(manager)
                assert (manager in self._over) == (len(manager.running) + manager.extra > manager.slots)
            manager.check_invariants()
        assert set(self._over) <= set(self.managers.values())

    def place(self, key: Key) -> Manager | int | None:
        """Where an attempt is: its manager, its place in the queue from 1 (0: far back), or None if it is not here."""
        manager = self._at.get(key)
        return manager if manager is not None else self._queue.position(key)

    def lack_of_time(self, key: Key) -> tuple[float, bool, float] | None:
        """What a waiting task takes longer than: see ``Endings.lack``. None if time is not what it lacks."""
        if not self._endings.short:
            return None
        waiting = (*self._queue.tasks(), *self._packing.tasks())
        task = next((task for task in waiting if (task.task, task.attempt) == key), None)
        return None if task is None else self._endings.lack(task, self.managers.values())

    def request(self, key: Key) -> tuple[Lane, int] | None:
        """The lane of a task that waits for room on a node, and its place there; None for others."""
        return self._packing.request(key)

    def places(self) -> Iterator[tuple[Key, str]]:
        """Every attempt that is here, with its manager's name; "" for waiting ones."""
        for key in self._queue.keys:
            yield key, ""
        for key in self._packing.keys:
            yield key, ""
        for key, manager in self._at.items():
            yield key, manager.name
