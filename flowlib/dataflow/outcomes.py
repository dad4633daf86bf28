"""How an attempt ended, as executors tell it to the kernel.

An outcome keeps a remote value in its pickled form: nothing is unpickled until somebody asks for ``result()``, so a
result that cannot be rebuilt harms nobody but the one who asks.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

from flowlib.errors import ManagerLost, OutOfMemory, WorkerLost


class Blame(Enum):
    """Who pays for a failure."""

    USER = "user"
    """The task's own failure: costs its retries; the retry handler sees it."""
    INFRASTRUCTURE = "infrastructure"
    """A machine or part of flowlib went away: costs the infrastructure budget."""
    NOBODY = "nobody"
    """It never began, or nobody knows: tried again at no charge."""
    REFUSED = "refused"
    """It can never work (bad resources, unsendable arguments, broken executor): not retried."""


class Success(Protocol):
    """A value, here or in pickled form."""

    def value(self) -> Any:
        """The value; unpickled on first use.

        Raises:
            DeserializationError: The pickled value cannot be rebuilt in this process.
        """
        ...


class Returned:
    """A value that is already in this process.

    Args:
        value: What the app returned.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def value(self) -> Any:
        """The value."""
        return self._value


class Failed:
    """A failed attempt.

    Args:
        error: The exception that ``result()`` raises.
        blame: Who pays.
    """

    __slots__ = ("blame", "error")

    manager = ""
    """Name of the manager that had it; "" for none."""

    def __init__(self, error: BaseException, blame: Blame = Blame.USER) -> None:
        self.error = error
        self.blame = blame

    def text(self) -> str:
        """Class and text of the exception; that may run the code of a user's exception."""
        error = self.error
        try:
            return f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001  # the user's __str__ is user code; the class's name is ours to have
            return type(error).__name__

    def kinds(self) -> tuple[str, ...]:
        """Qualified names of the exception's class and of its bases, nearest first; runs no code of the user's."""
        return tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in type(self.error).__mro__[:-1])

    def host(self) -> str:
        """The machine where it happened; "" for this one, or if it is not known."""
        error = self.error
        return error.hostname if isinstance(error, (ManagerLost, WorkerLost)) else ""

    def memory(self) -> tuple[int, int]:
        """Of a task that ran out of memory: bytes that it might use, and the most that it did; 0 if unknown."""
        error = self.error
        return (error.requested, error.peak) if isinstance(error, OutOfMemory) else (0, 0)

    def add_note(self, note: str) -> None:
        """Let the exception carry a note, as ``BaseException.add_note`` does."""
        annotate(self.error, note)


def annotate(error: BaseException, note: str) -> None:
    """Add a note to an exception; runs no code of its class, so that it may be done anywhere.

    Example:
        >>> error = ValueError("no such year")
        >>> annotate(error, "2 tries: ValueError on node7")
        >>> error.__notes__
        ['2 tries: ValueError on node7']
    """
    attributes = object.__getattribute__(error, "__dict__")
    notes = attributes.get("__notes__")
    attributes["__notes__"] = [*notes, note] if isinstance(notes, list) else [note]
