"""The error for an argument of a wrong type. Imported only to be raised, since it loads typeguard."""

from __future__ import annotations

from typeguard import TypeCheckError


class ArgumentTypeError(TypeError, TypeCheckError):
    """An argument has a wrong type.

    Scripts of the field catch typeguard's error, which checked their constructors; everybody else a ``TypeError``.
    """

    def __init__(self, message: str) -> None:
        TypeCheckError.__init__(self, message)
