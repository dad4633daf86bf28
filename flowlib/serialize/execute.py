"""What a worker does with one task: arguments in, call, value or failure out.

``execute`` returns whatever user code does, short of ending the process.  This module is imported before every
worker's first task, so it imports little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowlib.calling import run_call
from flowlib.errors import AppAborted, AppException, DeserializationError, ObjectLost
from flowlib.serialize.arguments import load_call
from flowlib.serialize.envelope import Failure, capture, encode_failure
from flowlib.serialize.values import NEVER, Packed, dump_result

if TYPE_CHECKING:
    from collections.abc import Callable

OK = 0
RAISED = 1
"""The values of ``messages.Status`` that a worker gives."""

_host = ""
_worker = -1
_log = ""
_large = NEVER

_LAST_RESORT = encode_failure(
    Failure(
        "flowlib.errors.AppException",
        "the app failed, and so did the attempt to report how (out of memory, or interrupted)",
        arguments=["the app failed, and so did the attempt to report how (out of memory, or interrupted)"],
    )
)


def set_place(host: str, worker: int, log: str) -> None:
    """Say where this process is, for the failures it reports.

    Args:
        host: Machine name.
        worker: Rank of the worker.
        log: Path of its log file.
    """
    global _host, _worker, _log
    _host, _worker, _log = host, worker, log


def results_apart(threshold: int | None) -> None:
    """Say from how many bytes on results of this process are objects of their own; None for never."""
    global _large
    _large = NEVER if threshold is None else threshold


def execute(func: Callable[..., Any], payload: bytes | memoryview) -> tuple[int, bytes | Packed]:
    """Run one task.

    Args:
        func: What to call.
        payload: Its pickled arguments.

    Returns:
        ``OK`` and the pickled value (``Packed`` if it is large), or ``RAISED`` and an encoded ``Failure``. Nothing
        that user code raises leaves this function.
    """
    called = False
    try:
        args, kwargs = load_call(payload)
        called = True
        return OK, dump_result(run_call(func, args, kwargs), _large)
    except BaseException as e:  # noqa: BLE001  # the boundary around user code: every exception becomes a typed failure
        return RAISED, report(e if called else _unloadable(e))


def report(error: BaseException) -> bytes:
    """The encoded failure of an exception; also for one that came before ``execute``, from ``decode_function``."""
    try:
        if not isinstance(error, Exception):
            error = _aborted(error)
        return encode_failure(capture(error, host=_host, worker=_worker, log=_log))
    except BaseException:  # noqa: BLE001  # out of memory or interrupted: the task must still get its answer
        return _LAST_RESORT


def _aborted(error: BaseException) -> AppAborted:
    # Raised outside the call itself: while a value was pickled, or by a signal just after.
    aborted = AppAborted(f"the app raised {type(error).__name__}, which would have ended its process")
    aborted.__cause__ = error
    return aborted


def _unloadable(error: BaseException) -> BaseException:
    if isinstance(error, (AppException, ObjectLost)):
        # A walltime that ended meanwhile.
        return error
    wrapped = DeserializationError(f"the arguments cannot be rebuilt in the worker: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
