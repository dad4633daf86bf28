"""What an executor had to work with, over time: why a task that it was given could not begin.

One ``Capacity`` per executor follows the records of its managers, blocks and attempts.  Only changes of the answer are
kept, so a run of a million tasks on workers that were always busy comes to a handful of them.  Whether all workers are
busy follows from how many attempts are out: that needs no record of each task's begin.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from flowlib.explain.reasons import Reason

Answer = tuple[Reason, Mapping[str, Any]]

KEPT = 20_000
"""Changes above which those are forgotten that no attempt that is out can need."""
_QUEUED = ("pending", "submitted", "submitting")
_OVER = frozenset({"ended", "failed"})


class _Manager:
    __slots__ = ("change", "cores", "host", "slots", "why")

    def __init__(self, host: str, slots: int) -> None:
        self.host = host
        self.slots = slots
        self.cores = 0.0
        self.change = "registered"
        self.why = ""


class _Block:
    __slots__ = ("change", "job", "reason")

    def __init__(self, change: str, job: str, reason: str) -> None:
        self.change = change
        self.job = job
        self.reason = reason


class Capacity:
    """One executor of a run.

    Attributes:
        label: Its label.
        remote: Whether it has blocks and managers, as far as its records tell.
        here: Whether its workers are threads of the driver, which an attempt waits for and nothing else.
        out: Attempts that are out, by task, with the time of their launch.

    Example:
        >>> capacity = Capacity("htex")
        >>> capacity.block(1.0, "0", "submitted", "1234", "")
        >>> capacity.block(2.0, "0", "pending", "1234", "Priority")
        >>> capacity.manager(5.0, 0, "registered", "node1", 2, "")
        >>> [(str(reason), since, until) for reason, since, until, _ in capacity.slices(1.5, 6.0)]
        [('block_queued', 1.5, 2.0), ('block_queued', 2.0, 5.0), ('dispatch', 5.0, 6.0)]
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self.remote = False
        self.here = False
        self.out: dict[int, float] = {}
        self._managers: dict[int, _Manager] = {}
        self._blocks: dict[str, _Block] = {}
        self._failed = 0
        self._failure = ""
        self._loss = ""
        self._slots = 0
        self._cores = 0.0
        # Of attempts that ask for several workers' share: how many more than one.
        self._more: dict[int, int] = {}
        self._extra = 0
        self._front: frozenset[int] | None = None
        self._moved = 0.0
        self._times: list[float] = []
        self._answers: list[Answer] = []
        self._crowded = False
        self._limit = KEPT

    # -------------------------------------------------------------------------------------------------- what happens

    def name(self, label: str, *, here: bool) -> None:
        """What is known of the executor from the start.

        Args:
            label: Its label.
            here: Whether its workers are threads of the driver, which an attempt waits for and nothing else.
        """
        self.label = label
        self.here = here

    def launched(self, when: float, task: int, asks: Mapping[str, Any] | None = None) -> None:
        """An attempt was handed to the executor, which asks for more than a worker's share, perhaps."""
        self.out[task] = when
        self._front = None
        cores = asks.get("cores") if asks else None
        if isinstance(cores, (int, float)) and self._cores:
            extra = ceil(cores * self._slots / self._cores - 1e-9) - 1
            if extra > 0:
                self._more[task] = extra
                self._extra += extra
        if not self._crowded and len(self.out) + self._extra > self._slots:
            self._look(when)

    def ended(self, when: float, task: int) -> None:
        """An attempt is over."""
        if self.out.pop(task, None) is None:
            return
        self._front = None
        self._moved = when
        if self._more:
            self._extra -= self._more.pop(task, 0)
        if self._crowded and len(self.out) + self._extra <= self._slots:
            self._look(when)

    def interchange(self, when: float) -> None:
        """The executor's interchange changed."""
        if not self.remote:
            self.remote = True
            self._look(when)

    def manager(
        self, when: float, number: int, change: str, host: str, slots: int, reason: str, cores: float = 0.0
    ) -> None:
        """A manager changed; see ``Code.MANAGER``. ``cores``: of its node, 0 if not told."""
        self.remote = True
        known = self._managers
        if change in ("lost", "drained"):
            known.pop(number, None)
            if change == "lost":
                self._loss = reason
        elif change != "rejected":
            member = known.get(number)
            if member is None:
                member = known[number] = _Manager(host, slots)
            member.change = "registered" if change == "released" else change
            member.slots, member.cores, member.why = slots or member.slots, cores or member.cores, reason
        there = [one for one in known.values() if one.change == "registered"]
        self._slots, self._cores = sum(one.slots for one in there), sum(one.cores for one in there)
        self._look(when)

    def block(self, when: float, block: str, change: str, job: str, reason: str) -> None:
        """A block changed; see ``Code.BLOCK``."""
        self.remote = True
        if change in _OVER:
            self._blocks.pop(block, None)
            if change == "failed":
                self._failed += 1
                self._failure = reason
        else:
            self._blocks[block] = _Block(change, job, reason)
            if change == "registered":
                self._failed, self._failure = 0, ""
        self._look(when)

    # ------------------------------------------------------------------------------------------------------- answers

    def now(self) -> Answer:
        """Why an attempt that is out might not run at this moment."""
        return self._answers[-1] if self._answers else self._answer()

    def turn(self, task: int) -> float | None:
        """Since when it is an attempt's turn, if workers take first what came first; None if others are before it."""
        if not self._slots or task not in self.out:
            return None
        if self._front is None:
            self._front = frozenset(self._first())
        if task not in self._front:
            return None
        return max(self.out[task], self._moved, self._times[-1] if self._times else 0.0)

    def _first(self) -> Iterator[int]:
        """The attempts for which there are workers."""
        used = 0
        for task in self.out:
            used += 1 + self._more.get(task, 0)
            if used > self._slots:
                return
            yield task

    def slices(self, since: float, until: float) -> Iterator[tuple[Reason, float, float, Mapping[str, Any]]]:
        """The answers between two times, as ``(reason, since, until, detail)`` without gap or overlap."""
        times, answers = self._times, self._answers
        index = bisect_right(times, since) - 1
        while since < until:
            end = min(until, times[index + 1]) if index + 1 < len(times) else until
            reason, detail = answers[index] if index >= 0 else self._answer()
            if end > since:
                yield reason, since, end, detail
                since = end
            index += 1

    # ----------------------------------------------------------------------------------------------------- inner life

    def _look(self, when: float) -> None:
        """Work the answer out again."""
        self._crowded = len(self.out) + self._extra > self._slots
        self._front = None
        answer = self._answer()
        if self._answers and self._answers[-1] == answer:
            return
        # Threads write their records in their own order: a change never comes before the one before it.
        self._times.append(max(when, self._times[-1]) if self._times else when)
        self._answers.append(answer)
        if len(self._times) > self._limit:
            self._forget_old()

    def _answer(self) -> Answer:
        label = self.label
        if not self.remote:
            return Reason.CAPACITY if self.here else Reason.EXECUTOR, {"executor": label}
        if self._slots:
            detail = {"executor": label, "workers": self._slots, "managers": self._count("registered")}
            return (Reason.CAPACITY, {**detail, **self._on_the_way()}) if self._crowded else (Reason.DISPATCH, detail)
        held = [one for one in self._managers.values() if one.change == "quarantined"]
        if held:
            hosts = sorted({one.host for one in held})
            return Reason.QUARANTINE, {"executor": label, "hosts": hosts, "why": held[-1].why}
        return self._without_workers()

    def _without_workers(self) -> Answer:
        label = self.label
        by_change: dict[str, list[str]] = {}
        for name, block in self._blocks.items():
            by_change.setdefault(block.change, []).append(name)
        queued = [name for change in _QUEUED for name in by_change.get(change, ())]
        if by_change.get("running"):
            return Reason.BLOCK_STARTING, self._of_blocks(by_change["running"])
        if queued:
            return Reason.BLOCK_QUEUED, self._of_blocks(queued)
        leaving = [one for one in self._managers.values() if one.change in ("draining", "drained")]
        if leaving:
            return Reason.DRAINING, {"executor": label, "managers": len(leaving), "why": leaving[-1].why}
        if by_change.get("registered"):
            return Reason.MANAGER_LOST, {**self._of_blocks(by_change["registered"]), "why": self._loss}
        if self._failed:
            return Reason.BLOCK_FAILED, {"executor": label, "failed": self._failed, "why": self._failure}
        return Reason.NO_BLOCK, {"executor": label}

    def _on_the_way(self) -> dict[str, Any]:
        """More blocks that are queued, where some are at work already."""
        queued = [one for one in self._blocks.values() if one.change in _QUEUED]
        return {"blocks_queued": len(queued), "why": queued[0].reason} if queued else {}

    def _of_blocks(self, names: list[str]) -> dict[str, Any]:
        first = self._blocks[names[0]]
        detail: dict[str, Any] = {"executor": self.label, "blocks": len(names), "job": first.job, "why": first.reason}
        if self._failed:
            detail["failed"] = self._failed
        return detail

    def _count(self, change: str) -> int:
        return sum(1 for one in self._managers.values() if one.change == change)

    def _forget_old(self) -> None:
        oldest = min(self.out.values(), default=self._times[-1])
        first = max(0, bisect_right(self._times, oldest) - 1)
        del self._times[:first], self._answers[:first]
        # Should all still be needed, looking again at each change would cost a pass over what is out.
        self._limit = max(KEPT, 2 * len(self._times))
