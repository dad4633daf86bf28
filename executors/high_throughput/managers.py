"""A manager as the dispatcher sees it, and how much work is kept at hand there.

Pure: durations and times are told.
"""

from __future__ import annotations

from flowlib.executors.high_throughput.messages import Register, Task

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
    """

    __slots__ = (
        "_adaptive",
        "begun",
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
        "order",
        "prefetch",
        "rank",
        "running",
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

    @property
    def used(self) -> int:
        """Tasks it has."""
        return len(self.running) + len(self.ghosts)

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
