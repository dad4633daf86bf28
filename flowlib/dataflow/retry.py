"""Whether, and when, a failed task is tried again.

Pure.  What the user's code does costs ``retries``, a number for all of it or a ``Retry`` with one for each cause (a
retry handler may set the price of a failure); what happens to the machines costs a budget of its own, so that a bad
node never eats the retries that were meant for the user's own failures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast
from zlib import crc32

from flowlib.dataflow import retry_checks as checks
from flowlib.dataflow.outcomes import Blame
from flowlib.suggest import nearest
from flowlib.units import parse_time

if TYPE_CHECKING:
    from datetime import timedelta

F = TypeVar("F", bound=Callable[..., None])

_ERRORS = "flowlib.errors."


class Cause(Enum):
    """Why a try failed."""

    ERROR = "error"
    """The app raised an exception."""
    TIMEOUT = "timeout"
    """It ran longer than its walltime."""
    OOM = "oom"
    """It, or the node, ran out of memory, and it was killed."""
    CRASH = "crash"
    """The process that ran it died: a signal, an exit, a fault in native code."""
    LOST = "lost"
    """The machine, or a part of flowlib, went away."""


_KINDS = {
    f"{_ERRORS}AppTimeout": Cause.TIMEOUT,
    f"{_ERRORS}OutOfMemory": Cause.OOM,
    f"{_ERRORS}WorkerLost": Cause.CRASH,
    f"{_ERRORS}ManagerLost": Cause.LOST,
    f"{_ERRORS}TaskLost": Cause.LOST,
    f"{_ERRORS}LostError": Cause.LOST,
}


def cause_of(blame: Blame, kinds: Sequence[str]) -> Cause:
    """Why a try failed.

    Args:
        blame: Who pays for it.
        kinds: Names of the exception's class and of its bases, see ``Failed.kinds``.

    Example:
        >>> cause_of(Blame.USER, ["flowlib.errors.OutOfMemory", "flowlib.errors.WorkerLost"])
        <Cause.OOM: 'oom'>
    """
    if blame is Blame.INFRASTRUCTURE:
        return Cause.LOST
    for kind in kinds:
        cause = _KINDS.get(kind)
        if cause is not None and cause is not Cause.LOST:
            return cause
    return Cause.ERROR


def _known_options_only(init: F) -> F:
    """Make ``Retry(timeot=1)`` say that ``timeout`` was probably meant."""

    @wraps(init)
    def checked(self: Retry, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in Retry.__slots__:
                raise TypeError(f"Retry has no option {name!r}{nearest(name, Retry.__slots__)}")
        init(self, *args, **options)

    return cast("F", checked)


class Retry:
    """How often a task is tried again after each kind of failure; given as ``retries``. Immutable.

    What is not named here is not tried again, but for losses of machines.

    Args:
        error: After exceptions that the app raised: a number for all of them together, or numbers by exception, each
            a class or its dotted name as tracebacks show it ("requests.exceptions.Timeout"; plain for builtins).
            Subclasses count as well; the nearest class that is named decides, and others are not tried again.
        timeout: After its walltime was over.
        oom: After it was killed for want of memory.
        crash: After the process that ran it died for another reason.
        lost: After the loss of the machine or of a part of flowlib; None for ``lost_retries``.
        memory: What the memory that it may use is multiplied with after it ran out: "x2", or 2.
        backoff: Seconds before the first further try: a number, or text as "30s"; 0 for none.
        factor: How many times longer each further wait is.
        cap: Most seconds of a wait.
        jitter: The part of a wait, 0 to 1, that varies from task to task, so that they do not all come back at once.

    Raises:
        TypeError: An option is unknown or has the wrong type.
        ValueError: A value makes no sense.

    Example:
        >>> policy = Retry(error={ConnectionError: 5}, oom=2, memory="x2", backoff="1s", cap="1m")
        >>> policy.allowed(Cause.ERROR, ["builtins.ConnectionResetError", "builtins.ConnectionError"])
        ('builtins.ConnectionError', 5)
        >>> policy.allowed(Cause.TIMEOUT, ["flowlib.errors.AppTimeout"])
        ('timeout', 0)
    """

    __slots__ = ("backoff", "cap", "crash", "error", "factor", "jitter", "lost", "memory", "oom", "timeout")

    error: int | Mapping[str, int]
    timeout: int
    oom: int
    crash: int
    lost: int | None
    memory: float | None
    backoff: float
    factor: float
    cap: float
    jitter: float

    @_known_options_only
    def __init__(
        self,
        error: int | Mapping[type[BaseException] | str, int] = 0,
        *,
        timeout: int = 0,
        oom: int = 0,
        crash: int = 0,
        lost: int | None = None,
        memory: str | float | None = None,
        backoff: float | str | timedelta = 0,
        factor: float = 2.0,
        cap: float | str | timedelta = 300.0,
        jitter: float = 0.1,
    ) -> None:
        put = object.__setattr__
        put(self, "error", checks.errors(error, {kind: cause.value for kind, cause in _KINDS.items()}))
        put(self, "timeout", checks.count("timeout", timeout))
        put(self, "oom", checks.count("oom", oom))
        put(self, "crash", checks.count("crash", crash))
        put(self, "lost", None if lost is None else checks.count("lost", lost))
        put(self, "memory", None if memory is None else checks.multiple(memory))
        put(self, "backoff", 0.0 if checks.is_zero(backoff) else parse_time(backoff, "Retry: backoff"))
        put(self, "factor", checks.number("factor", factor, 1, math.inf))
        put(self, "cap", parse_time(cap, "Retry: cap"))
        put(self, "jitter", checks.number("jitter", jitter, 0, 1))
        if memory is not None and not oom:
            raise ValueError(f"Retry: memory={memory!r} needs oom=, how often a task that ran out of it is tried again")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Retry cannot be changed: make another, Retry(..., {name}=...)")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Retry):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.timeout, self.oom, self.crash, self.lost, self.backoff))

    def __repr__(self) -> str:
        plain = _PLAIN
        given = [f"{n}={getattr(self, n)!r}" for n in _ORDER if getattr(self, n) != getattr(plain, n)]
        return f"Retry({', '.join(given)})"

    def allowed(self, cause: Cause, kinds: Sequence[str]) -> tuple[str, int]:
        """What pays for a failure of the user's, and how much there is of it.

        Args:
            cause: Not ``LOST``, which has a budget of its own.
            kinds: Names of the exception's class and of its bases.
        """
        if cause is not Cause.ERROR:
            return cause.value, getattr(self, cause.value)
        if isinstance(self.error, int):
            return "error", self.error
        for kind in kinds:
            count = self.error.get(kind)
            if count is not None:
                return kind, count
        return "error", 0

    def wait(self, task: int, failures: int) -> float:
        """Seconds before the next try.

        Args:
            task: The task's number, for the jitter.
            failures: How many tries failed so far, from 1.

        Example:
            >>> policy = Retry(error=9, backoff=1, cap=10, jitter=0)
            >>> [policy.wait(0, n) for n in range(1, 6)]
            [1.0, 2.0, 4.0, 8.0, 10.0]
        """
        if not self.backoff:
            return 0.0
        try:
            whole = min(self.cap, self.backoff * self.factor ** (failures - 1))
        except OverflowError:
            whole = self.cap
        return whole * (1 - self.jitter * crc32(b"%d %d" % (task, failures)) / 2**32)


def may_retry(blame: Blame, *, cost: float, retries: float, losses: int, lost_retries: float) -> bool:
    """Whether there is another attempt.

    Args:
        blame: Who pays for the failure.
        cost: What the user's failures cost so far, this one included. A handler may make it fractional or negative.
        retries: The budget for it.
        losses: How often the infrastructure lost the task, this time included.
        lost_retries: The budget for that.

    Example:
        >>> may_retry(Blame.USER, cost=1, retries=1, losses=0, lost_retries=2)
        True
        >>> may_retry(Blame.REFUSED, cost=0, retries=9, losses=0, lost_retries=2)
        False
    """
    if blame is Blame.USER:
        return cost <= retries
    if blame is Blame.INFRASTRUCTURE:
        return losses <= lost_retries
    return False


def left_after(retries: int | Retry, cause: Cause) -> int | Retry | None:
    """What is left of a budget after a failure that is not a loss; None if there must be no further try.

    Args:
        retries: Not one with numbers by exception.
        cause: What the failure was.

    Example:
        >>> left_after(Retry(error=2, crash=1), Cause.ERROR), left_after(2, Cause.CRASH), left_after(0, Cause.OOM)
        (Retry(error=1, crash=1), 1, None)
    """
    count = retries if isinstance(retries, int) else getattr(retries, cause.value)
    if not count:
        return None
    if isinstance(retries, int):
        return retries - 1
    return Retry(**{**{name: getattr(retries, name) for name in Retry.__slots__}, cause.value: count - 1})


def more_memory(asked: float, limit: float, peak: float, factor: float) -> int:
    """Bytes to ask for after a task ran out of memory; 0 if nothing is known that could be multiplied.

    Args:
        asked: What it asked for; 0 for nothing.
        limit: What it might use; 0 for no limit but the machine's.
        peak: What it was seen to use; 0 if unknown.
        factor: Of the ``Retry``.

    Example:
        >>> more_memory(0, 100, 130, 2), more_memory(0, 0, 130, 2)
        (200, 260)
    """
    return math.ceil((max(asked, limit) or peak) * factor)


def first_set(*settings: float | None) -> float:
    """The first setting that is not None: call before app before Config.

    Raises:
        ValueError: All are None.

    Example:
        >>> first_set(None, 0, 3)
        0
    """
    for setting in settings:
        if setting is not None:
            return setting
    raise ValueError("no setting is set; the last one must be")


def check_retries(where: str, value: Any) -> int | Retry:
    """``value`` if it can be a ``retries``.

    Args:
        where: What it is, for messages.
        value: What was given.

    Raises:
        TypeError: It is neither a whole number nor a ``Retry``.
        ValueError: It is negative.
    """
    if isinstance(value, Retry):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{where} is {value!r} of type {type(value).__name__}; it must be a whole number, 0 for none, or a Retry, "
            "as in flowlib.Retry(error=2, timeout=1)"
        )
    if value < 0:
        raise ValueError(f"{where} is {value}; it must not be negative")
    return value


_ORDER = ("error", "timeout", "oom", "crash", "lost", "memory", "backoff", "factor", "cap", "jitter")
_PLAIN = Retry()


def _again(*values: Any) -> Retry:
    return Retry(**dict(zip(Retry.__slots__, values, strict=True)))
