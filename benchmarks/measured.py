"""What a run of a row hands back, and the list of rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field


@dataclass
class Measured:
    """One run's figures.

    Attributes:
        value: The row's figure.
        unit: Its unit, as printed. Units that end in "/s" are better the higher, others the lower.
        against: Figures of the baselines, in the same unit.
        more: Further figures worth printing.
    """

    value: float
    unit: str
    against: dict[str, float] = field(default_factory=dict)
    more: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Measured:
        """The opposite of `to_json`."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Its name on the command line.
        run: Measures once; its argument scales the number of tasks.
        deadline: Seconds that one run may take.
        long: Whether it only runs when named.
        runs: Most runs that make sense; None for as many as asked for.
    """

    name: str
    run: Callable[[float], Measured]
    deadline: float = 120.0
    long: bool = False
    runs: int | None = None


def scaled(count: int, scale: float, least: int = 10) -> int:
    """A number of tasks, scaled."""
    return max(least, round(count * scale))
