"""What the driver knows of its managers: who is there, how many workers they have, since when blocks are idle.

The interchange tells of each change at once.  What changes with every task, it tells when asked, and the answer is
kept: the scaling loop must never wait.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from flowlib.executors.high_throughput.messages import ManagerChanged, Register
from flowlib.scaling import BlockLoad, Load


class Member:
    """A manager.

    Attributes:
        number: Its number in events.
        facts: Its registration.
        here: Whether it is connected now.
        quarantined: Whether it gets no tasks, because its host ruins them.
    """

    __slots__ = ("facts", "here", "number", "quarantined")

    def __init__(self, number: int, facts: Register | None) -> None:
        self.number = number
        self.facts = facts
        self.here = False
        self.quarantined = False


class Fleet:
    """The managers of one executor. One thread tells it of changes; any may read.

    Attributes:
        members: All managers so far, by name.
        blocks: Blocks of which a manager ever came, in that order.
        slots: Workers of all connected managers that get tasks.
    """

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.blocks: dict[str, None] = {}
        self.slots = 0
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
        if change.change == "registered":
            member.here = True
            self.blocks[change.block] = None
            member.quarantined = False
        elif change.change in ("lost", "drained", "rejected"):
            member.here = False
        elif change.change in ("quarantined", "released"):
            member.quarantined = change.change == "quarantined"
        self.slots = sum(facts.slots for facts in self.working())
        return member

    def connected(self) -> list[Register]:
        """The registrations of the managers that are connected."""
        return [m.facts for m in list(self.members.values()) if m.here and m.facts is not None]

    def working(self) -> list[Register]:
        """Those of them that get tasks."""
        return [m.facts for m in list(self.members.values()) if m.here and not m.quarantined and m.facts is not None]

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
        self._asked_at = None

    def load(self, outstanding: int) -> Load:
        """What there is to do, to the best of the driver's knowledge.

        Args:
            outstanding: Attempts that are out.
        """
        blocks: dict[str, BlockLoad] = {}
        busy = self._busy
        for facts in self.working():
            known = blocks.get(facts.block, BlockLoad())
            running, idle = busy.get(facts.block, (0, 0.0))
            blocks[facts.block] = BlockLoad(known.managers + 1, known.slots + facts.slots, running, idle)
        running = min(outstanding, self._running)
        return Load(outstanding - running, running, blocks)
