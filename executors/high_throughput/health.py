"""Which hosts lose tasks that would do well elsewhere.  Pure.

A node with a broken GPU, a full disk or bad memory finishes each task early by killing it, so it asks for more than
its share and ruins a whole run.  A task that kills whatever runs it is no sign of that: it does so on every host.  So
hosts are compared with each other, by the part of their tasks that took a worker with them.
"""

from __future__ import annotations

from collections import deque

WINDOW = 600.0
"""Seconds that a death counts."""
LEAST_DEATHS = 5
"""Fewer say nothing."""
LEAST_TASKS = 3
"""Deaths of fewer tasks than this may be the tasks' own fault."""
FACTOR = 4.0
"""How many times the others' rate of deaths a bad host has."""


class _Host:
    __slots__ = ("deaths", "done")

    def __init__(self) -> None:
        self.done = 0
        self.deaths: deque[tuple[float, int]] = deque()


class Health:
    """What became of tasks, by host.

    Example:
        >>> health = Health()
        >>> for task in range(6):
        ...     health.died("node1", task, now=float(task))
        >>> health.done("node2", 100)
        >>> health.verdict("node1", now=10.0)
        '6 of 6 tasks lost their worker there in 10 minutes, and 0 of 100 elsewhere'
        >>> health.verdict("node2", now=10.0)
        ''
    """

    __slots__ = ("_hosts",)

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}

    def done(self, host: str, tasks: int) -> None:
        """So many tasks ended on a host, in whatever way but by the death of their worker."""
        self._of(host).done += tasks

    def died(self, host: str, task: int, now: float) -> None:
        """A worker died on a host while it ran this task."""
        self._of(host).deaths.append((now, task))

    def verdict(self, host: str, now: float) -> str:
        """Why a host should get no more tasks; "" if it may.

        A host without others to compare it with is never bad: there would be nothing left.
        """
        suspect = self._of(host)
        while suspect.deaths and now - suspect.deaths[0][0] > WINDOW:
            suspect.deaths.popleft()
        deaths = len(suspect.deaths)
        if deaths < LEAST_DEATHS or len({task for _, task in suspect.deaths}) < LEAST_TASKS:
            return ""
        elsewhere = [other for name, other in self._hosts.items() if name != host]
        dead = sum(len(other.deaths) for other in elsewhere)
        total = sum(other.done for other in elsewhere) + dead
        if total < LEAST_DEATHS:
            return ""
        here = suspect.done + deaths
        # A host that killed nothing yet counts as if its next task died.
        if deaths / here <= FACTOR * (dead + 1) / (total + 1):
            return ""
        return (
            f"{deaths} of {here} tasks lost their worker there in {WINDOW / 60:g} minutes, "
            f"and {dead} of {total} elsewhere"
        )

    def _of(self, host: str) -> _Host:
        found = self._hosts.get(host)
        if found is None:
            found = self._hosts[host] = _Host()
        return found
