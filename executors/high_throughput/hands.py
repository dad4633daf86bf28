"""Where a manager's tasks are: waiting in a queue, or in the hands of a worker."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum

from flowlib.executors.high_throughput.manager_orders import Key, Terminate
from flowlib.executors.high_throughput.messages import Task


class State(Enum):
    """What may be done with a worker."""

    OPEN = "open"
    """It may be given tasks."""
    REVOKED = "revoked"
    """A revocation is out and was not looked at yet."""
    SKIPPING = "skipping"
    """What it caught is taken back; the worker has still to come by and skip it."""
    RETIRING = "retiring"
    """It begins no further task."""
    ENDING = "ending"
    """It is being ended with the task that it runs."""


class Entry:
    """One task.

    Attributes:
        task: As it came.
        key: Its name.
        worker: Who has it in hand; None while it waits.
        number: Its number among the tasks of that worker.
        estimate: Seconds that it was expected to take when it was handed out.
        cancelled: Whether somebody waits to hear that it is withdrawn.
        ending: How it is to be ended if it turns out to be running, or is being ended.
        slots: Workers whose share it has.
        lent: Those of them, by rank, that stay idle while its own worker has it.
    """

    __slots__ = ("cancelled", "ending", "estimate", "key", "lent", "number", "slots", "task", "worker")

    def __init__(self, task: Task, key: Key) -> None:
        self.task = task
        self.key = key
        self.worker: Worker | None = None
        self.number = 0
        self.estimate = 0.0
        self.cancelled = False
        self.ending: Terminate | None = None
        self.lent: tuple[int, ...] = ()
        self.slots = 1 if task.needs is None else task.needs.slots


class Worker:
    """A worker and what it has in hand.

    Attributes:
        rank: Its number on the node.
        state: What may be done with it.
        hand: Its tasks, in the order in which it runs them.
        sent: How many it was ever given.
        load: Seconds of work in hand.
        known: Functions that it has.
        first: The first in hand, which it runs or is about to.
        first_since: When that became the first.
        told: The one of which the interchange knows that it has begun.
        kill_at: When that must have ended.
        revoked: The number from which on its tasks are taken back.
        look_at: When to look what that caught.
        skips: Tasks taken back that it has still to come by.
    """

    __slots__ = (
        "first",
        "first_since",
        "hand",
        "kill_at",
        "known",
        "load",
        "look_at",
        "rank",
        "revoked",
        "sent",
        "skips",
        "state",
        "told",
    )

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.state = State.OPEN
        self.hand: deque[Entry] = deque()
        self.sent = 0
        self.load = 0.0
        self.known: set[int] = set()
        self.first: Entry | None = None
        self.first_since = 0.0
        self.told: Entry | None = None
        self.kill_at: float | None = None
        self.revoked = 0
        self.look_at = 0.0
        self.skips = 0


class Queue:
    """Waiting tasks: higher priority first, equal ones first in, first out.

    Attributes:
        count: How many there are.
    """

    def __init__(self) -> None:
        self._lanes: dict[float, deque[Entry]] = {}
        self._order: list[float] = []
        self.count = 0

    def _lane(self, entry: Entry) -> deque[Entry]:
        needs = entry.task.needs
        # Negated, so that the sorted list has the highest first.
        rank = 0.0 if needs is None else -needs.priority
        lane = self._lanes.get(rank)
        if lane is None:
            lane = self._lanes[rank] = deque()
            insort(self._order, rank)
        return lane

    def push(self, entry: Entry) -> None:
        """Add behind all of its priority."""
        self._lane(entry).append(entry)
        self.count += 1

    def push_front(self, entries: Sequence[Entry]) -> None:
        """Add before all of their priority, in this order."""
        for entry in reversed(entries):
            self._lane(entry).appendleft(entry)
        self.count += len(entries)

    def first(self) -> Entry:
        """The next; there must be one."""
        return self._lanes[self._order[0]][0]

    def pop(self) -> Entry:
        """Take out the next; there must be one."""
        rank = self._order[0]
        lane = self._lanes[rank]
        entry = lane.popleft()
        if not lane:
            del self._lanes[rank], self._order[0]
        self.count -= 1
        return entry

    def remove(self, entries: Iterable[Entry]) -> None:
        """Take these out, wherever they are."""
        gone = set(map(id, entries))
        for rank in [*self._order]:
            lane = self._lanes[rank]
            kept = deque(entry for entry in lane if id(entry) not in gone)
            self.count -= len(lane) - len(kept)
            self._lanes[rank] = kept
            if not kept:
                del self._lanes[rank]
                self._order.remove(rank)

    def clear(self) -> list[Entry]:
        """Take out all."""
        entries = self.entries()
        self._lanes.clear()
        self._order.clear()
        self.count = 0
        return entries

    def entries(self) -> list[Entry]:
        """All, the next first."""
        return [entry for rank in self._order for entry in self._lanes[rank]]
