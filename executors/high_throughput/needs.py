"""What a task asks for beyond a worker, in the words of the wire."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flowlib.errors import InvalidResourceSpecification
from flowlib.executors.high_throughput.messages import Needs

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord

PRIORITY_BASE = 2.0**32
"""Tasks with a priority in their resource specification run before those that have none at all."""

_LATER = ("cores", "memory", "gpus", "nodes", "disk", "ranks_per_node", "num_nodes", "num_ranks", "running_time_min")


def parsl_priority(asked: float) -> float:
    """The priority, higher first, for one in a resource specification: lower first, infinite for last.

    Example:
        >>> parsl_priority(1) > parsl_priority(2) > parsl_priority(float("inf")) == 0.0
        True
    """
    return 0.0 if asked == math.inf else PRIORITY_BASE - asked


def needs_of(record: TaskRecord) -> Needs | None:
    """What a task asks for; None if that is nothing.

    Raises:
        InvalidResourceSpecification: It has two priorities.
    """
    # A bash app stops its command itself, and tells what it printed.
    walltime = None if record.app.kind == "bash" else record.walltime
    asked = record.resource_specification.get("priority")
    own = record.options.priority
    if asked is not None and own is not None:
        raise InvalidResourceSpecification(
            ["priority"],
            "the task has priority= (higher first) and a priority in its resource specification (lower first): "
            "give one of them",
        )
    priority = parsl_priority(asked) if asked is not None else (own or 0.0)
    return None if walltime is None and not priority else Needs(priority, walltime)


def check_specification(specification: dict[str, Any], who: str) -> None:
    """Refuse a resource specification that the executor can never honour.

    Args:
        specification: Not empty.
        who: The executor, for the message.

    Raises:
        InvalidResourceSpecification: Names the keys.
    """
    unknown = [str(key) for key in specification if key != "priority"]
    if unknown:
        from flowlib.suggest import closest

        hints = [f"{key!r}: did you mean 'priority'?" for key in unknown if closest(key, ["priority"])]
        if any(key in _LATER for key in unknown):
            hints.append(
                "every task gets one worker; amounts per worker are the executor's own cores_per_worker, "
                "mem_per_worker and available_accelerators"
            )
        raise InvalidResourceSpecification(
            unknown, " ".join([f"{who} takes {{'priority': number}}, lower first, and nothing else.", *hints])
        )
    priority = specification["priority"]
    if isinstance(priority, bool) or not isinstance(priority, (int, float)) or math.isnan(priority):
        raise InvalidResourceSpecification(
            ["priority"], f"{who} takes a number as priority, lower first, not {priority!r}"
        )
