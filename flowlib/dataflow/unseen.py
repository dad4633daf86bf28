"""Failed tasks whose failure nobody has looked at, so that the end of the run can say that there are some.

Only ids are kept, and a line of text of the first few: no exception lives longer than its future.  Tasks that did not
fail never come here.  A task that failed because another did is not counted: looking at it is looking at the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowlib.dataflow.outcomes import Failed

_TOLD = 8
_LENGTH = 200


class Unseen:
    """The failures of one run that nobody has looked at.

    Example:
        >>> from flowlib.dataflow.outcomes import Failed
        >>> unseen = Unseen()
        >>> unseen.add(3)
        >>> unseen.tell(3, "task 3 (load)", Failed(ValueError("no such year")))
        >>> unseen.add(4)
        >>> unseen.report()
        '2 tasks failed and nobody looked at them, such as task 3 (load): ValueError: no such year'
        >>> unseen.seen(3)
        >>> unseen.report()
        '1 task failed and nobody looked at it'
        >>> unseen.seen(4)
        >>> unseen.report()
        ''
    """

    __slots__ = ("_tasks", "_texts")

    def __init__(self) -> None:
        # Single operations on these are atomic, so that a future can be looked at without a lock.
        self._tasks: set[int] = set()
        self._texts: dict[int, str] = {}

    def add(self, task: int) -> None:
        """A task failed; before its future tells it to anybody."""
        self._tasks.add(task)

    def tell(self, task: int, name: str, outcome: Failed, tries: str = "") -> None:
        """Keep what happened in a line, unless enough is known; may run the code of a user's exception.

        Args:
            task: Its id.
            name: The task as messages call it.
            outcome: How it failed.
            tries: What became of its tries; "" if there was only one.
        """
        if len(self._texts) < _TOLD and task in self._tasks:
            text = " ".join(f"{name}: {outcome.text()}".split())
            text = text if len(text) <= _LENGTH else f"{text[: _LENGTH - 3]}..."
            self._texts[task] = f"{text} ({tries})" if tries else text

    def seen(self, task: int) -> None:
        """Somebody looked at a failed task."""
        self._tasks.discard(task)
        self._texts.pop(task, None)

    def report(self) -> str:
        """What to tell at the end of the run; "" for nothing."""
        number = len(self._tasks)
        if not number:
            return ""
        first = min((task for task in list(self._texts) if task in self._tasks), default=None)
        text = f"{number} task{'s' * (number != 1)} failed and nobody looked at {'it' if number == 1 else 'them'}"
        if first is None:
            return text
        return f"{text}: {self._texts[first]}" if number == 1 else f"{text}, such as {self._texts[first]}"
