"""Tasks that no manager has yet: highest priority first, then depth-first, then first come, first served.

Depth-first means: tasks that use what other tasks have made go before those that use nothing.  So a wide first level
does not pile up its results before the second begins, and what was begun is finished.

Nearly all tasks have no priority, and those cost a deque's append and popleft.  Withdrawing a task takes its name off
a list; its place in the queue is cleared when it is reached, or when such places are most of the queue.  Tasks that
avoid the places where they failed stand beside the queue until they find another or are let go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, islice

from flowlib.executors.high_throughput.avoidance import Avoidance, Group
from flowlib.executors.high_throughput.managers import Key
from flowlib.executors.high_throughput.messages import Task

LOOKED_AT = 100_000
"""Places that are looked at for a task's position: the answer must not hold up the tasks."""

_EARLY = 1 << 62
"""Puts a task before others of its priority."""


class TaskQueue:
    """A queue; its length is that without the tasks that avoid places.

    Attributes:
        keys: The tasks in it, those that avoid places as well.
        avoiding: Those.
    """

    __slots__ = ("_count", "_early", "_fifo", "_ranked", "avoiding", "keys")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.avoiding = Avoidance()
        self._early: deque[Task] = deque()
        self._fifo: deque[Task] = deque()
        self._ranked: list[tuple[float, int, Task]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self.keys) - len(self.avoiding.keys)

    def put(self, task: Task, key: Key) -> None:
        """Queue a task that is not in the queue."""
        self.keys.add(key)
        if task.needs is None:
            (self._early if task.early else self._fifo).append(task)
        elif task.needs.avoid:
            self.avoiding.put(task, key)
        else:
            self._put(task, task.needs.priority)

    def _put(self, task: Task, priority: float) -> None:
        if not priority:
            (self._early if task.early else self._fifo).append(task)
        else:
            self._count += 1
            heappush(self._ranked, (-priority, self._count - _EARLY if task.early else self._count, task))

    def let_go(self, group: Group) -> None:
        """Queue the tasks of a group as if they avoided nothing."""
        while self.avoiding.first(group) is not None:
            self._put(self.avoiding.take(group), group.priority)

    def put_back(self, tasks: Sequence[Task]) -> None:
        """Queue tasks before all others of their priority, in this order."""
        for task in reversed(tasks):
            key = (task.task, task.attempt)
            self.keys.add(key)
            if task.needs is not None and task.needs.avoid:
                self.avoiding.put(task, key, front=True)
            elif task.needs is None or not task.needs.priority:
                self._early.appendleft(task)
            else:
                self._count += 1
                heappush(self._ranked, (-task.needs.priority, -self._count - _EARLY, task))

    def take(self, most: int) -> list[Task]:
        """Take out the next tasks, at most that many; empty only if none waits but those that avoid places."""
        keys, early, fifo, ranked = self.keys, self._early, self._fifo, self._ranked
        taken: list[Task] = []
        while most:
            usual = early or fifo
            if not usual and not ranked:
                break
            task = heappop(ranked)[2] if ranked and (ranked[0][0] < 0 or not usual) else usual.popleft()
            key = (task.task, task.attempt)
            if key in keys:
                keys.remove(key)
                taken.append(task)
                most -= 1
        if (early or fifo or ranked) and not len(self):
            # Only places of withdrawn tasks are left.
            early.clear()
            fifo.clear()
            ranked.clear()
        return taken

    def pick(self, most: int, fits: Callable[[Task], bool], looks: int) -> tuple[list[Task], int]:
        """Take out the first tasks that fit, in their order.

        Args:
            most: How many at most.
            fits: Says which do.
            looks: How many that do not are passed at most; they keep their places.

        Returns:
            The tasks, and how many were passed.
        """
        keys, early, fifo, ranked = self.keys, self._early, self._fifo, self._ranked
        taken: list[Task] = []
        passed_early: list[Task] = []
        passed_fifo: list[Task] = []
        passed_ranked: list[tuple[float, int, Task]] = []
        passed = 0
        while len(taken) < most and passed < looks:
            usual = early or fifo
            if ranked and (ranked[0][0] < 0 or not usual):
                entry = heappop(ranked)
                task, aside = entry[2], None
            elif usual:
                entry, aside = None, passed_early if usual is early else passed_fifo
                task = usual.popleft()
            else:
                break
            key = (task.task, task.attempt)
            if key not in keys:
                continue
            if fits(task):
                keys.remove(key)
                taken.append(task)
                continue
            passed += 1
            if entry is not None:
                passed_ranked.append(entry)
            elif aside is not None:
                aside.append(task)
        early.extendleft(reversed(passed_early))
        fifo.extendleft(reversed(passed_fifo))
        for entry in passed_ranked:
            heappush(ranked, entry)
        return taken, passed

    def tasks(self) -> list[Task]:
        """All that wait but those that avoid places, in no order."""
        places = chain(self._early, self._fifo, (entry[2] for entry in self._ranked))
        return [task for task in places if (task.task, task.attempt) in self.keys]

    def withdraw(self, keys: Iterable[Key]) -> None:
        """Take out tasks that are in the queue."""
        self.keys.difference_update(keys)
        self.avoiding.withdraw(keys)
        places = len(self._early) + len(self._fifo) + len(self._ranked)
        if places > 64 and places > 2 * len(self):
            self._early = deque(t for t in self._early if (t.task, t.attempt) in self.keys)
            self._fifo = deque(t for t in self._fifo if (t.task, t.attempt) in self.keys)
            self._ranked = [e for e in self._ranked if (e[2].task, e[2].attempt) in self.keys]
            heapify(self._ranked)

    def urgent(self) -> int:
        """About how many tasks of a priority above the usual wait."""
        return sum(1 for entry in self._ranked if entry[0] < 0)

    @property
    def early(self) -> int:
        """About how many tasks wait that go before others of the usual priority."""
        return len(self._early)

    def first_priority(self) -> float:
        """The priority of the first task; that of one that was withdrawn may count."""
        if self._ranked and (self._ranked[0][0] < 0 or not (self._early or self._fifo)):
            return -self._ranked[0][0]
        return 0.0

    def position(self, key: Key) -> int | None:
        """A task's place in the queue: 1 for the next; 0 beyond the first ``LOOKED_AT``; None if it is not in it."""
        keys = self.keys
        if key not in keys:
            return None
        ranked = sorted(self._ranked, key=lambda entry: entry[:2]) if self._ranked else []
        ahead = [entry[2] for entry in ranked if entry[0] < 0]
        behind = [entry[2] for entry in ranked if entry[0] >= 0]
        position = 0
        for task in islice(chain(ahead, self._early, self._fifo, behind), LOOKED_AT):
            there = (task.task, task.attempt)
            if there in keys:
                position += 1
                if there == key:
                    return position
        return 0

    def check_invariants(self) -> None:
        """Every task in the queue has a place.

        Raises:
            AssertionError: One has none.
        """
        self.avoiding.check_invariants()
        places = [*self._early, *self._fifo, *(entry[2] for entry in self._ranked)]
        assert self.avoiding.keys <= self.keys
        assert self.keys - self.avoiding.keys <= {(t.task, t.attempt) for t in places}
