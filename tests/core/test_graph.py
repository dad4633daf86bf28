"""The task graph, walked at random and pushed to its extremes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.dataflow.graph import STATE_COUNT, Graph, Node, Step
from flowlib.dataflow.states import FINAL_FAILURE_STATES, FINAL_STATES, States


class Walk:
    """A graph, and a plain book of what should be in it."""

    def __init__(self, seed: int, keep: bool = False) -> None:
        self.random = random.Random(seed)
        self.counts = [0] * STATE_COUNT
        self.graph: Graph[Node] = Graph(keep=keep)
        self.nodes: list[Node] = []
        self.parents: dict[int, list[Node]] = {}
        self.others: dict[int, int] = {}
        self.joined: dict[int, list[Node]] = {}
        self.ended: dict[int, States] = {}

    def take(self, step: Step[Node]) -> None:
        """Do what the kernel does with a step, until nothing follows any more."""
        while step.ready or step.dead or step.joined:
            following: Step[Node] = Step()
            for node in step.ready:
                assert node.status is States.launched
                assert all(p.status in FINAL_STATES - FINAL_FAILURE_STATES for p in self.parents[node.id])
                assert self.others[node.id] == 0
            for node in step.dead:
                self.end(node, States.dep_fail)
            for node in step.joined:
                assert all(p.status in FINAL_STATES for p in self.joined[node.id])
                state = States.failed if node.doomed else States.exec_done
                self.graph.finish(node, state, following)
                self.end(node, state)
            step = following

    def end(self, node: Node, state: States) -> None:
        """Note the end of a task, the only one."""
        assert node.status is state
        assert node.id not in self.ended
        self.ended[node.id] = state

    def pick(self, *states: States) -> Node | None:
        """A random task in one of these states."""
        found = [node for node in self.nodes if node.status in states]
        return self.random.choice(found) if found else None

    def act(self) -> None:
        """One random event."""
        step: Step[Node] = Step()
        what = self.random.choice(["add", "add", "done", "done", "fail", "retry", "join", "cancel", "other", "hold"])
        node = self.pick(States.launched)
        if what == "add":
            self.add()
        elif what == "other":
            node = self.pick(States.pending)
            if node is not None and self.others[node.id]:
                self.others[node.id] -= 1
                self.graph.arrived(node, self.random.random() < 0.2, step)
        elif what == "cancel":
            node = self.pick(States.pending, States.launched, States.joining)
            if node is not None:
                self.finish(node, States.cancelled, step)
        elif node is None:
            return
        elif what == "done":
            self.finish(node, States.exec_done, step)
        elif what == "fail":
            self.finish(node, States.failed, step)
        elif what == "retry":
            before = node.attempt
            self.graph.retry(node)
            assert node.attempt == before + 1
        elif what == "hold":
            self.graph.hold(node)
            if self.random.random() < 0.5:
                self.graph.retry(node)
            else:
                self.finish(node, States.failed, step)
        elif what == "join":
            # Newer tasks only, as a body that ran can return: so nothing waits for itself.
            futures = [n for n in self.nodes[node.id + 1 :] if self.random.random() < 0.3]
            futures = [n for n in futures if not self.reaches(n, node)]
            self.joined[node.id] = futures
            self.graph.join(node, futures, 0, step)
        self.take(step)
        self.graph.check_invariants()
        self.check()

    def reaches(self, start: Node, goal: Node) -> bool:
        """Whether ``start`` waits, by any way, for ``goal``."""
        stack, seen = [start], set()
        while stack:
            node = stack.pop()
            if node is goal:
                return True
            if node.id not in seen:
                seen.add(node.id)
                stack += [*self.parents[node.id], *self.joined.get(node.id, [])]
        return False

    def add(self) -> None:
        """A new task with random dependencies, some of them twice."""
        node = Node(self.counts)
        node.id = len(self.nodes)
        count = self.random.choice([0, 0, 1, 2, 5]) if self.nodes else 0
        parents = [self.random.choice(self.nodes) for _ in range(count)]
        self.parents[node.id] = parents
        self.others[node.id] = others = self.random.choice([0, 0, 0, 1])
        self.nodes.append(node)
        self.graph.add(node, parents, others)
        if node.status is States.dep_fail:
            assert any(p.status in FINAL_FAILURE_STATES for p in parents)
            self.end(node, States.dep_fail)

    def finish(self, node: Node, state: States, step: Step[Node]) -> None:
        """End a task and note it."""
        self.graph.finish(node, state, step)
        self.end(node, state)

    def check(self) -> None:
        """The graph's books against the plain one."""
        for state in States:
            assert self.counts[state] == sum(node.status is state for node in self.nodes), state
        assert self.graph.unfinished == len(self.nodes) - len(self.ended)

    def drain(self) -> None:
        """Let everything end."""
        while self.graph.unfinished:
            step: Step[Node] = Step()
            node = self.pick(States.launched)
            if node is not None:
                self.finish(node, States.exec_done, step)
            else:
                node = self.pick(States.pending)
                assert node is not None, "tasks are left that nothing can end"
                waiting = [n for n in self.nodes if n.status is States.pending and self.others[n.id]]
                assert waiting, "tasks wait for nothing that can happen"
                self.others[waiting[0].id] -= 1
                self.graph.arrived(waiting[0], False, step)
            self.take(step)
        assert not self.graph.tasks


