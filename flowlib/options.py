"""What a task asks for, in one record: given at the decorator, in a ``with flowlib.defaults(...)`` block, per call.

Options are checked once, where they are written; the kernel and the executors read a finished ``TaskOptions``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.retry import Retry, check_retries
from flowlib.suggest import nearest
from flowlib.units import parse_size, parse_time

if TYPE_CHECKING:
    from datetime import timedelta

    from typing_extensions import TypedDict, Unpack

    class OptionValues(TypedDict, total=False):
        """Options by name, as ``options()`` and ``defaults()`` take them."""

        executors: str | Iterable[str]
        cache: bool
        ignore_for_cache: Iterable[str] | None
        resources: Mapping[str, Any] | None
        priority: float | None
        retries: int | Retry | None
        lost_retries: int | None
        walltime: float | str | timedelta | None
        version: str | int | None
        refresh: bool


class TaskOptions:
    """How a task is to be run; immutable.  None means that the Config, or nobody, says.

    Attributes:
        executors: "all", or labels of the executors that may run it.
        cache: Whether results of equal calls are remembered.
        ignore_for_cache: Names of arguments that make no difference to that.
        resources: Amounts by name ("cores", "memory" in bytes, "gpus" ...).
        priority: Higher runs first; None counts as 0.
        retries: What its failures may cost, or a ``Retry``.
        lost_retries: How often it may be lost with a machine.
        walltime: Seconds that one attempt may take.
        version: Part of the identity of remembered results.
        refresh: Whether it runs though its result is remembered; the new one takes that one's place.
    """

    __slots__ = (
        "cache",
        "executors",
        "ignore_for_cache",
        "lost_retries",
        "priority",
        "refresh",
        "resources",
        "retries",
        "version",
        "walltime",
    )

    executors: str | tuple[str, ...]
    cache: bool
    ignore_for_cache: tuple[str, ...]
    resources: Mapping[str, Any] | None
    priority: float | None
    retries: int | Retry | None
    lost_retries: int | None
    walltime: float | None
    version: str | int | None
    refresh: bool

    def __init__(
        self,
        executors: str | tuple[str, ...] = "all",
        cache: bool = False,
        ignore_for_cache: tuple[str, ...] = (),
        resources: Mapping[str, Any] | None = None,
        priority: float | None = None,
        retries: int | Retry | None = None,
        lost_retries: int | None = None,
        walltime: float | None = None,
        version: str | int | None = None,
        refresh: bool = False,
    ) -> None:
        put = object.__setattr__
        put(self, "executors", executors)
        put(self, "cache", cache)
        put(self, "ignore_for_cache", ignore_for_cache)
        put(self, "resources", resources)
        put(self, "priority", priority)
        put(self, "retries", retries)
        put(self, "lost_retries", lost_retries)
        put(self, "walltime", walltime)
        put(self, "version", version)
        put(self, "refresh", refresh)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"options of a task cannot be changed: use app.options({name}=...)")

    def __reduce__(self) -> tuple[Any, ...]:
        return TaskOptions, tuple(getattr(self, name) for name in NAMES)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskOptions):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in NAMES)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        given = [f"{n}={getattr(self, n)!r}" for n in NAMES if getattr(self, n) != getattr(PLAIN, n)]
        return f"TaskOptions({', '.join(given)})"


NAMES: tuple[str, ...] = (
    "executors",
    "cache",
    "ignore_for_cache",
    "resources",
    "priority",
    "retries",
    "lost_retries",
    "walltime",
    "version",
    "refresh",
)
"""The options there are."""

PLAIN = TaskOptions()
"""Nothing was asked for."""

JOIN_NAMES = tuple(name for name in NAMES if name not in ("executors", "resources", "priority", "walltime"))
"""Those of a join app: its body runs in the script's own process."""


def check(where: str, given: Mapping[str, Any], valid: Iterable[str] = NAMES) -> dict[str, Any]:
    """The given options with their values in final form.

    Args:
        where: Who was given them, for messages ("python_app", "f.options").
        given: Options by name.
        valid: Names that are allowed here.

    Raises:
        TypeError: An option that is not known or not allowed here, or a value of the wrong type.
        ValueError: A value that makes no sense.
    """
    checked = {}
    valid = tuple(valid)
    for name, value in given.items():
        if name not in valid:
            if name in NAMES:
                raise TypeError(
                    f"{where} takes no option {name!r}: the body of a join app runs in the script's own process; "
                    "give it to the apps that the body calls"
                )
            raise TypeError(f"{where} has no option {name!r}{nearest(name, valid)}")
        checked[name] = _CHECKS[name](f"{where}: {name}", value)
    resources = checked.get("resources")
    if resources and "priority" in resources and checked.get("priority") is not None:
        raise TypeError(both_priorities(where))
    return checked


