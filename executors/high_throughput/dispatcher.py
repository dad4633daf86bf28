"""Which task goes to which manager: the decisions of the interchange, without its sockets and clocks.

Tasks wait in one queue; managers have credit: workers, plus a prefetch that keeps about ``PREFETCH_SECONDS`` of short
work at hand there.  Managers that can take more stand in groups by rank, the lowest rank being served first, so that
neither a task nor a result costs more with a thousand managers than with one.  Nothing here looks at all managers
except ``silent``, once per tick.

An attempt is in exactly one place: waiting here, at one manager, or answered.  Whatever is said about an attempt that
is nowhere is dropped, so the driver gets one answer per attempt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from flowlib.executors.high_throughput.messages import Register, Result, Status, Task

Key = tuple[int, int]
"""``(task, attempt)``."""

SELECTORS = ("spread", "pack", "block")
"""How managers are preferred: least loaded first, most loaded first, lowest block first."""

PREFETCH_SECONDS = 0.035
"""Work that is kept at hand at a manager beyond what its workers run."""
LONG_TASK = 0.2
"""Tasks that take longer than this many seconds are not prefetched: the wait between two of them is nothing."""
SHORTEST_TASK = 50e-6
"""What the shortest task takes of a worker, all told."""

_LEVELS = 16
_PREFETCH_LEVELS = 8
_PREFETCH_RANK = 1 << 40
_NOWHERE = -1
_WITHDRAWN = int(Status.WITHDRAWN)
_REMEMBERED = 1000


class Manager:
    """A registered manager.

    Attributes:
        facts: Its registration.
        name: Unique name.
        slots: Workers.
        prefetch: Most tasks it gets beyond its workers, as things are now.
        running: What it has, with the task.
        ghosts: What it still has of a former connection that nobody waits for any more.
        known: Functions whose bodies it has.
        duration: Moving average of its tasks' seconds; None before the first.
        heard: When it was last heard of.
        idle_since: Since when it has had nothing to do.
        draining: It finishes what it has and leaves.
        held: It gets no more tasks.
        cut: Its connection is gone; it gets no more tasks until it registers again.
    """

    __slots__ = (
        "_adaptive",
        "_order",
        "_rank",
        "cut",
        "draining",
        "duration",
        "facts",
        "ghosts",
        "heard",
        "held",
        "idle_since",
        "known",
        "name",
        "prefetch",
        "running",
        "slots",
    )

    def __init__(self, facts: Register, order: int, now: float) -> None:
        self.facts = facts
        self.name = facts.manager
        self.slots = max(1, facts.slots)
        self._adaptive = facts.prefetch < 0
        self.prefetch = max(0, facts.prefetch)
        self._order = order
        self._rank = _NOWHERE
        self.running: dict[Key, Task] = {}
        self.ghosts: set[Key] = set()
        self.known: set[int] = set()
        self.duration: float | None = None
        self.heard = now
        self.idle_since = now
        self.draining = False
        self.held = False
        self.cut = False

    @property
    def used(self) -> int:
        """Tasks it has."""
        return len(self.running) + len(self.ghosts)

    @property
    def open(self) -> bool:
        """Whether it takes tasks at all."""
        return not (self.draining or self.held or self.cut)

    def learn(self, seconds: float, tasks: int) -> None:
        """Take into account that ``tasks`` tasks took ``seconds`` in all; a turn to longer ones counts at once."""
        mean = seconds / tasks
        if self.duration is None:
            self.duration = mean
        else:
            weight = tasks / (tasks + 8)
            self.duration += (mean - self.duration) * (max(weight, 0.5) if mean > self.duration else weight)
        if self._adaptive:
            if self.duration > LONG_TASK:
                self.prefetch = 0
            else:
                self.prefetch = int(self.slots * PREFETCH_SECONDS / max(self.duration, SHORTEST_TASK))


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


class Registration(NamedTuple):
    """What a registration brings to light.

    Attributes:
        manager: The manager.
        lost: Attempts that it should have and does not.
        ghosts: Attempts that it has and nobody waits for.
    """

    manager: Manager
    lost: list[Key]
    ghosts: list[Key]


class Dispatcher:
    """The queue and the managers.

    Args:
        selector: One of ``SELECTORS``.

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
        if selector not in SELECTORS:
            raise ValueError(f"selector must be one of {', '.join(SELECTORS)}, not {selector!r}")
        self._selector = selector
        self.managers: dict[str, Manager] = {}
        self.dropped = 0
        self._gone: dict[str, Manager] = {}
        self._fifo: deque[Task] = deque()
        self._ranked: list[tuple[float, int, Task]] = []
        self._count = 0
        self._waiting: set[Key] = set()
        self._at: dict[Key, Manager] = {}
        self._cancelling: set[Key] = set()
        self._stealing: set[Key] = set()
        self._groups: dict[int, dict[Manager, None]] = {}
        self._ranks: list[int] = []
        self._available = 0
        self._dirty: set[Manager] = set()
        self._over: dict[Manager, None] = {}
        self._blocks: dict[str, int] = {}

    # ---------------------------------------------------------------------------------------------------- the queue

    @property
    def waiting(self) -> int:
        """Tasks that no manager has yet."""
        return len(self._waiting)

    @property
    def outstanding(self) -> int:
        """Tasks that managers have."""
        return len(self._at)

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue tasks. One that is already here is ignored."""
        waiting, at, fifo = self._waiting, self._at, self._fifo
        for task in tasks:
            key = (task.task, task.attempt)
            if key in waiting or key in at:
                self.dropped += 1
                continue
            waiting.add(key)
            if task.needs is None or not task.needs.priority:
                fifo.append(task)
            else:
                self._count += 1
                heappush(self._ranked, (-task.needs.priority, self._count, task))

    def _requeue(self, tasks: Sequence[Task]) -> None:
        """Put tasks that managers gave back where they were: before all others of their priority."""
        for task in reversed(tasks):
            self._waiting.add((task.task, task.attempt))
            if task.needs is None or not task.needs.priority:
                self._fifo.appendleft(task)
            else:
                self._count += 1
                heappush(self._ranked, (-task.needs.priority, -self._count, task))

    def _take(self, most: int) -> list[Task]:
        """The next tasks, at most that many; empty only if none waits."""
        waiting, fifo, ranked = self._waiting, self._fifo, self._ranked
        taken: list[Task] = []
        while most and waiting:
            if ranked and (ranked[0][0] < 0 or not fifo):
                task = heappop(ranked)[2]
            else:
                task = fifo.popleft()
            key = (task.task, task.attempt)
            if key in waiting:
                waiting.remove(key)
                taken.append(task)
                most -= 1
        if not waiting and (fifo or ranked):
            # Only what was cancelled is left.
            fifo.clear()
            ranked.clear()
        return taken

    def cancel(self, keys: Iterable[Key]) -> Cancelled:
        """Withdraw attempts for the driver. Those at managers are answered when the managers have answered."""
        withdrawn: list[Key] = []
        unknown: list[Key] = []
        ask: dict[Manager, list[Key]] = {}
        for key in keys:
            manager = self._at.get(key)
            if manager is not None:
                self._cancelling.add(key)
                ask.setdefault(manager, []).append(key)
            elif key in self._waiting:
                self._waiting.remove(key)
                withdrawn.append(key)
            else:
                unknown.append(key)
        self._sweep()
        return Cancelled(withdrawn, unknown, list(ask.items()))

    def _sweep(self) -> None:
        """Drop what was cancelled from the queue when it is most of it, so that memory follows what waits."""
        held = len(self._fifo) + len(self._ranked)
        if held < 64 or held < 2 * len(self._waiting):
            return
        self._fifo = deque(t for t in self._fifo if (t.task, t.attempt) in self._waiting)
        self._ranked = [e for e in self._ranked if (e[2].task, e[2].attempt) in self._waiting]
        heapify(self._ranked)

    def refuse_all(self) -> list[Key]:
        """Empty the queue: nothing that waits can ever run. Returns what waited."""
        refused = list(self._waiting)
        self._waiting.clear()
        self._fifo.clear()
        self._ranked.clear()
        return refused

    # -------------------------------------------------------------------------------------------------- the managers

    def register(self, facts: Register, now: float) -> Registration:
        """A manager came, or came back on a new connection."""
        name = facts.manager
        known = self.managers.get(name)
        reported = {(task, attempt) for task, attempt in facts.running}
        lost: list[Key] = []
        manager = Manager(facts, self._order(facts.block), now)
        if known is not None:
            self._leave(known)
            self._over.pop(known, None)
            self._dirty.discard(known)
            for key, task in known.running.items():
                if key in reported:
                    manager.running[key] = task
                    self._at[key] = manager
                else:
                    self._forget(key)
                    lost.append(key)
            manager.duration, manager.prefetch = known.duration, known.prefetch
            manager.draining, manager.held = known.draining, known.held
        self._gone.pop(name, None)
        manager.ghosts = {key for key in reported if key not in manager.running}
        self.managers[name] = manager
        self._dirty.add(manager)
        return Registration(manager, lost, sorted(manager.ghosts))

    def revive(self, name: str, now: float) -> Registration | None:
        """A manager that was given up is heard of again; None if nothing is remembered of it."""
        gone = self._gone.pop(name, None)
        if gone is None:
            return None
        manager = Manager(gone.facts, gone._order, now)
        manager.ghosts = set(gone.ghosts)
        manager.known = gone.known
        manager.draining, manager.held = gone.draining, gone.held
        self.managers[name] = manager
        self._dirty.add(manager)
        return Registration(manager, [], sorted(manager.ghosts))

    def lose(self, name: str, *, for_good: bool = False) -> list[Key]:
        """A manager is given up, or left; returns the attempts that it had.

        Args:
            name: The manager.
            for_good: It said that it ends, so it cannot come back.
        """
        manager = self.managers.pop(name, None)
        if manager is None:
            return []
        self._leave(manager)
        self._over.pop(manager, None)
        self._dirty.discard(manager)
        lost = list(manager.running)
        for key in lost:
            self._forget(key)
        if not for_good:
            manager.ghosts.update(lost)
            manager.running.clear()
            self._gone[name] = manager
            if len(self._gone) > _REMEMBERED:
                del self._gone[next(iter(self._gone))]
        return lost

    def _forget(self, key: Key) -> None:
        self._at.pop(key, None)
        self._cancelling.discard(key)
        self._stealing.discard(key)

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

    def hold(self, name: str) -> bool:
        """Give a manager no more tasks. Whether there is such a manager."""
        manager = self.managers.get(name)
        if manager is None:
            return False
        manager.held = True
        self._dirty.add(manager)
        return True

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

    def forget_functions(self, functions: Iterable[int]) -> None:
        """These functions are not used any more."""
        gone = set(functions)
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
        at = self._at
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
            if manager is not last:
                self._dirty.add(manager)
                if last is not None and not last.used:
                    last.idle_since = now
                last = manager
            if result.status == _WITHDRAWN:
                if not self._was_cancelled(key, manager):
                    returned.append(task)
                    continue
            elif self._cancelling or self._stealing:
                self._cancelling.discard(key)
                self._stealing.discard(key)
            if result.started:
                seconds += result.ended - result.started
                timed += 1
            accepted.append(result)
        if last is not None:
            if timed:
                last.learn(max(0.0, seconds), timed)
            if not last.used:
                last.idle_since = now
        if returned:
            self._requeue(returned)
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

    def assign(self) -> list[Assignment]:
        """Give waiting tasks to managers that can take more."""
        self._refresh()
        if not self._waiting or not self._available:
            return []
        given: dict[Manager, tuple[list[Task], list[int]]] = {}
        at = self._at
        while self._available:
            manager, _ = self._groups[self._first_rank()].popitem()
            self._available -= 1
            manager._rank = _NOWHERE
            tasks = self._take(self._portion(manager))
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
            if not self._waiting:
                break
        return [Assignment(manager, tasks, functions) for manager, (tasks, functions) in given.items()]

    def cut(self, assignment: Assignment) -> None:
        """Tasks could not be sent, because the manager's connection is gone: queue them again.

        The manager gets nothing more until it registers again.
        """
        manager = assignment.manager
        manager.cut = True
        self._dirty.add(manager)
        tasks: list[Task] = []
        for sent in assignment.tasks:
            key = (sent.task, sent.attempt)
            if self._at.pop(key, None) is not None:
                tasks.append(manager.running.pop(key))
        manager.known.difference_update(assignment.functions)
        self._requeue(tasks)

    @property
    def imbalanced(self) -> bool:
        """Whether ``steal`` could do some good: cheap, and true for good reasons only most of the time."""
        if not self._over:
            return False
        if self._waiting:
            return not self._available and bool(self._ranked) and self._ranked[0][0] < 0
        return bool(self._available) and self._first_rank() < _PREFETCH_RANK

    def steal(self) -> list[tuple[Manager, list[Key]]]:
        """Ask back prefetched tasks that could run elsewhere now, or that stand in the way of more important ones.

        Returns:
            What to ask of whom; what comes back is queued again, in front.
        """
        self._refresh()
        if not self._over:
            return []
        idle = 0
        if not self._waiting:
            idle = sum(m.slots - m.used for r, g in self._groups.items() if r < _PREFETCH_RANK for m in g)
            want = idle
        else:
            want = sum(1 for entry in self._ranked if entry[0] < 0) if not self._available else 0
        want -= len(self._stealing)
        asked: list[tuple[Manager, list[Key]]] = []
        for manager in list(self._over):
            if want <= 0:
                break
            spare = min(want, len(manager.running) - manager.slots)
            keys = self._spare(manager, spare, None if idle else -self._ranked[0][0])
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
            if below is not None and needs is not None and needs.priority >= below:
                continue
            if key not in self._stealing and key not in self._cancelling:
                keys.append(key)
        return keys

    # ----------------------------------------------------------------------------------------- the managers' ranks

    def _order(self, block: str) -> int:
        """Where a block stands among all: by number, others as they came."""
        if block.isdecimal():
            return min(int(block), _PREFETCH_RANK // 4)
        return _PREFETCH_RANK // 4 + 1 + self._blocks.setdefault(block, len(self._blocks))

    def _refresh(self) -> None:
        dirty = self._dirty
        if dirty:
            for manager in dirty:
                if manager.name in self.managers:
                    self._place(manager)
            dirty.clear()

    def _rank_of(self, manager: Manager) -> int:
        used, slots = manager.used, manager.slots
        if used >= slots + manager.prefetch or not manager.open:
            return _NOWHERE
        if used < slots:
            if self._selector == "spread":
                return used * _LEVELS // slots
            if self._selector == "pack":
                return _LEVELS - used * _LEVELS // slots
            return manager._order
        if self._selector == "block":
            return _PREFETCH_RANK + manager._order
        return _PREFETCH_RANK + (used - slots) * _PREFETCH_LEVELS // manager.prefetch

    def _place(self, manager: Manager) -> None:
        """Put a manager into the group where it belongs now."""
        if len(manager.running) > manager.slots:
            self._over[manager] = None
        else:
            self._over.pop(manager, None)
        rank = self._rank_of(manager)
        if rank == manager._rank:
            return
        self._leave(manager)
        if rank != _NOWHERE:
            group = self._groups.get(rank)
            if group is None:
                group = self._groups[rank] = {}
                heappush(self._ranks, rank)
            group[manager] = None
            manager._rank = rank
            self._available += 1

    def _leave(self, manager: Manager) -> None:
        """Take a manager out of its group."""
        if manager._rank != _NOWHERE:
            del self._groups[manager._rank][manager]
            manager._rank = _NOWHERE
            self._available -= 1

    def _first_rank(self) -> int:
        """The rank to serve first; there is one."""
        while not self._groups[self._ranks[0]]:
            del self._groups[heappop(self._ranks)]
        return self._ranks[0]

    def _portion(self, manager: Manager) -> int:
        """How many tasks a manager gets before it is compared with the others again; it has left its group."""
        used, slots = manager.used, manager.slots
        room = slots + manager.prefetch - used
        if used < slots:
            room = slots - used
            if self._selector != "spread":
                return room
            step = slots // _LEVELS
        elif self._selector == "block":
            return room
        else:
            step = manager.prefetch // _PREFETCH_LEVELS
        share = len(self._waiting) // (self._available + 1)
        return max(1, min(step, share, room))

    # ---------------------------------------------------------------------------------------------------- invariants

    def check_invariants(self) -> None:
        """Every attempt is in one place, no manager has more than its credit, the groups say what is.

        Raises:
            AssertionError: They are broken.
        """
        assert not self._waiting & self._at.keys()
        queued = [*self._fifo, *(entry[2] for entry in self._ranked)]
        assert self._waiting <= {(t.task, t.attempt) for t in queued}
        assert sum(len(m.running) for m in self.managers.values()) == len(self._at)
        for name, manager in self.managers.items():
            assert name == manager.name
            assert not manager.ghosts & manager.running.keys()
            assert all(self._at.get(key) is manager for key in manager.running)
        assert self._cancelling <= self._at.keys() and self._stealing <= self._at.keys()
        assert set(self._groups) == set(self._ranks) and len(self._ranks) == len(self._groups)
        grouped = [manager for group in self._groups.values() for manager in group]
        assert len(grouped) == self._available == len(set(grouped))
        assert all(self.managers.get(manager.name) is manager for manager in grouped)
        for rank, group in self._groups.items():
            for manager in group:
                assert manager._rank == rank
                assert manager in self._dirty or rank == self._rank_of(manager)
        for manager in self.managers.values():
            if manager not in self._dirty:
                assert (manager._rank == _NOWHERE) == (self._rank_of(manager) == _NOWHERE)
                assert (manager in self._over) == (len(manager.running) > manager.slots)
        assert set(self._over) <= set(self.managers.values())

    def places(self) -> Iterator[tuple[Key, str]]:
        """Every attempt that is here, with its manager's name; "" for waiting ones."""
        for key in self._waiting:
            yield key, ""
        for key, manager in self._at.items():
            yield key, manager.name