@given(st.integers(0, 2**32))
def test_random_walk(seed: int) -> None:
    """Whatever happens in whatever order, each task ends exactly once and the books balance."""
    walk = Walk(seed)
    for _ in range(60):
        walk.act()
    walk.drain()
    assert len(walk.ended) == len(walk.nodes)


def chain(graph: Graph[Node], length: int) -> list[Node]:
    """Tasks that each wait for the one before."""
    counts = [0] * STATE_COUNT
    nodes: list[Node] = []
    for i in range(length):
        node = Node(counts)
        node.id = i
        graph.add(node, nodes[-1:])
        nodes.append(node)
    return nodes


@pytest.mark.parametrize("state", [States.failed, States.cancelled])
def test_long_chain_fails_in_a_loop(state: States) -> None:
    """The failure of the first of 10 000 tasks in a row reaches the last without recursion."""
    graph: Graph[Node] = Graph()
    nodes = chain(graph, 10_000)
    step: Step[Node] = Step()
    graph.finish(nodes[0], state, step)
    assert step.dead == nodes[1:]
    assert graph.unfinished == 0
    assert not graph.tasks


def test_fan_in_is_ready_once() -> None:
    """A task with 5 000 dependencies becomes ready with the last of them, and only then."""
    graph: Graph[Node] = Graph()
    counts = [0] * STATE_COUNT
    parents = chain(graph, 1)
    for i in range(1, 5000):
        parents.append(Node(counts))
        parents[-1].id = i
        graph.add(parents[-1])
    last = Node(counts)
    last.id = 5000
    graph.add(last, parents)
    assert last.missing == 5000
    step: Step[Node] = Step()
    for parent in parents[:-1]:
        graph.finish(parent, States.exec_done, step)
    assert not step.ready
    graph.finish(parents[-1], States.exec_done, step)
    assert step.ready == [last]


def test_same_parent_twice() -> None:
    """A task that takes the same future twice becomes ready once."""
    graph: Graph[Node] = Graph()
    (parent,) = chain(graph, 1)
    child = Node(parent.counts)
    child.id = 1
    graph.add(child, [parent, parent])
    step: Step[Node] = Step()
    graph.finish(parent, States.exec_done, step)
    assert step.ready == [child]


def test_a_failed_dependency_waits_for_the_others() -> None:
    """A doomed task ends when its last dependency does, so that its error can name all that failed."""
    graph: Graph[Node] = Graph()
    good, bad = Node([0] * STATE_COUNT), Node([0] * STATE_COUNT)
    good.id, bad.id = 0, 1
    graph.add(good)
    graph.add(bad)
    child = Node(good.counts)
    child.id = 2
    graph.add(child, [good, bad])
    step: Step[Node] = Step()
    graph.finish(bad, States.failed, step)
    assert not step.dead
    graph.finish(good, States.exec_done, step)
    assert step.dead == [child]


def test_work_per_edge_is_constant() -> None:
    """Ending a layer of tasks touches each edge once, however many tasks there are besides."""

    class Counting(Node):
        __slots__ = ("touched", "value")

        @property
        def missing(self) -> int:
            return int(self.value)

        @missing.setter
        def missing(self, value: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
            self.touched = getattr(self, "touched", 0) + 1
            self.value = value

    def cost(width: int) -> float:
        graph: Graph[Node] = Graph()
        counts = [0] * STATE_COUNT
        first = [Counting(counts) for _ in range(width)]
        second = [Counting(counts) for _ in range(width)]
        for i, node in enumerate([*first, *second]):
            node.id = i
        for node in first:
            graph.add(node)
        for i, node in enumerate(second):
            graph.add(node, [first[i], first[(i + 1) % width], first[(i + 7) % width]])
        step: Step[Node] = Step()
        for node in first:
            graph.finish(node, States.exec_done, step)
        assert len(step.ready) == width
        return sum(n.touched for n in second) / width

    assert cost(10) == cost(1000)


def test_abandon_cancels_what_is_left() -> None:
    """The end of a run cancels every task that is not done, and leaves nothing in the graph."""
    graph: Graph[Node] = Graph()
    nodes = chain(graph, 5)
    graph.finish(nodes[0], States.exec_done, Step())
    assert graph.abandon() == nodes[1:]
    assert {node.status for node in nodes[1:]} == {States.cancelled}
    assert graph.unfinished == 0
    graph.check_invariants()


def test_keep() -> None:
    """A graph that is told to keeps finished tasks for those who look."""
    graph: Graph[Node] = Graph(keep=True)
    nodes = chain(graph, 2)
    graph.finish(nodes[0], States.exec_done, Step())
    assert list(graph.tasks.values()) == nodes
    graph.check_invariants()
