"""How the interchange prefers managers, under the names that configurations of the field use.

A selector is a choice among the interchange's own ways, not code that runs there.
"""

from __future__ import annotations


class ManagerSelector:
    """Base of selectors.

    Attributes:
        kind: One of ``flowlib.executors.high_throughput.dispatcher.SELECTORS``.
    """

    kind = "spread"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class RandomManagerSelector(ManagerSelector):
    """Gives tasks to the least loaded managers first, wherever they are."""


class BlockIdManagerSelector(ManagerSelector):
    """Fills the managers of the newest block first, so that older blocks run dry and can be given up."""

    kind = "block"


class PackManagerSelector(ManagerSelector):
    """Fills the most loaded managers first, so that others run dry and can be given up."""

    kind = "pack"