def both_priorities(where: str) -> str:
    """The message about two priorities that mean opposite things."""
    return (
        f"{where} has a priority twice: the option priority= (higher runs first) and 'priority' in the resource "
        "specification (lower runs first); give one of them"
    )


def combine(*layers: Mapping[str, Any]) -> TaskOptions:
    """The options that result from checked ones; later layers win.

    Example:
        >>> combine({"retries": 1, "cache": True}, {"retries": 3})
        TaskOptions(cache=True, retries=3)
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    return TaskOptions(**merged) if merged else PLAIN


def changed(options: TaskOptions, **values: Any) -> TaskOptions:
    """A copy with other values, which are in final form."""
    return TaskOptions(**{**{name: getattr(options, name) for name in NAMES}, **values})


# ------------------------------------------------------------------------------------------------- a stretch of script

block: ContextVar[Mapping[str, Any] | None] = ContextVar("flowlib_defaults", default=None)
"""The checked options of the ``defaults`` blocks around; a new mapping for each block."""


@contextmanager
def defaults(**options: Unpack[OptionValues]) -> Iterator[None]:
    """Options for every app that is called inside the ``with`` block, in this thread or asyncio task.

    They win over the decorator's and give way to those of ``app.options(...)``.  Blocks nest: the inner one wins.

    Args:
        **options: As for ``python_app``.

    Raises:
        TypeError: An option that does not exist, or a value of the wrong type.
        ValueError: A value that makes no sense.

    Example:
        >>> import flowlib
        >>> with flowlib.defaults(retries=3, walltime="10m"):
        ...     pass
    """
    checked = check("flowlib.defaults", options)
    outer = block.get()
    token = block.set({**outer, **checked} if outer else checked)
    try:
        yield
    finally:
        block.reset(token)


# ----------------------------------------------------------------------------------------------- one check for each


def _executors(where: str, value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        labels: tuple[Any, ...] = (value,)
    else:
        try:
            labels = tuple(value)
        except TypeError:
            raise TypeError(f"{where} is {value!r}; give 'all', a label, or a list of labels") from None
    if not labels:
        raise ValueError(f"{where} is empty; give 'all', a label, or a list of labels")
    for label in labels:
        if not isinstance(label, str):
            raise TypeError(f"{where} holds {label!r}; give labels of executors, which are strings")
    return "all" if "all" in labels else labels


def _cache(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{where} is {value!r}; give True or False")
    return value


def _ignore_for_cache(where: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{where} is {value!r}; give a list of argument names")
    names = tuple(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{where} holds {name!r}; give argument names, which are strings")
    return names


def _resources(where: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{where} is {value!r}; give a dict like {{'cores': 4, 'memory': '8GB'}}")
    checked: dict[str, Any] = {}
    for name, amount in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{where} has the key {name!r}; names of resources are strings")
        if name in ("memory", "disk"):
            checked[name] = parse_size(amount, f"{where}[{name!r}]")
        elif isinstance(amount, (int, float)) and not isinstance(amount, bool):
            # A priority there has Parsl's meaning and may be negative.
            if not math.isfinite(amount) or (amount < 0 and name != "priority"):
                raise ValueError(f"{where}[{name!r}] is {amount!r}; it must be finite and not negative")
            checked[name] = amount
        elif isinstance(amount, (bool, str)):
            checked[name] = amount
        else:
            raise TypeError(f"{where}[{name!r}] is {amount!r}; give a number or a string")
    return checked


def _priority(where: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise TypeError(f"{where} is {value!r}; give a number, higher runs first")
    return value


def _count(where: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where} is {value!r}; give a whole number, 0 for none")
    if value < 0:
        raise ValueError(f"{where} is {value}; it must not be negative")
    return value


def _retries(where: str, value: Any) -> int | Retry | None:
    return None if value is None else check_retries(where, value)


def _walltime(where: str, value: Any) -> float | None:
    return None if value is None else parse_time(value, where)


def _version(where: str, value: Any) -> str | int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
        raise TypeError(f"{where} is {value!r}; give a string or a number")
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "executors": _executors,
    "cache": _cache,
    "ignore_for_cache": _ignore_for_cache,
    "resources": _resources,
    "priority": _priority,
    "retries": _retries,
    "lost_retries": _count,
    "walltime": _walltime,
    "version": _version,
    "refresh": _cache,
}
