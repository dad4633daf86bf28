"""What an MPI task asks for: nodes, and how many processes on them.

The names are the field's (``num_nodes``, ``ranks_per_node``, ``num_ranks``, ``launcher_options``) or the short ones
(``nodes``, ``ranks``); what is left out follows from the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from flowlib.errors import InvalidResourceSpecification
from flowlib.suggest import closest

NAMES = {
    "nodes": "nodes",
    "num_nodes": "nodes",
    "ranks": "ranks",
    "num_ranks": "ranks",
    "ranks_per_node": "ranks_per_node",
    "launcher_options": "launcher_options",
    "priority": "priority",
}


class Request(NamedTuple):
    """A checked request.

    Attributes:
        nodes: Whole nodes, or a part of one that others may share.
        ranks: Processes in all.
        ranks_per_node: Most processes on each node.
        launcher_options: Text for the end of the launcher's command line.
    """

    nodes: float
    ranks: int
    ranks_per_node: int
    launcher_options: str


def parse_request(specification: Mapping[str, Any], who: str) -> Request:
    """Check a resource specification, and work out what it leaves out.

    Args:
        specification: As the user wrote it.
        who: The executor, for messages.

    Raises:
        InvalidResourceSpecification: Names the keys.

    Example:
        >>> parse_request({"nodes": 2, "ranks_per_node": 4}, "mpi")
        Request(nodes=2, ranks=8, ranks_per_node=4, launcher_options='')
        >>> parse_request({"num_ranks": 5, "ranks_per_node": 2}, "mpi").nodes
        3
    """
    given = _known(specification, who)
    nodes, ranks, per_node = (given.get(name) for name in ("nodes", "ranks", "ranks_per_node"))
    for name, value in (("nodes", nodes), ("ranks", ranks), ("ranks_per_node", per_node)):
        _check_count(name, value, who)
    if nodes is None:
        nodes = math.ceil(ranks / per_node) if ranks is not None and per_node is not None else 1
    whole = math.ceil(nodes)
    if per_node is None:
        per_node = 1 if ranks is None else math.ceil(ranks / whole)
    if ranks is None:
        ranks = whole * per_node
    if not whole <= ranks <= whole * per_node:
        raise InvalidResourceSpecification(
            [key for key in specification if NAMES[key] in ("nodes", "ranks", "ranks_per_node")],
            f"{who}: {ranks} ranks on {whole} nodes with at most {per_node} on each cannot be; give ranks from {whole} "
            f"to {whole * per_node}, or leave one of the three out",
        )
    options = given.get("launcher_options", "")
    if not isinstance(options, str):
        raise InvalidResourceSpecification(
            ["launcher_options"], f"{who} takes text as launcher_options, not {options!r}"
        )
    return Request(nodes, ranks, per_node, options)


def _known(specification: Mapping[str, Any], who: str) -> dict[str, Any]:
    """The specification under the short names."""
    if not any(name != "priority" for name in specification):
        raise InvalidResourceSpecification(
            [*specification],
            f'{who} runs MPI tasks, which say what they need: give resources={{"nodes": 2, "ranks_per_node": 4}}, '
            "or send the task to another executor by executors=[...]",
        )
    unknown = [str(key) for key in specification if key not in NAMES]
    if unknown:
        hints = "".join(f" {key!r}: did you mean {near!r}?" for key in unknown if (near := closest(key, [*NAMES])))
        raise InvalidResourceSpecification(unknown, f"{who} takes {', '.join(NAMES)}.{hints}")
    given: dict[str, Any] = {}
    for key, value in specification.items():
        name = NAMES[key]
        if name in given and given[name] != value:
            twice = [key for key in specification if NAMES[key] == name]
            raise InvalidResourceSpecification(
                twice, f"{who}: {' and '.join(twice)} are the same and differ; give one of them"
            )
        given[name] = value
    priority = given.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, (int, float)) or math.isnan(priority):
        raise InvalidResourceSpecification(
            ["priority"], f"{who} takes a number as priority, lower first, not {priority!r}"
        )
    return given


def _check_count(name: str, value: Any, who: str) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "nodes":
        if number and (0 < value < 1 or (value >= 1 and value == int(value))):
            return
        wanted = "a whole number of at least 1, or the part of a node between 0 and 1 that the task may share,"
    else:
        if number and isinstance(value, int) and value >= 1:
            return
        wanted = "a whole number of at least 1"
    raise InvalidResourceSpecification([name], f"{who} takes {wanted} as {name}, not {value!r}")
