"""The task graph: which task may run, which can never run, and when one is done.

Pure: no clock, lock, thread or user data.  The kernel feeds it events under its lock and carries out, afterwards, what
it finds in the ``Step`` that each event fills.  Every event costs O(1) per edge that it touches, and cascades run in a
loop, so that neither a fan-in of thousands nor a chain of thousands is special.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from flowlib.dataflow.states import FINAL_FAILURE_STATES, FINAL_STATES, States

# Class attributes of an enum are slow to reach; these are used for every task.
PENDING = States.pending
LAUNCHED = States.launched
JOINING = States.joining
EXEC_DONE = States.exec_done
FAILED = States.failed
DEP_FAIL = States.dep_fail
MEMO_DONE = States.memo_done
CANCELLED = States.cancelled
FAIL_RETRYABLE = States.fail_retryable

STATE_COUNT = max(States) + 1


class Node:
    """The part of a task that the graph looks at.

    Attributes:
        id: Number in the run, from 0.
        status: The state.
        attempt: Number of the current attempt, from 0. What is heard of another one is out of date.
        missing: Dependencies (or joined futures) that are not done.
        doomed: Whether one of those that are done failed.
        dependents: Who waits for this one; None for nobody.
        counts: Tasks by state, shared by the tasks of one app.
    """

    __slots__ = ("attempt", "counts", "dependents", "doomed", "id", "missing", "status")

    id: int
    status: States
    attempt: int
    missing: int
    doomed: bool
    dependents: list[Any] | None
    counts: list[int]

    def __init__(self, counts: list[int]) -> None:
        self.id = -1
        self.status = PENDING
        self.attempt = 0
        self.missing = 0
        self.doomed = False
        self.dependents = None
        self.counts = counts


N = TypeVar("N", bound=Node)


class Step(Generic[N]):
    """What follows from an event.

    Attributes:
        ready: To be launched; they count as launched already.
        dead: Can never run, because dependencies failed; they are final.
        joined: Joins whose futures are all done; the kernel ends them by ``finish``.
    """

    __slots__ = ("dead", "joined", "ready")

    def __init__(self) -> None:
        self.ready: list[N] = []
        self.dead: list[N] = []
        self.joined: list[N] = []


class Graph(Generic[N]):
    """All tasks of a run that are not done.

    Args:
        keep: Keep finished tasks in ``tasks``.
    """

    __slots__ = ("_keep", "added", "tasks", "unfinished")

    def __init__(self, keep: bool = False) -> None:
        self._keep = keep
        self.added = 0
        self.unfinished = 0
        self.tasks: dict[int, N] = {}

    def add(self, node: N, parents: Iterable[N] = (), others: int = 0) -> None:
        """Take a new task, which has its id; launched at once if it waits for nothing.

        Args:
            node: The task.
            parents: Tasks it depends on, as often as it does; finished ones too.
            others: How many futures from elsewhere it waits for. Each is told by ``arrived``.

        A task whose dependencies are all done, and one of them failed, becomes ``dep_fail``.
        """
        self.added += 1
        self.unfinished += 1
        self.tasks[node.id] = node
        missing = others
        for parent in parents:
            status = parent.status
            if status not in FINAL_STATES:
                missing += 1
                if parent.dependents is None:
                    parent.dependents = [node]
                else:
                    parent.dependents.append(node)
            elif status in FINAL_FAILURE_STATES:
                node.doomed = True
        if missing:
            node.missing = missing
            node.counts[PENDING] += 1
        elif node.doomed:
            node.counts[PENDING] += 1
            self._end(node, DEP_FAIL)
        else:
            node.status = LAUNCHED
            node.counts[LAUNCHED] += 1

    def arrived(self, node: N, failed: bool, step: Step[N]) -> None:
        """A future from elsewhere that ``node`` waits for, or joins, is done."""
        if node.status in FINAL_STATES:
            return
        if failed:
            node.doomed = True
        node.missing -= 1
        if node.missing == 0:
            orphans = self._complete(node, step)
            if orphans is not None:
                self._bury(orphans, step)

    def finish(self, node: N, state: States, step: Step[N]) -> None:
        """``node`` ended in a final state; those that waited only for it are ready, or dead."""
        dependents = self._end(node, state)
        if dependents is None:
            return
        if state in FINAL_FAILURE_STATES:
            self._bury(dependents, step)
            return
        for child in dependents:
            child.missing -= 1
            if child.missing == 0 and child.status not in FINAL_STATES:
                orphans = self._complete(child, step)
                if orphans is not None:
                    self._bury(orphans, step)

    def retry(self, node: N) -> None:
        """Another attempt at a launched task."""
        if node.status is not LAUNCHED:
            self._move(node, LAUNCHED)
        node.attempt += 1

    def hold(self, node: N) -> None:
        """The attempt failed and somebody has to decide (a retry handler); ``retry`` or ``finish`` follows."""
        self._move(node, FAIL_RETRYABLE)

    def join(self, node: N, parents: Iterable[N], others: int, step: Step[N]) -> None:
        """``node``'s body returned futures: those of tasks of this graph, and ``others`` from elsewhere."""
        self._move(node, JOINING)
        node.doomed = False
        node.missing = others + 1
        for parent in parents:
            status = parent.status
            if status not in FINAL_STATES:
                node.missing += 1
                if parent.dependents is None:
                    parent.dependents = [node]
                else:
                    parent.dependents.append(node)
            elif status in FINAL_FAILURE_STATES:
                node.doomed = True
        self.arrived(node, False, step)

    def abandon(self) -> list[N]:
        """Cancel everything that is not done: the run ends.

        Returns:
            The cancelled tasks.
        """
        nodes = [node for node in self.tasks.values() if node.status not in FINAL_STATES]
        for node in nodes:
            self._end(node, CANCELLED)
        return nodes

    def check_invariants(self) -> None:
        """For tests: raise AssertionError where the books do not balance. O(tasks + edges)."""
        live = [node for node in self.tasks.values() if node.status not in FINAL_STATES]
        assert len(live) == self.unfinished, (len(live), self.unfinished)
        assert self._keep or len(live) == len(self.tasks)
        waits: dict[int, int] = {}
        for node in live:
            for child in node.dependents or ():
                waits[child.id] = waits.get(child.id, 0) + 1
        for node in live:
            if node.status in (PENDING, JOINING):
                assert node.missing > 0, f"task {node.id} waits for nothing"
                assert node.missing >= waits.get(node.id, 0)
            else:
                assert node.missing == 0, f"task {node.id} runs and waits for {node.missing}"
                assert node.id not in waits
        for node in self.tasks.values():
            if node.status in FINAL_STATES:
                assert node.dependents is None, f"task {node.id} is done and keeps edges"
        counts: dict[int, list[int]] = {id(node.counts): node.counts for node in self.tasks.values()}
        assert all(n >= 0 for one in counts.values() for n in one), "a state is held by fewer than no tasks"

    def _complete(self, node: N, step: Step[N]) -> list[N] | None:
        """Nothing is missing any more. Returns the dependents of one that died of it, for the caller's loop."""
        if node.status is JOINING:
            step.joined.append(node)
        elif node.doomed:
            step.dead.append(node)
            return self._end(node, DEP_FAIL)
        else:
            self._move(node, LAUNCHED)
            step.ready.append(node)
        return None

    def _bury(self, dependents: list[N], step: Step[N]) -> None:
        """Something that ``dependents`` wait for failed."""
        further = [dependents]
        while further:
            for child in further.pop():
                child.missing -= 1
                child.doomed = True
                if child.missing == 0 and child.status not in FINAL_STATES:
                    orphans = self._complete(child, step)
                    if orphans is not None:
                        further.append(orphans)

    def _end(self, node: N, state: States) -> list[N] | None:
        counts = node.counts
        counts[node.status] -= 1
        counts[state] += 1
        node.status = state
        self.unfinished -= 1
        if not self._keep:
            del self.tasks[node.id]
        dependents = node.dependents
        node.dependents = None
        return dependents

    def _move(self, node: N, state: States) -> None:
        counts = node.counts
        counts[node.status] -= 1
        counts[state] += 1
        node.status = state
