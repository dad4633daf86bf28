"""Runs each task where it is launched, in the caller's own thread: for debugging, with breakpoints.

A call of an app returns when its task is done, unless it waits for others; those it sets free run then and there, one
after the other and not one inside the other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.calling import run_call
from flowlib.dataflow.record import TaskRecord
from flowlib.executors.base import FlowlibExecutor
from flowlib.executors.local import check_label, end_of_try, run_attempt

if TYPE_CHECKING:
    from flowlib.explain.place import Place

_Job = tuple[TaskRecord, int, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Thread(threading.local):
    """What a thread is doing for this executor."""

    def __init__(self) -> None:
        self.queue: deque[_Job] = deque()
        self.draining = False


class InlineExecutor(FlowlibExecutor):
    """Runs tasks in the thread that submits them, or that ends the last task they wait for.

    A task whose body waits for a task that was set free at the same moment waits for ever; a debugger shows where.

    Args:
        label: Unique name in its Config.

    Raises:
        TypeError: ``label`` is no string.

    Example:
        >>> from flowlib.config import Config
        >>> config = Config(executors=[InlineExecutor()])
    """

    in_process = True

    def __init__(self, label: str = "inline") -> None:
        check_label(type(self).__name__, label)
        self.label = label
        self._here = _Thread()
        self._started = False

    def start(self) -> None:
        """Make ready."""
        self._started = True

    def launch(
        self, record: TaskRecord, attempt: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Run one attempt, now or when the one that runs in this thread is reported; see the base class."""
        if not self._started:
            raise RuntimeError(f"executor {self.label} is not started, or was shut down")
        here = self._here
        here.queue.append((record, attempt, func, args, kwargs))
        if here.draining:
            return
        here.draining = True
        try:
            while here.queue:
                self._run(here, *here.queue.popleft())
        finally:
            here.draining = False

    def submit(
        self, func: Callable[..., Any], resource_specification: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Run ``func(*args, **kwargs)`` now, outside of any workflow."""
        self.validate_resources(resource_specification)
        future: Future[Any] = Future()
        try:
            value = run_call(func, args, kwargs)
        except Exception as e:  # noqa: BLE001  # the boundary around user code: its failure is the future's
            future.set_exception(e)
        else:
            future.set_result(value)
        return future

    def whereabouts(self, record: TaskRecord, attempt: int) -> Place | None:
        """Where an attempt is at this moment; see the base class."""
        from flowlib.explain.place import Place
        from flowlib.explain.reasons import Reason

        # What waits behind another is launched, too, and nobody keeps an account of other threads' queues.
        return Place(Reason.RUNNING, {"attempt": attempt}, record.launched)

    def outstanding(self) -> int:
        """Tasks that wait in the calling thread."""
        return len(self._here.queue)

    def shutdown(self) -> None:
        """Take no further tasks."""
        self._started = False
        self._here.queue.clear()

    def _run(
        self,
        here: _Thread,
        record: TaskRecord,
        attempt: int,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        # An app that the body calls may be waited for there, so it runs inside; what the report sets free waits.
        here.draining = False
        began = time()
        outcome = run_attempt(self, record, attempt, func, args, kwargs)
        here.draining = True
        del func, args, kwargs
        self.emit(end_of_try(record, attempt, outcome, began, time()))
        self.report([(record, attempt, outcome)])
