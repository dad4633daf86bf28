"""Managers whose job ends, and which tasks can still end there before it does.

Pure: the time is told.  A manager tells how long it has left; the interchange knows how long tasks take: what they have
declared, or what calls of their function took before, a maximum that decays.  As long as a manager has more left than
the longest of all of these, it is one like any other, and costs nothing.  After that it is *short*: it takes no part in
the usual order, but is given what fits, task by task.

The past only is a guess, so it must not keep a task waiting for ever: a manager with most of its life before it takes
any task that has declared nothing.  What is declared counts to the second, as long as it fits into the life of some
manager: one that has declared just the walltime of its block, which few tasks take in full, is for new managers.  What
is far longer than that is refused, like a request for more cores than there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from flowlib.executors.high_throughput.managers import Manager
from flowlib.executors.high_throughput.messages import Needs, Task

SLOW = 0.1
"""Seconds from which on a function's calls are noted; the others fit anywhere."""
DECAY = 0.1
"""Part of the difference by which a shorter call lowers what is expected."""
FRESH = 0.8
"""Part of a manager's life that is enough for tasks that take longer as far as the past says, or at most."""
USELESS = 2.0
"""Seconds after which an idle manager leaves for which nothing that waits is short enough."""
LOOK = 500
"""Waiting tasks that are looked at for one that fits."""
PAUSE = 0.1
"""Seconds after which they are looked at again, if there are more of which none fits."""


def limit_of(needs: Needs | None) -> float | None:
    """Seconds that a task has declared to take at most; None if it has not.

    Example:
        >>> limit_of(Needs(walltime=60.0)), limit_of(Needs(lasts=5.0)), limit_of(None)
        (60.0, 5.0, None)
    """
    if needs is None:
        return None
    return needs.lasts if needs.walltime is None else needs.walltime


