"""What a client tells the executor that owns it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from flowlib.executors.high_throughput import messages as m

Outcome = Any
Ended = tuple[Any, int, Outcome]
"""Owner, attempt and outcome."""


class ObjectHooks(Protocol):
    """What a client tells of stored objects, in the I/O thread."""

    def hear(self, message: Any, frames: Sequence[Any]) -> None:
        """A manager says something about them."""

    def adopt(self, result: m.Result) -> Outcome:
        """A task's value is one; the outcome that stands for it."""

    def unwanted(self, result: m.Result) -> None:
        """The same of a task that nobody waits for."""


class Hooks:
    """What a client tells its executor. All are called in the I/O thread, and must not block.

    Attributes:
        report: Takes ``(owner, attempt, outcome)`` triples; may be called from any thread.
        ended: Takes a manager's name and the results of attempts that ended there, for the event log.
        manager_changed: Takes ``ManagerChanged``.
        noted: Takes ``Note``.
        running: Takes ``Running``.
        pressed: Takes the number of attempts that are out, when it is above what ``pressed`` returned last, or fell to
            0. Returns above what to call it again.
        broken: The client is at its end, because of this. At most once, perhaps in another thread.
        replaced: The interchange was replaced, because of this. Returns what the new one must be told first.
        objects: What is done about stored objects.
        exchanged: Takes ``Admit``: the key that a block has from now on.
    """

    __slots__ = (
        "broken",
        "ended",
        "exchanged",
        "manager_changed",
        "noted",
        "objects",
        "pressed",
        "replaced",
        "report",
        "running",
    )

    def __init__(
        self,
        report: Callable[[list[Ended]], None],
        ended: Callable[[str, list[m.Result]], None],
        manager_changed: Callable[[m.ManagerChanged], None],
        noted: Callable[[m.Note], None],
        running: Callable[[m.Running], None],
        pressed: Callable[[int], int],
        broken: Callable[[BaseException], None],
        replaced: Callable[[BaseException], list[m.Message]],
        objects: ObjectHooks,
        exchanged: Callable[[m.Admit], None],
    ) -> None:
        self.report = report
        self.ended = ended
        self.manager_changed = manager_changed
        self.noted = noted
        self.running = running
        self.pressed = pressed
        self.broken = broken
        self.replaced = replaced
        self.objects = objects
        self.exchanged = exchanged
