"""What a task asks for beyond a worker, in the words of the wire."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.tries import avoided
from flowlib.errors import InvalidResourceSpecification
from flowlib.executors.high_throughput.capacity import AMOUNTS, shortfall
from flowlib.executors.high_throughput.messages import Needs, Register
from flowlib.suggest import closest
from flowlib.units import format_size, format_time

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord

_MPI = ("nodes", "ranks", "ranks_per_node", "num_nodes", "num_ranks", "launcher_options")
PRIORITY_BASE = 2.0**32
"""Tasks with a priority in their resource specification run before those that have none at all."""


def parsl_priority(asked: float) -> float:
    """The priority, higher first, for one in a resource specification: lower first, infinite for last.

    Example:
        >>> parsl_priority(1) > parsl_priority(2) > parsl_priority(float("inf")) == 0.0
        True
    """
    return 0.0 if asked == math.inf else PRIORITY_BASE - asked


def first_priority(specification: Mapping[str, Any]) -> float:
    """The priority, higher first, in a resource specification; 0 if there is none."""
    asked = specification.get("priority")
    return 0.0 if asked is None else parsl_priority(asked)


def needs_of(record: TaskRecord) -> Needs | None:
    """What a task asks for; None if that is nothing.

    Raises:
        InvalidResourceSpecification: It has two priorities.
    """
    walltime, lasts = record.walltime, None
    if record.app.kind == "bash":
        # It stops its command itself, and tells what it printed.
        walltime, lasts = None, walltime
    asked = record.resource_specification.get("priority")
    own = record.options.priority
    if asked is not None and own is not None:
        raise InvalidResourceSpecification(
            ["priority"],
            "the task has priority= (higher first) and a priority in its resource specification (lower first): "
            "give one of them",
        )
    priority = parsl_priority(asked) if asked is not None else (own or 0.0)
    resources = resources_of(record.resource_specification)
    places: list[tuple[str, str]] | None = None
    firm = False
    if record.rare is not None and record.rare.tries:
        places, firm = avoided(record.rare.tries)
    if record.walltime is None and not priority and not resources and not places:
        return None
    return Needs(priority, walltime, resources, avoid=places or None, firm=firm, lasts=lasts)


def resources_of(specification: Mapping[str, Any]) -> dict[str, Any] | None:
    """The amounts in a resource specification that passed ``check_specification``; None if there are none."""
    amounts = {name: amount for name, amount in specification.items() if name != "priority" and amount}
    return amounts or None


def check_specification(specification: Mapping[str, Any], who: str, labels: Iterable[str] = ()) -> None:
    """Refuse a resource specification that makes no sense to the executor.

    Args:
        specification: Not empty.
        who: The executor, for the message.
        labels: Names of the executor's own.

    Raises:
        InvalidResourceSpecification: Names the keys.
    """
    valid = [*AMOUNTS, "priority", *labels]
    mpi = [key for key in specification if key in _MPI and key not in valid]
    if mpi:
        raise InvalidResourceSpecification(
            mpi,
            f"{who} gives a task a part of one node, and takes {', '.join(valid)}: use an MPIExecutor for MPI programs "
            f"that need {' and '.join(mpi)}",
        )
    unknown = [str(key) for key in specification if key not in valid]
    if unknown:
        hints = "".join(f" {key!r}: did you mean {near!r}?" for key in unknown if (near := closest(key, valid)))
        raise InvalidResourceSpecification(
            unknown,
            f"{who} takes {', '.join(valid)}; give further names as the executor's labels={{name: amount}}.{hints}",
        )
    priority = specification.get("priority")
    if "priority" in specification and not _is_number(priority):
        raise InvalidResourceSpecification(
            ["priority"], f"{who} takes a number as priority, lower first, not {priority!r}"
        )
    for name, amount in specification.items():
        if name != "priority" and not (_is_number(amount) and 0 <= amount < math.inf):
            raise InvalidResourceSpecification([name], f"{who} takes a number of at least 0 as {name}, not {amount!r}")
    gpus = specification.get("gpus", 0)
    if gpus > 1 and gpus != int(gpus):
        raise InvalidResourceSpecification(
            ["gpus"],
            f"{who} takes whole accelerators or a fraction of one, not {gpus!r}: give {int(gpus)} or {int(gpus) + 1}",
        )


def check_time(walltime: float, provider: Any, who: str) -> None:
    """Refuse a walltime that no block of this provider could hold, were it all for that task.

    Raises:
        InvalidResourceSpecification: Names both.
    """
    span = getattr(provider, "walltime_s", None)
    if span and walltime > span:
        given = f"{type(provider).__name__}(walltime={getattr(provider, 'walltime', span)!r})"
        raise InvalidResourceSpecification(["walltime"], f"{lacking(who, 'walltime', walltime, span)} ({given})")


def check_fits(specification: Mapping[str, Any], nodes: Iterable[Register], who: str) -> None:
    """Refuse what none of these nodes could hold if it were empty.

    Raises:
        InvalidResourceSpecification: Names what is asked and the most there is.
    """
    asked = resources_of(specification)
    if asked is None:
        return
    lacks = [shortfall(asked, facts) for facts in nodes]
    if not lacks or None in lacks:
        return
    name, amount, there = max((lack for lack in lacks if lack is not None), key=lambda lack: lack[2])
    raise InvalidResourceSpecification([name], lacking(who, name, amount, there))


def lacking(who: str, name: str, amount: float, there: float) -> str:
    """The message about a request that no node can hold.

    Example:
        >>> lacking("htex", "cores", 64, 16)
        'the task asks for 64 cores, the largest node of htex has 16'
    """
    if name in ("memory", "disk"):
        return f"the task asks for {format_size(amount)} of {name}, the largest node of {who} has {format_size(there)}"
    if name == "walltime":
        return (
            f"the task's walltime of {format_time(amount)} is longer than the {format_time(there)} that a block of "
            f"{who} has for tasks: give the task less, or the provider more"
        )
    if name == "nodes":
        return f"the task asks for {amount:g} nodes, the largest block of {who} has {there:g}"
    hint = (
        "; its accelerators belong to workers, give it shared_accelerators=True" if name == "gpus" and not there else ""
    )
    return f"the task asks for {amount:g} {name}, the largest node of {who} has {there:g}{hint}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