class Endings:
    """When managers end, and how long tasks take.

    Attributes:
        active: Whether any manager has an end.
        slow: By function, the seconds that its calls are expected to take at most; short ones are left out.
        short: Managers that may be too short for something, in no order.
        fresh: Whether there may be tasks that are longer than the life of any manager.
        now: The latest time that was told.
    """

    def __init__(self) -> None:
        self.active = False
        self.slow: dict[int, float] = {}
        self.short: dict[Manager, None] = {}
        self.fresh = False
        self.now = 0.0
        self._managers: dict[Manager, None] = {}
        self._roomy: dict[Manager, None] = {}
        self._longest = 0.0
        self._declared = 0.0
        self._most = math.inf
        self._due = math.inf
        self._useless: dict[Manager, float] = {}
        self._look_at = 0.0

    # ------------------------------------------------------------------------------------------------- what happens

    def come(self, manager: Manager, everybody: Iterable[Manager]) -> None:
        """A manager is here.

        Args:
            manager: Its ``end`` is set, if it has one.
            everybody: All managers, this one included.
        """
        if manager.end is not None:
            self._managers[manager] = None
            self.active = True
            self._due = -math.inf
        self._count(everybody)

    def gone(self, manager: Manager, everybody: Iterable[Manager]) -> None:
        """A manager is not here any more."""
        if manager in self._managers:
            del self._managers[manager]
            self.short.pop(manager, None)
            self._roomy.pop(manager, None)
            self._useless.pop(manager, None)
            manager.short = False
        self._count(everybody)

    def _count(self, everybody: Iterable[Manager]) -> None:
        """The longest life; infinite as long as nobody is here, or somebody without an end."""
        most = max((math.inf if m.end is None else m.facts.life for m in everybody), default=math.inf)
        if most != self._most:
            self._most = most
            self.fresh = self.fresh or self._declared > self._limit

    def declare(self, limit: float) -> None:
        """A task came that has declared to take at most so many seconds."""
        if limit > self._declared:
            self._declared = limit
            self._due = -math.inf
        if limit > self._limit:
            self.fresh = True

    @property
    def _limit(self) -> float:
        """The most that a task may declare."""
        return self._most / FRESH

    @property
    def floor(self) -> float:
        """Seconds from which on calls are worth to be learned from; infinite as long as no manager has an end."""
        if not self.active:
            return math.inf
        return -math.inf if self.slow else SLOW

    def learn(self, function: int, seconds: float, *, whole: bool) -> None:
        """A call took so many seconds.

        Args:
            function: Its function.
            seconds: If that is at most ``floor``, there is nothing to learn.
            whole: Whether it came to its end; if not, it may take longer, but not less.
        """
        expected = self.slow.get(function, 0.0)
        if seconds <= SLOW and not expected:
            return
        if seconds < expected:
            if whole:
                self.slow[function] = expected - DECAY * (expected - seconds)
                if self.slow[function] < SLOW:
                    del self.slow[function]
        else:
            self.slow[function] = seconds
            if seconds > self._longest:
                self._longest = seconds
                self._due = -math.inf

    def forget(self, functions: Iterable[int]) -> None:
        """These functions are not used any more."""
        for function in functions:
            self.slow.pop(function, None)

    # ---------------------------------------------------------------------------------------------------- decisions

    def review(self, now: float) -> list[Manager]:
        """Find out which managers are short now; returns those for which that has changed."""
        self.now = now
        if now < self._due:
            return []
        horizon = max(self._longest, self._declared)
        changed: list[Manager] = []
        self._due = math.inf
        for manager in self._managers:
            assert manager.end is not None
            turns_at = manager.end - horizon
            short = now >= turns_at
            if not short:
                self._due = min(self._due, turns_at)
            if short is not manager.short:
                manager.short = short
                changed.append(manager)
                if short:
                    self.short[manager] = None
                else:
                    del self.short[manager]
                    self._roomy.pop(manager, None)
        return changed

    def place(self, manager: Manager) -> None:
        """Note whether a short manager can take something now."""
        if _can_take(manager):
            self._roomy[manager] = None
        else:
            self._roomy.pop(manager, None)

    def relax(self) -> None:
        """Take into account that functions have become shorter; for now and then."""
        longest = max(self.slow.values(), default=0.0)
        if longest < self._longest:
            self._longest = longest
            self._due = -math.inf

    def by_left(self) -> list[Manager]:
        """The short managers that can take something, the one with most time left first."""
        return sorted(self._roomy, key=lambda m: -(m.end or 0.0))

    def takes(self, task: Task, manager: Manager) -> float:
        """Seconds that a manager must have left for a task."""
        limit = limit_of(task.needs)
        if limit is not None and limit <= self._most:
            return limit
        return min(limit or self.slow.get(task.function, 0.0), FRESH * manager.facts.life)

    def fits(self, task: Task, manager: Manager) -> bool:
        """Whether a task can end before a manager does."""
        return not manager.short or 0.0 < self.takes(task, manager) + 1e-9 <= (manager.end or 0.0) - self.now

    def fits_behind(self, task: Task, manager: Manager) -> bool:
        """Whether it can do so even after it has waited there for its turn."""
        return task.function not in self.slow and limit_of(task.needs) is None and self.fits(task, manager)

    def may_look(self) -> bool:
        """Whether it is time to look again for tasks that fit."""
        return self.now >= self._look_at

    def found_nothing(self) -> None:
        """As many tasks as are looked at did not fit: there is no point in looking again at once."""
        self._look_at = self.now + PAUSE

    def impossible(self, limit: float | None) -> float | None:
        """The longest life of a manager, if a task that declares this is far longer; None if it can run."""
        return self._most if limit is not None and limit > self._limit else None

    def refused(self) -> None:
        """All tasks that are impossible have been taken out."""
        self.fresh = False
        self._declared = min(self._declared, self._limit)

    def useless(self, waiting: bool) -> list[Manager]:
        """Short managers that have been idle for a while although something waits: nothing of it fits.

        Args:
            waiting: Whether something waits.
        """
        found: list[Manager] = []
        for manager in self.short:
            if not waiting or manager.used or not manager.open:
                self._useless.pop(manager, None)
            elif self.now - self._useless.setdefault(manager, self.now) >= USELESS:
                found.append(manager)
        return found

    def lack(self, task: Task, managers: Iterable[Manager]) -> tuple[float, bool, float] | None:
        """Whether a task waits only because the managers with idle workers end too soon for it.

        Returns:
            Seconds that it takes, whether it has declared that, and the most that one of these managers has left; None
            if it waits for something else.
        """
        idle = [m for m in managers if m.open and m.used < m.slots]
        if not idle or any(self.fits(task, m) for m in idle):
            return None
        last = max(idle, key=lambda m: m.end or 0.0)
        declared = limit_of(task.needs) is not None
        takes = self.takes(task, last) if declared else self.slow.get(task.function, 0.0)
        return takes, declared, max(0.0, (last.end or 0.0) - self.now)

    def check_place(self, manager: Manager) -> None:
        """It is known whether a manager can take something.

        Raises:
            AssertionError: It is not.
        """
        assert (manager in self._roomy) == (manager.short and _can_take(manager))

    def check_invariants(self, managers: Iterable[Manager]) -> None:
        """Those with an end are known, those that are short are marked.

        Raises:
            AssertionError: They are not.
        """
        assert {m for m in managers if m.end is not None} == set(self._managers)
        assert {m for m in self._managers if m.short} == set(self.short)
        assert self._useless.keys() <= self._managers.keys()
        assert self._roomy.keys() <= self.short.keys()


def _can_take(manager: Manager) -> bool:
    return manager.open and not manager.reserved and manager.used < manager.slots + manager.prefetch
