"""Finds which part of something cannot be pickled, so that the error can name it.

Runs only after pickling has failed: parts are pickled one by one, each failing part is taken apart further.
"""

from __future__ import annotations

import functools
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from flowlib.serialize import importable, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_TRIALS = 300
_MOST_DEPTH = 8


def type_name(obj: Any) -> str:
    """The qualified name of the type of ``obj``."""
    kind = type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def is_future(obj: Any) -> bool:
    """Whether ``obj`` is a future of ``concurrent.futures`` or of flowlib."""
    return any(
        k.__name__ == "Future" and k.__module__.startswith(("concurrent.", "asyncio")) for k in type(obj).__mro__
    )


def offender(parts: Iterator[tuple[str, Any]], dump: Callable[[Any], Any]) -> tuple[str, Any] | None:
    """The innermost part that cannot be pickled.

    Args:
        parts: Names and values to look among.
        dump: Pickles one value; whatever it raises counts as a refusal.

    Returns:
        A description of where it is, and the part; None if each can be pickled alone.
    """
    trials = _MOST_TRIALS
    where: list[str] = []
    culprit: Any = None
    for _ in range(_MOST_DEPTH):
        for name, value in parts:
            trials -= 1
            if trials < 0:
                return (", ".join(where), culprit) if where else None
            if _refused(value, dump):
                where.append(name)
                culprit = value
                parts = _parts(value)
                break
        else:
            break
    return (", ".join(where), culprit) if where else None


def _refused(value: Any, dump: Callable[[Any], Any]) -> bool:
    try:
        dump(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  # pickling runs user code; here any failure is the answer
        return True
    return False


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind is dict:
        yield from ((f"key {key!r:.80}", item) for key, item in value.items())
    elif kind in (list, tuple):
        yield from ((f"item {i}", item) for i, item in enumerate(value))
    elif kind in (set, frozenset):
        yield from (("an item", item) for item in value)
    elif kind is FunctionType:
        yield from function_parts(value)
    elif kind is functools.partial:
        yield "its function", value.func
        yield from ((f"argument {i}", item) for i, item in enumerate(value.args))
        yield from ((f"argument {key!r}", item) for key, item in value.keywords.items())
    elif kind is MethodType:
        yield "its object", value.__self__
        yield "its function", value.__func__
    elif isinstance(value, type):
        yield from ((f"class attribute {key!r}", item) for key, item in vars(value).items() if callable(item))
    elif not is_future(value):
        yield from ((f"attribute {key!r}", item) for key, item in _attributes(value).items())


def _attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def function_parts(function: Any) -> Iterator[tuple[str, Any]]:
    """What travels with a function that is sent by value."""
    if importable.reference(function) >= 0:
        return
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure variable {name!r}", cell.cell_contents
        except ValueError:
            continue
    yield from ((f"global {n!r}", v) for n, v in names.used_globals(code, function.__globals__).items())
    yield from ((f"default {i}", v) for i, v in enumerate(function.__defaults__ or ()))
    yield from ((f"default {n!r}", v) for n, v in (function.__kwdefaults__ or {}).items())
    yield from ((f"attribute {n!r}", v) for n, v in vars(function).items())


def reason(error: BaseException, found: tuple[str, Any] | None) -> str:
    """The sentence for the user."""
    cause = f"{type(error).__name__}: {_text(error)}"
    if found is None:
        return cause
    where, culprit = found
    if is_future(culprit):
        return (
            f"{where} is a future ({type_name(culprit)}) where flowlib does not look for one: futures are waited for "
            "in arguments, list, tuple, set, dict and dataclass; pass it there, or pass its result()"
        )
    return f"{where} of type {type_name(culprit)} cannot be sent to another process ({cause})"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a user's __str__; the type is named anyway
        return "(no text)"
