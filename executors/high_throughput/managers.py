"""A manager as the dispatcher sees it, and how much work is kept at hand there.

Pure: durations and times are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowlib.executors.high_throughput.capacity import Holding, Pool, slots_for
from flowlib.executors.high_throughput.messages import Needs, Register, Task

Key = tuple[int, int]
"""``(task, attempt)``."""

PREFETCH_SECONDS = 0.035
"""Work that is kept at hand at a manager beyond what its workers run."""
LONG_TASK = 0.2
"""Tasks that take longer than this many seconds are not prefetched: the wait between two of them is nothing."""
SHORTEST_TASK = 50e-6
"""What the shortest task takes of a worker, all told."""
NOWHERE = -1
"""The rank of a manager that can take nothing."""


class Manager:
    """A registered manager.

    Attributes:
        facts: Its registration.
        name: Unique name.
        slots: Workers.
        prefetch: Most tasks it gets beyond its workers, as things are now.
        running: What it has, with the task.
        begun: What of that it said its workers run.
        extra: Slots that its tasks take beyond one each.
        ghosts: What it still has of a former connection that nobody waits for any more.
        known: Functions whose bodies it has.
        duration: Moving average of its tasks' seconds; None before the first.
        heard: When it was last heard of.
        idle_since: Since when it has had nothing to do.
        draining: It finishes what it has and leaves.
        held: It gets no more tasks.
        cut: Its connection is gone; it gets no more tasks until it registers again.
        order: Where its block stands among all.
        rank: The group it stands in; see ``ranks``.
        reserved: It is kept for a task that asks for much; see ``packing``.
        end: When its tasks must have ended, because its job ends; None for never.
        short: It may have too little time left for something; see ``endings``.
    """

    __slots__ = (
        "_adaptive",
        "_holdings",
        "_pool",
        "begun",
        "cut",
        "draining",
        "duration",
        "end",
        "extra",
        "facts",
        "ghosts",
        "heard",
        "held",
        "idle_since",
        "known",
        "name",
        "order",
        "prefetch",
        "rank",
        "reserved",
        "running",
        "short",
        "slots",
    )

    def __init__(self, facts: Register, order: int, now: float) -> None:
        self.facts = facts
        self.name = facts.manager
        self.slots = max(1, facts.slots)
        self._adaptive = facts.prefetch < 0
        self.prefetch = max(0, facts.prefetch)
        self.order = order
        self.rank = NOWHERE
        self.running: dict[Key, Task] = {}
        self.begun: set[Key] = set()
        self.ghosts: set[Key] = set()
        self.known: set[int] = set()
        self.duration: float | None = None
        self.heard = now
        self.idle_since = now
        self.draining = False
        self.held = False
        self.cut = False
        self.reserved = False
        self.end = None if facts.left is None else now + facts.left
        self.short = False
        self._pool = Pool(facts)
        self._holdings: dict[Key, Holding] = {}
        self.extra = 0

    @property
    def used(self) -> int:
        """Slots that its tasks take."""
        return len(self.running) + len(self.ghosts) + self.extra

    def room_for(self, asked: Mapping[str, Any]) -> bool:
        """Whether a task that asks for these resources could start at once."""
        return slots_for(asked, self.facts) <= self.slots - self.used and self._pool.holds(asked)

    def hold(self, key: Key, asked: Mapping[str, Any]) -> Holding:
        """Put aside what a task asks for; it must be in ``running`` too."""
        holding = self._pool.take(asked, slots_for(asked, self.facts))
        self._holdings[key] = holding
        self.extra += holding.slots - 1
        return holding

    def hold_again(self, key: Key, holding: Holding) -> None:
        """Put aside what a task had on this manager's former connection."""
        self._holdings[key] = self._pool.take_again(holding)
        self.extra += holding.slots - 1

    def hold_given(self, key: Key, needs: Needs) -> None:
        """Put aside what a task has of which only the manager itself knew, unless that is done."""
        if key not in self._holdings:
            self.hold_again(key, self._pool.given(needs))

    def holding(self, key: Key) -> Holding | None:
        """What was put aside for a task."""
        return self._holdings.get(key)

    def rested(self, now: float) -> None:
        """Something ended: it may have nothing to do from now on."""
        if not self.used:
            self.idle_since = now

    def ended(self, key: Key) -> None:
        """A task is not here any more."""
        self.begun.discard(key)
        self.release(key)

    def release(self, key: Key) -> None:
        """A task ended; what was put aside for it is free."""
        holding = self._holdings.pop(key, None)
        if holding is not None:
            self._pool.give(holding)
            self.extra -= holding.slots - 1

    def check_invariants(self) -> None:
        """What is put aside is there, and is somebody's.

        Raises:
            AssertionError: It is not.
        """
        self._pool.check_invariants()
        assert self._holdings.keys() <= self.running.keys() | self.ghosts
        assert self.extra == sum(holding.slots - 1 for holding in self._holdings.values())
        assert not self.extra or len(self._holdings) + self.extra <= self.slots

    @property
    def open(self) -> bool:
        """Whether it takes tasks at all."""
        return not (self.draining or self.held or self.cut)

    def may_have_begun(self) -> set[Key]:
        """What its workers run, as far as one can tell from here.

        Beside the tasks that it said have begun, each of its other workers may have begun one in the moment before it
        fell silent: the most important that it got first, since managers hand out in that order.
        """
        begun = self.begun & self.running.keys()
        unsure = self.slots - len(begun)
        if unsure > 0:
            order = sorted(self.running, key=self._priority)
            begun.update([key for key in order if key not in begun][:unsure])
        return begun

    def _priority(self, key: Key) -> float:
        needs = self.running[key].needs
        return 0.0 if needs is None else -needs.priority

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
