"""Runs each task where it is launched, in the caller's own thread: for debugging, with breakpoints.

A call of an app returns when its task is done, unless it waits for others; those it sets free run then and there, one
after the other and not one inside the other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.calling import run_call
from flowlib.dataflow.record import TaskRecord
from flowlib.executors.base import FlowlibExecutor
from flowlib.executors.local import check_label, end_of_try, run_attempt
from flowlib.executors.turns import Turns

if TYPE_CHECKING:
    from flowlib.explain.place import Place


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
        self._turns = Turns()
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
        self._turns.take(partial(self._run, record, attempt, func, args, kwargs))

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
        return len(self._turns)

    def shutdown(self) -> None:
        """Take no further tasks."""
        self._started = False
        self._turns.clear()

    def _run(
        self, record: TaskRecord, attempt: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        began = time()
        with self._turns.inside():
            outcome = run_attempt(self, record, attempt, func, args, kwargs)
        del func, args, kwargs
        self.emit(end_of_try(record, attempt, outcome, began, time()))
        self.report([(record, attempt, outcome)])
