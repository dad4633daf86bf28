"""What a driver does not know after its interchange was replaced, and how it finds out.

The managers that were there come back and say what they have.  When all are back, or time is up, the new interchange
is asked for everything that it and they have; what was out and is nowhere has been lost on the way.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from flowlib.executors.high_throughput.messages import ManagerChanged

PATIENCE = 5.0
"""Seconds in which managers come back to a new interchange."""

Key = tuple[int, int]


class Recovery:
    """The managers of an interchange, and what is unsure since it was replaced.

    Attributes:
        until: When to go on without the managers that are missing; None while nothing is unsure.

    Example:
        >>> recovery = Recovery()
        >>> recovery.begin({(1, 0), (2, 0)}, now=10.0)
        >>> recovery.due(10.0)
        True
        >>> recovery.end()
        []
        >>> recovery.lost([[2, 0]])
        {(1, 0)}
    """

    __slots__ = ("_awaited", "_here", "_unsure", "until")

    def __init__(self) -> None:
        self.until: float | None = None
        self._here: dict[str, ManagerChanged] = {}
        self._awaited: dict[str, ManagerChanged] = {}
        self._unsure: set[Key] = set()

    def changed(self, change: ManagerChanged) -> None:
        """The interchange tells of a manager."""
        self._awaited.pop(change.manager, None)
        if change.change == "registered":
            self._here[change.manager] = change
        elif change.change in ("lost", "drained", "rejected"):
            self._here.pop(change.manager, None)

    def begin(self, unsure: Iterable[Key], now: float) -> None:
        """The interchange was replaced while these attempts were out."""
        self._unsure.update(unsure)
        self._awaited.update(self._here)
        self._here = {}
        self.until = now + PATIENCE

    def due(self, now: float) -> bool:
        """Whether all managers are back, or time is up."""
        return self.until is not None and (not self._awaited or now >= self.until)

    def end(self) -> list[ManagerChanged]:
        """Wait no longer; the losses of those that did not come back."""
        self.until = None
        awaited, self._awaited = self._awaited, {}
        reason = f"it did not come back within {PATIENCE:g} s after the interchange was replaced"
        return [msgspec.structs.replace(change, change="lost", reason=reason) for change in awaited.values()]

    def lost(self, held: Iterable[Sequence[int]]) -> set[Key]:
        """The attempts that were out and that nobody has; asked once."""
        unsure, self._unsure = self._unsure, set()
        return unsure.difference((task, attempt) for task, attempt in held)
