"""Tasks that wait for another place than those where they failed.

Pure.  A node with a broken disk fails a task each time, so its next try should run elsewhere: on another host, or if
there is none, with another manager.  That is a wish and no condition.  Where no other manager takes tasks the task runs
where it can, and after ``PATIENCE`` seconds in which nobody else had room as well.  Tasks that avoid the same places
wait in one group, so that of a thousand only the first is compared with the managers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from flowlib.executors.high_throughput.managers import Key, Manager
from flowlib.executors.high_throughput.messages import Task

PATIENCE = 30.0
"""Seconds that a task waits for room elsewhere."""

Places = tuple[tuple[str, str], ...]


class Group:
    """Tasks that avoid the same places, first come, first served.

    Attributes:
        names: Managers that they avoid.
        hosts: Machines that they avoid.
        priority: That of all of them.
        firm: Whether they wait for another place; otherwise they take one only if it is free at once.
        tasks: The tasks; those that were withdrawn have places still.
        since: When somebody looked at it first; None before.
    """

    __slots__ = ("firm", "hosts", "names", "priority", "since", "tasks")

    def __init__(self, places: Iterable[tuple[str, str]], firm: bool, priority: float) -> None:
        self.names = {name for name, _ in places}
        self.hosts = {host for _, host in places}
        self.firm = firm
        self.priority = priority
        self.tasks: deque[Task] = deque()
        self.since: float | None = None

    def wish(self, managers: Iterable[Manager]) -> Callable[[Manager], bool]:
        """What a manager must be like, as things are: on another host, else another, else any."""
        another = False
        for manager in managers:
            if manager.open:
                if manager.facts.host not in self.hosts:
                    return self.elsewhere
                another = another or manager.name not in self.names
        return self.another if another else _any

    def is_over(self, now: float) -> bool:
        """Whether they have waited for too long; the time begins when this is first asked."""
        if self.since is None:
            self.since = now
        return now - self.since >= PATIENCE

    def elsewhere(self, manager: Manager) -> bool:
        """Whether it is on none of the hosts."""
        return manager.facts.host not in self.hosts

    def another(self, manager: Manager) -> bool:
        """Whether it is none of the managers."""
        return manager.name not in self.names


def _any(manager: Manager) -> bool:
    return True


class Avoidance:
    """All groups.

    Attributes:
        keys: The tasks that wait.
    """

    __slots__ = ("_groups", "keys")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self._groups: dict[tuple[Places, bool, float], Group] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def put(self, task: Task, key: Key, *, front: bool = False) -> None:
        """Let a task wait that avoids some places."""
        needs = task.needs
        assert needs is not None and needs.avoid
        name = (tuple(needs.avoid), needs.firm, needs.priority)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(needs.avoid, needs.firm, needs.priority)
        (group.tasks.appendleft if front else group.tasks.append)(task)
        self.keys.add(key)

    def withdraw(self, keys: Iterable[Key]) -> None:
        """Take out tasks; keys that do not wait here are ignored."""
        self.keys.difference_update(keys)

    def groups(self) -> list[Group]:
        """Those with tasks, highest priority first."""
        for name, group in [*self._groups.items()]:
            if self.first(group) is None:
                del self._groups[name]
        return sorted(self._groups.values(), key=lambda group: -group.priority)

    def first(self, group: Group) -> Task | None:
        """The first task of a group; None if there is none any more."""
        tasks = group.tasks
        while tasks and (tasks[0].task, tasks[0].attempt) not in self.keys:
            tasks.popleft()
        return tasks[0] if tasks else None

    def take(self, group: Group) -> Task:
        """Take out the first task of a group, which is there."""
        task = group.tasks.popleft()
        self.keys.remove((task.task, task.attempt))
        return task

    def tasks(self) -> list[Task]:
        """All that wait, in no order."""
        every = (task for group in self._groups.values() for task in group.tasks)
        return [task for task in every if (task.task, task.attempt) in self.keys]

    def expired(self, now: float) -> list[Group]:
        """Those that have waited for too long; the time of a group begins when it is first seen here."""
        return [group for group in self.groups() if group.is_over(now)]

    def check_invariants(self) -> None:
        """Every task has a place in a group.

        Raises:
            AssertionError: One has none.
        """
        assert self.keys <= {(t.task, t.attempt) for group in self._groups.values() for t in group.tasks}
