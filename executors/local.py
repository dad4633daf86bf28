"""What executors that run tasks in the driver's own process share: the attempt itself, and its event."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from flowlib.calling import run_call
from flowlib.context import TaskContext, enter
from flowlib.context import exit as leave
from flowlib.dataflow.outcomes import Failed, Returned
from flowlib.events.schema import Code

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord
    from flowlib.executors.base import FlowlibExecutor

_NOTE = int(Code.NOTE)
_TRY_ENDED = int(Code.TRY_ENDED)
_TEXT = 2000
_OURS = frozenset({__name__, "flowlib.calling", "flowlib.executors.walltime"})


def check_label(kind: str, label: Any) -> None:
    """Refuse a label that cannot name an executor.

    Raises:
        TypeError: It is no string.
        ValueError: It is empty.
    """
    if not isinstance(label, str):
        raise TypeError(f"{kind}: label is {label!r}, it must be a string")
    if not label:
        raise ValueError(f"{kind}: label is empty, give the executor a name")


def check_optional(kind: str, name: str, value: Any, wanted: type, allowed: str) -> None:
    """Refuse a value that is neither None nor of the wanted type.

    Raises:
        TypeError: It is something else.
    """
    if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
        raise TypeError(f"{kind}: {name} is {value!r}, it must be {allowed} or None")


def run_attempt(
    executor: FlowlibExecutor,
    record: TaskRecord,
    attempt: int,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Returned | Failed:
    """Run one attempt in this thread, in the context variables of the call that made the task."""
    context = record.context
    try:
        if context is None:
            return Returned(_call(executor, record, attempt, func, args, kwargs))
        return Returned(context.run(_call, executor, record, attempt, func, args, kwargs))
    except Exception as e:  # noqa: BLE001  # the boundary around user code: its failure is the task's
        # Our own frames are of no use to the reader, and would keep the arguments alive as long as the exception.
        trace = e.__traceback__
        while trace is not None and trace.tb_next is not None and trace.tb_frame.f_globals.get("__name__") in _OURS:
            trace = trace.tb_next
        e.__traceback__ = trace
        return Failed(e)


def end_of_try(
    record: TaskRecord, attempt: int, outcome: Returned | Failed, began: float, ended: float
) -> tuple[Any, ...]:
    """The event that tells how an attempt ended."""
    if type(outcome) is Returned:
        return (_TRY_ENDED, ended, record.id, attempt, 0, began, ended, -1, -1, "", "")
    assert isinstance(outcome, Failed)
    kind = type(outcome.error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return (_TRY_ENDED, ended, record.id, attempt, 1, began, ended, -1, -1, name, text_of(outcome.error))


def text_of(error: BaseException) -> str:
    """An exception's text, as long as the event log takes."""
    try:
        return str(error)[:_TEXT]
    except Exception as e:  # noqa: BLE001  # the user's __str__ is user code
        return f"(its text cannot be made: {type(e).__name__})"


def _call(
    executor: FlowlibExecutor,
    record: TaskRecord,
    attempt: int,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    walltime = record.walltime
    deadline = None if walltime is None else monotonic() + walltime
    app, emit = record.app, executor.emit

    def notify(kind: str, body: bytes) -> None:
        emit((_NOTE, time(), record.id, attempt, kind, body))

    task = TaskContext(record.id, attempt, app.name, executor.label, None, deadline, 1, (), notify)
    token = enter(task)
    try:
        # A bash app stops its command itself.
        if walltime is None or app.kind == "bash":
            return run_call(func, args, kwargs)
        from flowlib.executors.walltime import call_within

        return call_within(walltime, run_call, func, args, kwargs)
    finally:
        leave(task, token)
