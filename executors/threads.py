"""Runs tasks in threads of this process: for work that waits or that leaves Python, and for small workflows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import get_ident
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.calling import run_call
from flowlib.dataflow.crew import Crew
from flowlib.dataflow.record import TaskRecord
from flowlib.dataflow.shield import SHIELD
from flowlib.executors.base import FlowlibExecutor
from flowlib.executors.local import check_label, check_optional, end_of_try, run_attempt

if TYPE_CHECKING:
    from flowlib.explain.place import Place

_GRACE = 1.0


class ThreadPoolExecutor(FlowlibExecutor):
    """Runs tasks in a pool of threads.

    Args:
        label: Unique name in its Config.
        max_threads: Most threads; None for as many as the stdlib's pool has, the CPUs and four more, at most 32.
        thread_name_prefix: Names of the threads start with it; None for "ThreadPoolExecutor-<label>".
        storage_access: Staging providers; None for the defaults.
        working_dir: Directory for staged files; None for the current one.
        remote_monitoring_radio: Accepted for compatibility; the event log needs none.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: ``max_threads`` is not positive.

    Example:
        >>> from flowlib.config import Config
        >>> Config(executors=[ThreadPoolExecutor(label="io", max_threads=8)]).executors[0].label
        'io'
    """

    in_process = True

    def __init__(
        self,
        label: str = "threads",
        max_threads: int | None = 2,
        thread_name_prefix: str | None = None,
        storage_access: Sequence[Any] | None = None,
        working_dir: str | None = None,
        remote_monitoring_radio: Any = None,
    ) -> None:
        check_label(type(self).__name__, label)
        check_optional(type(self).__name__, "max_threads", max_threads, int, "a whole number")
        check_optional(type(self).__name__, "thread_name_prefix", thread_name_prefix, str, "a string")
        if max_threads is not None and max_threads < 1:
            raise ValueError(f"max_threads is {max_threads}, it must be at least 1")
        self.label = label
        self.max_threads = max_threads
        self.thread_name_prefix = f"{type(self).__name__}-{label}" if thread_name_prefix is None else thread_name_prefix
        self.storage_access = storage_access
        self.working_dir = working_dir
        self.remote_monitoring_radio = remote_monitoring_radio
        self._crew: Crew | None = None
        # Whoever takes an entry out owns the attempt: a thread to run it, or cancel to withdraw it.
        self._waiting: dict[TaskRecord, tuple[Any, ...]] = {}
        # By thread: the last attempt that it began, and when.
        self._begun: dict[int, tuple[int, int, float]] = {}

    def start(self) -> None:
        """Make ready; threads start with the first tasks."""
        self._waiting = {}
        self._begun = {}
        self._crew = Crew(self.thread_name_prefix, self.max_threads or min(32, (os.cpu_count() or 1) + 4))

    def launch(
        self, record: TaskRecord, attempt: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Queue one attempt; see the base class."""
        crew = self._running()
        with SHIELD:
            self._waiting[record] = (attempt, func, args, kwargs)
            try:
                crew.put(self._run, record)
            except RuntimeError:
                self._waiting.pop(record, None)
                raise

    def submit(
        self, func: Callable[..., Any], resource_specification: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Run ``func(*args, **kwargs)`` in a thread, outside of any workflow."""
        self.validate_resources(resource_specification)
        future: Future[Any] = Future()
        self._running().put(_run_future, future, func, args, kwargs)
        return future

    def cancel(self, record: TaskRecord, attempt: int) -> bool:
        """Withdraw an attempt that no thread has begun."""
        return self._waiting.pop(record, None) is not None

    def whereabouts(self, record: TaskRecord, attempt: int) -> Place | None:
        """Where an attempt is at this moment; see the base class."""
        from flowlib.explain.place import Place
        from flowlib.explain.reasons import Reason

        ahead = list(self._waiting)
        if record in ahead:
            queue = {"position": ahead.index(record) + 1, "queue": len(ahead)}
            return Place(Reason.CAPACITY, {"executor": self.label, **queue})
        for task, number, began in list(self._begun.values()):
            if (task, number) == (record.id, attempt):
                return Place(Reason.RUNNING, {"attempt": attempt}, began)
        return None

    def outstanding(self) -> int:
        """Tasks that wait for a thread."""
        return len(self._waiting)

    def shutdown(self) -> None:
        """Forget what waits, and leave what runs: its threads get a second and then end with the process."""
        crew, self._crew = self._crew, None
        if crew is not None:
            self._waiting.clear()
            crew.drop()
            crew.close(_GRACE)

    def _running(self) -> Crew:
        if self._crew is None:
            raise RuntimeError(f"executor {self.label} is not started, or was shut down")
        return self._crew

    def _run(self, record: TaskRecord) -> None:
        call = self._waiting.pop(record, None)
        if call is None:
            return
        attempt, func, args, kwargs = call
        began = time()
        self._begun[get_ident()] = (record.id, attempt, began)
        outcome = run_attempt(self, record, attempt, func, args, kwargs)
        del call, func, args, kwargs
        self.emit(end_of_try(record, attempt, outcome, began, time()))
        self.report([(record, attempt, outcome)])


def _run_future(future: Future[Any], func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = run_call(func, args, kwargs)
    except Exception as e:  # noqa: BLE001  # the boundary around user code: its failure is the future's
        future.set_exception(e)
    else:
        future.set_result(value)
