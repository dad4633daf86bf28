"""What a node has for tasks that ask for more than a worker, and what is left of it: pure arithmetic.

Everything is counted in slots first.  A slot is a worker with its share of the node's cores and memory; a task that
asks for nothing has one.  A task that asks for more than a share takes as many slots as hold what it asks for, so
the tasks that ask for nothing, nearly all, need no arithmetic.  What no worker has a share in (disk, labels,
accelerators that go by task) is counted by amount.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from flowlib.executors.high_throughput.messages import Needs, Register

AMOUNTS = ("cores", "memory", "gpus", "disk")
"""The resources that have a meaning of their own; every other name is a label, but for the nodes of MPI tasks."""
_BIT = 1e-9


def slots_for(asked: Mapping[str, Any], facts: Register) -> int:
    """The slots that a task takes on a node.

    Example:
        >>> node = Register(1, "3.11", "1", "m", "0", "host", 1, slots=8, cores=16)
        >>> [slots_for({"cores": cores}, node) for cores in (0.5, 2, 3, 16)]
        [1, 1, 2, 8]
    """
    needed = 1.0
    slots = max(1, facts.slots)
    cores = asked.get("cores")
    if cores:
        needed = max(needed, cores * slots / max(facts.cores, _BIT))
    memory = asked.get("memory")
    if memory and facts.share:
        needed = max(needed, memory / facts.share)
    return math.ceil(needed - _BIT)


def shortfall(asked: Mapping[str, Any], facts: Register) -> tuple[str, Any, Any] | None:
    """What an empty node lacks for a task: the resource, the amount asked, the amount there; None if nothing.

    Example:
        >>> node = Register(1, "3.11", "1", "m", "0", "host", 1, slots=8, cores=16)
        >>> shortfall({"cores": 64}, node)
        ('cores', 64, 16)
    """
    for name, amount in asked.items():
        there = total(name, facts)
        if amount > there + _BIT:
            return name, amount, there
    if slots_for(asked, facts) > max(1, facts.slots):
        # Each is there, but in shares that are too small: nothing else has a share.
        return "memory", asked.get("memory", 0), facts.share * facts.slots
    return None


def total(name: str, facts: Register) -> float:
    """How much of a resource an empty node has."""
    if name == "cores":
        return facts.cores
    if name == "memory":
        return facts.memory
    if name == "disk":
        return facts.disk
    if name == "gpus":
        return len(facts.gpus) if facts.shared_gpus else 0
    if name == "nodes":
        return len(facts.nodes)
    return facts.labels.get(name, 0)


class Holding:
    """What one task has on a node beyond a slot.

    Attributes:
        slots: How many slots.
        amounts: What it has of that which has no names.
        gpus: The part that it has of each accelerator.
        nodes: The part that it has of each of the nodes for MPI programs.
    """

    __slots__ = ("amounts", "gpus", "nodes", "slots")

    def __init__(self, slots: int, amounts: dict[str, float], gpus: dict[str, float], nodes: dict[str, float]) -> None:
        self.slots = slots
        self.amounts = amounts
        self.gpus = gpus
        self.nodes = nodes


class Named:
    """What is left of things that have names: accelerators, nodes.

    Args:
        names: The things.
    """

    __slots__ = ("_left",)

    def __init__(self, names: Iterable[str]) -> None:
        self._left = dict.fromkeys(names, 1.0)

    def choose(self, amount: float) -> dict[str, float]:
        """Things for a task: whole ones alone, a fraction where the least is left; {} if there are none."""
        if amount >= 1:
            free = [name for name, left in self._left.items() if left >= 1 - _BIT]
            wanted = math.ceil(amount - _BIT)
            return dict.fromkeys(free[:wanted], 1.0) if len(free) >= wanted else {}
        fitting = [name for name, left in self._left.items() if left >= amount - _BIT]
        return {min(fitting, key=self._left.__getitem__): amount} if fitting else {}

    def take(self, parts: Mapping[str, float]) -> None:
        """Give out these parts, of things that are there."""
        for name, part in parts.items():
            if name in self._left:
                self._left[name] -= part

    def give(self, parts: Mapping[str, float]) -> None:
        """Take them back."""
        for name, part in parts.items():
            if name in self._left:
                self._left[name] += part

    def check_invariants(self) -> None:
        """Nothing is given out twice.

        Raises:
            AssertionError: It is.
        """
        assert all(-1e-6 <= left <= 1 + 1e-6 for left in self._left.values())


class Pool:
    """What is left of a node's amounts.

    Args:
        facts: What there is.

    Example:
        >>> pool = Pool(Register(1, "3.11", "1", "m", "0", "host", 1, slots=8, gpus=["0", "1"], shared_gpus=True))
        >>> pool.take({"gpus": 0.5}, 1).gpus
        {'0': 0.5}
        >>> pool.take({"gpus": 1}, 1).gpus
        {'1': 1.0}
        >>> pool.holds({"gpus": 1}), pool.holds({"gpus": 0.5})
        (False, True)
    """

    __slots__ = ("_facts", "_gpus", "_nodes", "_taken")

    def __init__(self, facts: Register) -> None:
        self._facts = facts
        self._taken: dict[str, float] = {}
        self._gpus = Named(facts.gpus if facts.shared_gpus else ())
        self._nodes = Named(facts.nodes)

    def _counted(self, name: str) -> bool:
        # Cores and memory with a share are in the slots.
        return name not in ("cores", "gpus", "nodes") and not (name == "memory" and self._facts.share)

    def holds(self, asked: Mapping[str, Any]) -> bool:
        """Whether there is enough left for a task; its slots are the caller's to count."""
        for name, amount in asked.items():
            if name == "gpus":
                if amount and not self._gpus.choose(amount):
                    return False
            elif name == "nodes":
                if not self._nodes.choose(amount):
                    return False
            elif self._counted(name) and amount > total(name, self._facts) - self._taken.get(name, 0.0) + _BIT:
                return False
        return True

    def take(self, asked: Mapping[str, Any], slots: int) -> Holding:
        """Give a task its part; ``holds`` has said that it is there."""
        gpus = self._gpus.choose(asked["gpus"]) if asked.get("gpus") else {}
        nodes = self._nodes.choose(asked["nodes"]) if asked.get("nodes") else {}
        self._gpus.take(gpus)
        self._nodes.take(nodes)
        amounts = {name: float(amount) for name, amount in asked.items() if self._counted(name)}
        for name, amount in amounts.items():
            self._taken[name] = self._taken.get(name, 0.0) + amount
        return Holding(slots, amounts, gpus, nodes)

    def given(self, needs: Needs) -> Holding:
        """What a task was given that this interchange, or this connection, did not give."""
        asked = needs.resources or {}
        gpus, nodes = (
            dict.fromkeys(names or (), min(1.0, asked.get(what) or 0.0))
            for what, names in (("gpus", needs.gpus), ("nodes", needs.nodes))
        )
        amounts = {name: float(amount) for name, amount in asked.items() if self._counted(name)}
        return Holding(needs.slots, amounts, gpus, nodes)

    def take_again(self, holding: Holding) -> Holding:
        """Give a task what it has already."""
        self._gpus.take(holding.gpus)
        self._nodes.take(holding.nodes)
        for name, amount in holding.amounts.items():
            self._taken[name] = self._taken.get(name, 0.0) + amount
        return holding

    def give(self, holding: Holding) -> None:
        """Take back a task's part."""
        self._gpus.give(holding.gpus)
        self._nodes.give(holding.nodes)
        for name, amount in holding.amounts.items():
            self._taken[name] -= amount

    def check_invariants(self) -> None:
        """Nothing is given out that is not there.

        Raises:
            AssertionError: It is.
        """
        self._gpus.check_invariants()
        self._nodes.check_invariants()
        assert all(-1e-6 <= n <= total(name, self._facts) * (1 + 1e-9) + 1e-6 for name, n in self._taken.items())
