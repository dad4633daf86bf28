"""Finding futures in arguments, and putting values in their place.

The default looks into exact lists, tuples, sets, dicts (keys too), named tuples and dataclasses at any depth; join
apps and ``SHALLOW_DEPENDENCY_RESOLVER`` look at the arguments themselves and the items of ``inputs`` only.  Containers
without futures are passed on as they are; those with futures are copied, never changed.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import CoroutineType, NoneType
from typing import Any

from flowlib.dataflow.futures import AppFuture, JoinedValues, LiftedFuture
from flowlib.dataflow.outcomes import Returned
from flowlib.store.refs import ObjectRef

_ATOMS: frozenset[type] = frozenset(
    {
        int,
        float,
        str,
        bytes,
        bool,
        NoneType,
        complex,
        bytearray,
        memoryview,
        range,
        slice,
        date,
        datetime,
        timedelta,
        type,
    }
)
_LISTS: frozenset[type] = frozenset({list, tuple, set, frozenset})
_LONG = 16


@dataclass(frozen=True)
class DependencyResolver:
    """How futures are found in, and replaced in, an argument: a plug-in.

    Args:
        traverse_to_unwrap: Takes an argument whose futures are done; returns it with values in their place.
        traverse_to_gather: Takes an argument; returns the futures in it.
    """

    traverse_to_unwrap: Callable[[Any], Any]
    traverse_to_gather: Callable[[Any], Sequence[Future[Any]]]


# ----------------------------------------------------------------------------------------------------- finding


def gather(value: Any) -> list[Future[Any]]:
    """The futures in ``value``, at any depth, in order; one that occurs twice is there twice.

    Raises:
        TypeError: There is an asyncio future or a coroutine in it.
    """
    found: list[Future[Any]] = []
    stack = [value]
    seen: set[int] | None = None
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind in _ATOMS:
            continue
        if kind in _LISTS:
            items: Iterable[Any] = item
            if len(item) > _LONG and _ATOMS.issuperset(map(type, item)):
                continue
        elif kind is dict:
            if not item:
                continue
            items = (*item.keys(), *item.values())
        elif isinstance(item, Future):
            found.append(item)
            continue
        else:
            fields = _fields(item, kind)
            if fields is None:
                continue
            items = fields
        if seen is None:
            seen = {id(item)}
        elif id(item) in seen:
            continue
        else:
            seen.add(id(item))
        stack.extend(reversed(items if isinstance(items, (list, tuple)) else list(items)))
    return found


def gather_shallow(value: Any) -> list[Future[Any]]:
    """``[value]`` if it is a future, else []."""
    if isinstance(value, Future):
        return [value]
    if type(value) not in _ATOMS:
        _refuse_foreign(value, type(value))
    return []


def find(
    args: tuple[Any, ...], kwargs: dict[str, Any], look: Callable[[Any], Sequence[Future[Any]]]
) -> list[Future[Any]]:
    """The futures in a call's arguments.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments. The items of ``inputs`` are looked at one by one.
        look: ``gather``, ``gather_shallow`` or a resolver's.
    """
    found: list[Future[Any]] = []
    for value in args:
        if type(value) not in _ATOMS:
            found += look(value)
    for name, value in kwargs.items():
        if type(value) in _ATOMS:
            continue
        if name == "inputs" and type(value) in (list, tuple):
            for item in value:
                found += look(item)
        else:
            found += look(value)
    return found


def _fields(item: Any, kind: type) -> list[Any] | tuple[Any, ...] | None:
    """What a named tuple or a dataclass holds; None for anything else."""
    if isinstance(item, tuple):
        return tuple(item) if hasattr(kind, "_fields") else None
    names = getattr(kind, "__dataclass_fields__", None)
    if names is not None:
        return [getattr(item, name, None) for name in names]
    _refuse_foreign(item, kind)
    return None


def _refuse_foreign(item: Any, kind: type) -> None:
    if kind is CoroutineType:
        item.close()
        raise TypeError("a coroutine was given as an argument: await it first, or call the function as an app")
    # Without asyncio imported there is no asyncio future.
    if "asyncio" in sys.modules and hasattr(kind, "_asyncio_future_blocking"):
        raise TypeError(
            f"an asyncio {kind.__name__} was given as an argument: await it first, or pass a concurrent.futures.Future"
        )


# --------------------------------------------------------------------------------------------------- replacing


def value_of(future: Future[Any]) -> Any:
    """The value of a future that is done, in this process."""
    return future.result(0)


def pickled_of(future: Future[Any]) -> Any:
    """The value of a future that is done; as its pickled outcome where it came from another process."""
    if isinstance(future, AppFuture) and not isinstance(future, LiftedFuture):
        return _portable(future._outcome)
    if isinstance(future, ObjectRef):
        return _portable(future._get_outcome())
    return future.result(0)


def _portable(outcome: Any) -> Any:
    if type(outcome) is Returned:
        return outcome.value()
    if type(outcome) is JoinedValues:
        return [_portable(part) for part in outcome.parts]
    return outcome


def is_remote(future: Future[Any]) -> bool:
    """Whether ``value_of`` would unpickle, or run a user's lookup, for this future (it is done)."""
    if isinstance(future, LiftedFuture):
        return True
    if not isinstance(future, AppFuture):
        return False
    outcomes = [future._outcome]
    while outcomes:
        outcome = outcomes.pop()
        if type(outcome) is JoinedValues:
            outcomes += outcome.parts
        elif type(outcome) is not Returned:
            return True
    return False


