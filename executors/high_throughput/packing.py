"""Tasks that ask for resources and wait: which is next, and for how long others may pass it.

They wait in lanes, one for each priority and shape of request, so that of a million equal requests only the first is
ever compared with a manager.  Managers that cannot serve a lane are not looked at again for it until something ends
there.

A request has its turn when all that came before it have been handed out.  If nothing can hold it then, others may go
on, but only as many as the manager that is to hold it has slots: then that manager is reserved, gets nothing else,
and so has room for it as soon as enough of its tasks have ended.

Requests that avoid places where they failed have lanes of their own, see ``avoidance``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from flowlib.executors.high_throughput.avoidance import Group, Places
from flowlib.executors.high_throughput.capacity import shortfall, slots_for
from flowlib.executors.high_throughput.endings import Endings, limit_of
from flowlib.executors.high_throughput.managers import Key, Manager
from flowlib.executors.high_throughput.messages import Task

Shape = tuple[float, bool, tuple[tuple[str, Any], ...], Places, bool, float | None]


class Lane:
    """Requests of one priority and shape, first come, first served.

    Attributes:
        priority: Higher first.
        early: Whether they go before others of the priority; see ``taskqueue``.
        asked: The amounts, by name.
        waiting: The requests, with how many tasks must have been handed out before it is their turn; withdrawn ones
            keep their place until it is reached.
        count: How many there are.
        open: Managers that may be able to serve them; the others need not be looked at.
        reserved: The manager that is kept for the first of them.
        avoids: The places that they avoid; None for nothing.
    """

    __slots__ = ("asked", "avoids", "count", "early", "open", "priority", "reserved", "waiting")

    def __init__(
        self, priority: float, early: bool, asked: dict[str, Any], managers: Iterable[Manager], avoids: Group | None
    ) -> None:
        self.priority = priority
        self.early = early
        self.asked = asked
        self.waiting: deque[tuple[int, Task]] = deque()
        self.count = 0
        self.open: dict[Manager, None] = dict.fromkeys(managers)
        self.reserved: Manager | None = None
        self.avoids = avoids

    def wish(self, managers: Iterable[Manager]) -> Callable[[Manager], bool] | None:
        """What a manager must be like beside having room; None if any will do."""
        if self.avoids is None:
            return None
        return self.avoids.wish(m for m in managers if shortfall(self.asked, m.facts) is None)

    @property
    def place(self) -> tuple[float, bool, int]:
        """Where it stands among all lanes, the first lowest; a task must be there."""
        return -self.priority, not self.early, self.waiting[0][0]


class Packing:
    """All lanes.

    Args:
        endings: Knows which tasks can end before a manager does.

    Attributes:
        keys: The tasks that wait, with their lanes.
        fresh: Whether there are lanes that ``impossible`` has not looked at.
    """

    __slots__ = ("_endings", "_freed", "_lanes", "fresh", "keys")

    def __init__(self, endings: Endings) -> None:
        self._endings = endings
        self.keys: dict[Key, Lane] = {}
        self.fresh = False
        self._lanes: dict[Shape, Lane] = {}
        self._freed: list[Manager] = []

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def active(self) -> bool:
        """Whether there is something to look at."""
        return bool(self._lanes)

    def take_freed(self) -> list[Manager]:
        """Managers that are not kept for a task any more."""
        freed, self._freed = self._freed, []
        return freed

    def put(self, task: Task, turn: int, managers: Iterable[Manager], *, front: bool = False) -> None:
        """Let a task wait that asks for resources.

        Args:
            task: The task.
            turn: How many tasks must have been handed out before it.
            managers: All there are.
            front: Whether it comes before all others of its lane.
        """
        needs = task.needs
        assert needs is not None and needs.resources
        places = tuple(needs.avoid or ())
        amounts = tuple(sorted(needs.resources.items()))
        shape = (needs.priority, task.early, amounts, places, needs.firm, limit_of(needs))
        lane = self._lanes.get(shape)
        if lane is None:
            avoids = Group(places, needs.firm, needs.priority) if places else None
            lane = self._lanes[shape] = Lane(needs.priority, task.early, needs.resources, managers, avoids)
            self.fresh = True
        self.keys[task.task, task.attempt] = lane
        lane.count += 1
        (lane.waiting.appendleft if front else lane.waiting.append)((turn, task))

    def withdraw(self, keys: Iterable[Key]) -> None:
        """Take out tasks; keys that do not wait here are ignored."""
        for key in keys:
            lane = self.keys.pop(key, None)
            if lane is not None:
                lane.count -= 1

    def asked(self) -> list[tuple[dict[str, Any], int]]:
        """What the waiting tasks ask for, with their number."""
        return [(lane.asked, lane.count) for lane in self._lanes.values() if lane.count]

    def changed(self, manager: Manager) -> None:
        """A manager has more room than before, or is new."""
        for lane in self._lanes.values():
            lane.open[manager] = None

    def gone(self, manager: Manager) -> None:
        """A manager takes no more tasks."""
        for lane in self._lanes.values():
            lane.open.pop(manager, None)
            if lane.reserved is manager:
                lane.reserved = None
        manager.reserved = False

    def lanes(self) -> list[Lane]:
        """Lanes with tasks: highest priority first, then early ones, then the one whose turn is first."""
        for shape, lane in [*self._lanes.items()]:
            if not self.settle(lane):
                self.release(lane)
                del self._lanes[shape]
        return sorted(self._lanes.values(), key=lambda lane: lane.place)

    def settle(self, lane: Lane) -> bool:
        """Drop the places of withdrawn tasks at the head of a lane; whether a task is there."""
        waiting = lane.waiting
        while waiting and (waiting[0][1].task, waiting[0][1].attempt) not in self.keys:
            waiting.popleft()
        return bool(waiting)

    def find(self, lane: Lane, managers: Iterable[Manager]) -> Manager | None:
        """A manager with room for the first of a lane: the one that it fills best among a few."""
        suits, fits = lane.wish(managers), self._endings.fits
        first = lane.waiting[0][1]
        if lane.reserved is not None:
            if (
                not lane.reserved.open
                or (suits is not None and not suits(lane.reserved))
                or not fits(first, lane.reserved)
            ):
                self.release(lane)
            elif lane.reserved.room_for(lane.asked):
                return lane.reserved
        # Also while one is kept for it: another may be free sooner, or new.
        best: Manager | None = None
        least, seen = 0, 0
        for manager in [*lane.open]:
            if (suits is not None and not suits(manager)) or not fits(first, manager):
                continue
            if manager.reserved or not manager.open or not manager.room_for(lane.asked):
                if not manager.reserved:
                    del lane.open[manager]
                continue
            left = manager.slots - manager.used
            if best is None or left < least:
                best, least = manager, left
            seen += 1
            if seen >= 8:
                break
        if best is None and lane.avoids is not None and not lane.avoids.firm:
            lane.avoids = None
            return self.find(lane, managers)
        return best

    def relent(self, now: float) -> None:
        """Let those run anywhere that have waited for too long for another place than where they failed."""
        for lane in self._lanes.values():
            if lane.avoids is not None and lane.avoids.is_over(now):
                lane.avoids = None

    def take(self, lane: Lane) -> Task:
        """Take out the first of a lane."""
        _, task = lane.waiting.popleft()
        del self.keys[task.task, task.attempt]
        lane.count -= 1
        self.release(lane)
        if lane.avoids is not None:
            lane.avoids.since = None
        return task

    def reserve(self, lane: Lane, passed: int, managers: Iterable[Manager]) -> Manager | None:
        """Keep a manager for the first of a lane, if enough others have passed it.

        Args:
            lane: Nothing has room for its first now.
            passed: Tasks handed out so far.
            managers: All there are.

        Returns:
            The manager that is newly kept for it.
        """
        over = passed - lane.waiting[0][0]
        if lane.reserved is not None or over <= 0:
            return None
        every = list(managers)
        if 4 * sum(m.reserved for m in every) >= max(4, len(every)):
            # While nodes are kept free they do less; those whose turn is later wait for the first.
            return None
        suits = lane.wish(every)
        able = [
            m
            for m in every
            if m.open and not m.reserved and over >= m.slots and not shortfall(lane.asked, m.facts)
            if (suits is None or suits(m)) and self._endings.fits(lane.waiting[0][1], m)
        ]
        if not able:
            return None
        # The one that has to give up least to make room.
        lane.reserved = min(able, key=lambda m: slots_for(lane.asked, m.facts) - (m.slots - m.used))
        lane.reserved.reserved = True
        return lane.reserved

    def release(self, lane: Lane) -> None:
        """Keep no manager for a lane any more."""
        if lane.reserved is not None:
            lane.reserved.reserved = False
            self._freed.append(lane.reserved)
            lane.reserved = None

    def impossible(self, managers: Iterable[Manager]) -> list[tuple[Task, tuple[str, Any, Any]]]:
        """Take out what no manager could hold if it were empty, with what the largest lacks."""
        self.fresh = False
        every = list(managers)
        found: list[tuple[Task, tuple[str, Any, Any]]] = []
        if not every:
            return found
        for lane in self.lanes():
            lacks = [shortfall(lane.asked, manager.facts) for manager in every]
            if None in lacks:
                continue
            nearest = max((lack for lack in lacks if lack is not None), key=lambda lack: lack[2])
            for _, task in lane.waiting:
                if (task.task, task.attempt) in self.keys:
                    found.append((task, nearest))
            self.withdraw([(task.task, task.attempt) for _, task in lane.waiting])
        return found

    def tasks(self) -> list[Task]:
        """All that wait, in no order."""
        every = (task for lane in self._lanes.values() for _, task in lane.waiting)
        return [task for task in every if (task.task, task.attempt) in self.keys]

    def request(self, key: Key) -> tuple[Lane, int] | None:
        """Where a task waits: its lane, and its place there from 1; None if it does not wait here."""
        if key not in self.keys:
            return None
        for lane in self._lanes.values():
            place = 0
            for _, task in lane.waiting:
                there = (task.task, task.attempt)
                place += there in self.keys
                if there == key:
                    return lane, place
        return None

    def check_invariants(self, managers: Iterable[Manager]) -> None:
        """Every task is in a lane; managers are kept for at most one.

        Raises:
            AssertionError: They are not.
        """
        there = {(t.task, t.attempt) for lane in self._lanes.values() for _, t in lane.waiting}
        assert self.keys.keys() <= there
        assert all(lane.count == sum(of is lane for of in self.keys.values()) for lane in self._lanes.values())
        kept = [lane.reserved for lane in self._lanes.values() if lane.reserved is not None]
        assert len(kept) == len(set(kept))
        assert set(kept) == {m for m in managers if m.reserved}
