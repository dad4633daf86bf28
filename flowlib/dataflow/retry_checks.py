"""What may be given to a ``Retry``, checked where it is written: each mistake with what was given and what is allowed.

Pure, and apart from the policy itself, which has enough to say.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Mapping
from typing import Any

from flowlib.suggest import nearest


def count(name: str, value: Any) -> int:
    """How often something is tried again.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is negative.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"Retry: {name} is {value!r}; give a whole number, 0 for none")
    if value < 0:
        raise ValueError(f"Retry: {name} is {value}; it must not be negative")
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    """A number from ``low`` to ``high``, and finite.

    Raises:
        TypeError: It is none.
        ValueError: It is outside.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Retry: {name} is {value!r}; give a number")
    if not low <= value <= high or math.isinf(value):
        between = f"{low} or more, and finite" if math.isinf(high) else f"from {low} to {high}"
        raise ValueError(f"Retry: {name} is {value!r}; it must be {between}")
    return float(value)


def is_zero(value: Any) -> bool:
    """Whether a time is 0, which no other time may be."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0


def multiple(value: Any) -> float:
    """What memory is multiplied with: "x2" or 2.

    Raises:
        TypeError: It is neither.
        ValueError: It is 1 or less.

    Example:
        >>> multiple("x1.5"), multiple(2)
        (1.5, 2.0)
    """
    text = value
    if isinstance(value, str) and value[:1] in ("x", "X", "×"):
        try:
            text = float(value[1:])
        except ValueError:
            text = None
    if isinstance(text, bool) or not isinstance(text, (int, float)):
        raise TypeError(f"Retry: memory is {value!r}; give what it is multiplied with, 'x2' or 2")
    if not 1 < text < math.inf:
        raise ValueError(f"Retry: memory is {value!r}; it must be multiplied with more than 1")
    return float(text)


def errors(given: Any, reserved: Mapping[str, str]) -> int | dict[str, int]:
    """A number for all exceptions, or numbers by qualified name.

    Args:
        given: A number; or numbers by class, or by name.
        reserved: Names that have an option of their own, with that.

    Raises:
        TypeError: A key or number has the wrong type.
        ValueError: A key is no exception or has an option of its own, or a number is negative.

    Example:
        >>> errors({OSError: 2, "zmq.error.Again": 1}, {})
        {'builtins.OSError': 2, 'zmq.error.Again': 1}
    """
    if not isinstance(given, Mapping):
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError(
                f"Retry: error is {given!r}; give a whole number, or numbers by exception: {{ConnectionError: 5}}"
            )
        return count("error", given)
    named: dict[str, int] = {}
    for key, tries in given.items():
        name = _name_of(key)
        if name in reserved:
            raise ValueError(f"Retry: error[{key!r}]: that has an option of its own, {reserved[name]}={tries!r}")
        named[name] = count(f"error[{key!r}]", tries)
    return named


def _name_of(key: Any) -> str:
    """The qualified name of an exception's class, given as the class or as text."""
    if isinstance(key, type) and issubclass(key, BaseException):
        return f"{key.__module__}.{key.__qualname__}"
    if not isinstance(key, str):
        raise TypeError(f"Retry: error has the key {key!r}; give classes of exceptions, or their dotted names")
    if "." in key:
        return key
    known = [name for name, value in vars(builtins).items() if _is_exception(value)]
    if key not in known:
        raise ValueError(
            f"Retry: error has the key {key!r}, which is no builtin exception{nearest(key, known)}; name others as "
            "tracebacks show them: 'module.Class'"
        )
    return f"builtins.{getattr(builtins, key).__name__}"


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