def substitute(value: Any, of: Callable[[Future[Any]], Any]) -> Any:
    """``value`` with ``of(future)`` in place of each future, at any depth."""
    return _Substitution(of).replace(value)


def substitute_shallow(value: Any, of: Callable[[Future[Any]], Any]) -> Any:
    """``of(value)`` if it is a future, else ``value``."""
    return of(value) if isinstance(value, Future) else value


def fill(
    args: tuple[Any, ...], kwargs: dict[str, Any], put: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments with values in place of futures.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments. The items of ``inputs`` are taken one by one.
        put: Replaces the futures in one argument.
    """
    filled = tuple([value if type(value) in _ATOMS else put(value) for value in args])
    if not kwargs:
        return filled, kwargs
    named: dict[str, Any] = {}
    for name, value in kwargs.items():
        if type(value) in _ATOMS:
            named[name] = value
        elif name == "inputs" and type(value) in (list, tuple):
            named[name] = type(value)([put(item) for item in value])
        else:
            named[name] = put(value)
    return filled, named


class _Substitution:
    """One walk through an argument; remembers containers, so that shared and cyclic ones stay so."""

    __slots__ = ("_done", "_of")

    def __init__(self, of: Callable[[Future[Any]], Any]) -> None:
        self._of = of
        self._done: dict[int, Any] = {}

    def replace(self, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if isinstance(value, Future):
            return self._of(value)
        if kind in _LISTS or kind is dict:
            if not value or (kind is not dict and len(value) > _LONG and _ATOMS.issuperset(map(type, value))):
                return value
        elif isinstance(value, type) or not (
            (isinstance(value, tuple) and hasattr(kind, "_fields")) or hasattr(kind, "__dataclass_fields__")
        ):
            return value
        key = id(value)
        if key in self._done:
            return self._done[key]
        self._done[key] = value
        new = self._rebuild(value, kind)
        self._done[key] = new
        return new

    def _rebuild(self, value: Any, kind: type) -> Any:
        if kind is dict:
            # A key is hashed here, so it has to be the value itself.
            pairs = [(self._key(k), self.replace(v)) for k, v in value.items()]
            same = all(a is k and b is v for (a, b), (k, v) in zip(pairs, value.items(), strict=True))
            return value if same else dict(pairs)
        if kind is set or kind is frozenset:
            members = [self._key(item) for item in value]
            return value if all(a is b for a, b in zip(members, value, strict=True)) else kind(members)
        if isinstance(value, (list, tuple)):
            items = [self.replace(item) for item in value]
            if all(a is b for a, b in zip(items, value, strict=True)):
                return value
            return kind._make(items) if hasattr(kind, "_make") else kind(items)
        changed = {}
        for name in kind.__dataclass_fields__:  # type: ignore[attr-defined]
            if hasattr(value, name):
                old = getattr(value, name)
                new = self.replace(old)
                if new is not old:
                    changed[name] = new
        if not changed:
            return value
        twin = copy.copy(value)
        for name, new in changed.items():
            # Frozen ones too; __init__ and __post_init__ ran when the user made it.
            object.__setattr__(twin, name, new)
        return twin

    def _key(self, value: Any) -> Any:
        return _Substitution(value_of).replace(value)


def _unwrap_deep(value: Any) -> Any:
    return substitute(value, value_of)


def _unwrap_shallow(value: Any) -> Any:
    return substitute_shallow(value, value_of)


SHALLOW_DEPENDENCY_RESOLVER = DependencyResolver(_unwrap_shallow, gather_shallow)
"""Looks at arguments themselves, and the items of ``inputs``."""

DEEP_DEPENDENCY_RESOLVER = DependencyResolver(_unwrap_deep, gather)
"""Looks into containers at any depth; the default for python and bash apps."""
