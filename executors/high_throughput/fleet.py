"""What the driver knows of its managers: who is there, how many workers they have, since when blocks are idle.

The interchange tells of each change at once.  What changes with every task, it tells when asked, and the answer is
kept: the scaling loop must never wait.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

from flowlib.executors.high_throughput.capacity import slots_for
from flowlib.executors.high_throughput.lifetime import ahead
from flowlib.executors.high_throughput.messages import ManagerChanged, Register
from flowlib.scaling import BlockLoad, Load


class Member:
    """A manager.

    Attributes:
        number: Its number in events.
        facts: Its registration.
        here: Whether it is connected now.
        quarantined: Whether it gets no tasks, because its host ruins them.
        leaves_at: When it counts as leaving, because its job ends or it drains; by the monotonic clock.
    """

    __slots__ = ("facts", "here", "leaves_at", "number", "quarantined")

    def __init__(self, number: int, facts: Register | None) -> None:
        self.number = number
        self.facts = facts
        self.here = False
        self.quarantined = False
        self.leaves_at = math.inf


class Fleet:
    """The managers of one executor. One thread tells it of changes; any may read.

    Attributes:
        members: All managers so far, by name.
        blocks: Blocks of which a manager ever came, in that order.
        slots: Workers of all connected managers that get tasks.
        extra: Slots that the tasks that managers have take beyond one each.
    """

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.blocks: dict[str, None] = {}
        self.slots = 0
        self.extra = 0
        self._changes = 0
        self._shapes: tuple[int, list[Register]] = (0, [])
        self._asked: list[tuple[dict[str, Any], int]] = []
        self._numbers = itertools.count()
        self._busy: dict[str, tuple[int, float]] = {}
        self._running = 0
        self._asked_at: float | None = None

    def changed(self, change: ManagerChanged) -> Member:
        """Take note of a change; returns whose."""
        member = self.members.get(change.manager)
        if member is None:
            member = self.members[change.manager] = Member(next(self._numbers), change.details)
        elif change.details is not None:
            member.facts = change.details
        if change.details is not None and change.details.left is not None:
            member.leaves_at = time.monotonic() + change.details.left - ahead(change.details.life)
        if change.change == "registered":
            member.here = True
            self.blocks[change.block] = None
            member.quarantined = False
        elif change.change in ("lost", "drained", "rejected"):
            member.here = False
        elif change.change == "draining":
            member.leaves_at = -math.inf
        elif change.change in ("quarantined", "released"):
            member.quarantined = change.change == "quarantined"
        self.slots = sum(facts.slots for facts in self.working())
        self._changes += 1
        return member

    def connected(self) -> list[Register]:
        """The registrations of the managers that are connected."""
        return [m.facts for m in list(self.members.values()) if m.here and m.facts is not None]

    def working(self) -> list[Register]:
        """Those of them that get tasks."""
        return [facts for facts, _ in self._working()]

    def _working(self) -> list[tuple[Register, float]]:
        """The same, with when they leave."""
        every = list(self.members.values())
        return [(m.facts, m.leaves_at) for m in every if m.here and not m.quarantined and m.facts is not None]

    def shapes(self) -> list[Register]:
        """Registrations of connected managers, one for each kind of node."""
        known, shapes = self._shapes
        changes = self._changes
        if known != changes:
            kinds: dict[tuple[Any, ...], Register] = {}
            for f in self.connected():
                kind = (f.slots, f.cores, f.memory, f.share, f.disk, f.shared_gpus, len(f.gpus), len(f.nodes))
                kinds.setdefault((*kind, *sorted(f.labels.items())), f)
            shapes = list(kinds.values())
            self._shapes = (changes, shapes)
        return shapes

    def number_of(self, manager: str) -> int:
        """A manager's number in events, -1 if there is none of that name."""
        member = self.members.get(manager)
        return -1 if member is None else member.number

    def may_ask(self) -> bool:
        """Whether to ask the interchange for ``take_load`` now: not while an answer is due."""
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < 5:
            return False
        self._asked_at = now
        return True

    def forget_question(self) -> None:
        """No answer comes any more: there is another interchange."""
        self._asked_at = None

    def take_load(self, answer: Any) -> None:
        """Take the interchange's answer to "load"."""
        self._busy = {block: (int(running), float(idle)) for block, (running, idle) in answer["blocks"].items()}
        self._running = int(answer["running"])
        self.extra = int(answer["extra"])
        self._asked = [(dict(asked), int(count)) for asked, count in answer["asked"]]
        self._asked_at = None

    def demand(self, expected: Callable[[], Register]) -> int:
        """Slots that tasks take, or wait for, beyond one each.

        Args:
            expected: Tells what nodes will be like; asked as long as none is there.
        """
        if not self._asked:
            return self.extra
        largest = max(self.shapes() or [expected()], key=lambda facts: facts.slots)
        waiting = sum((min(slots_for(asked, largest), largest.slots) - 1) * count for asked, count in self._asked)
        return self.extra + waiting

    def load(self, outstanding: int, extra: int = 0) -> Load:
        """What there is to do, to the best of the driver's knowledge.

        Args:
            outstanding: Attempts that are out.
            extra: Slots that they take beyond one each.
        """
        blocks: dict[str, BlockLoad] = {}
        busy, now = self._busy, time.monotonic()
        for facts, leaves_at in self._working():
            known = blocks.get(facts.block, BlockLoad())
            running, idle = busy.get(facts.block, (0, 0.0))
            leaving = known.leaving + (facts.slots if now >= leaves_at else 0)
            blocks[facts.block] = BlockLoad(known.managers + 1, known.slots + facts.slots, running, idle, leaving)
        running = min(outstanding, self._running)
        return Load(outstanding - running, running, blocks, extra if outstanding else 0)
