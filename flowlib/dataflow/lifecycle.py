"""How a run starts and ends.

The order is the point: a run has its directory and logs before anything can fail, executors start last; at the end no
task is taken, then nobody waits for one any more, and then the parts go, each within a deadline.  Nothing that matters
relies on the interpreter's exit hook: executors notice the death of the driver by themselves.
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import logging
import os
import platform
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.lanes import INTERNAL, Lane
from flowlib.errors import ConfigurationError
from flowlib.events.schema import FORMAT, Code
from flowlib.rundirs import EVENT_LOG, make_rundir

if TYPE_CHECKING:
    from flowlib.dataflow.kernel import DataFlowKernel
    from flowlib.executors.base import FlowlibExecutor

_SHUTDOWN = 15.0
_CALLBACKS = 1.0
_logger = logging.getLogger(__name__)
_open: dict[str, DataFlowKernel] = {}


class Life:
    """The start and the end of a kernel's run.

    Args:
        kernel: Whose.

    Attributes:
        pid: The process that started it.
    """

    def __init__(self, kernel: DataFlowKernel) -> None:
        self._kernel = kernel
        self._events: Any = None
        self._display: Any = None
        self._stop_logging: Callable[[], None] = _nothing
        self._started: list[FlowlibExecutor] = []
        self.pid = os.getpid()
        self._ended = False
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------------------ start

    def start(self) -> None:
        """Make the run directory, logs and executors.

        Raises:
            ConfigurationError: The configuration cannot work. Whatever was started is ended again.
        """
        kernel, config = self._kernel, self._kernel.config
        config.acquire()
        try:
            kernel.run_dir = make_rundir(config.run_dir)
            self._start_logs()
            self._start_memoizer()
            self._start_internal()
            self.add_executors(config.executors)
            if config.progress:
                from flowlib.display import ProgressDisplay

                self._display = ProgressDisplay(kernel)
                self._display.start()
        except BaseException:
            self._end("the start failed")
            raise
        _open[kernel.run_id] = kernel

    def _start_logs(self) -> None:
        from flowlib import logs

        kernel, config = self._kernel, self._kernel.config
        try:
            self._stop_logging = logs.initialize_logging(config.initialize_logging, kernel.run_dir)
        except OSError as e:
            raise ConfigurationError(f"cannot open the log in {kernel.run_dir!r}: {e}") from e
        _logger.info("run %s in %s: %r", kernel.run_id, kernel.run_dir, config)
        if config.events:
            # msgspec comes with it, so it is not imported before a run wants it.
            from flowlib.events.log import EventLog

            try:
                self._events = EventLog(os.path.join(kernel.run_dir, EVENT_LOG))
            except OSError as e:
                raise ConfigurationError(f"cannot open the event log in {kernel.run_dir!r}: {e}") from e
            kernel.engine.emit = self._events.emit
            kernel.engine.emit(_run_started(kernel))

    def _start_memoizer(self) -> None:
        kernel, config = self._kernel, self._kernel.config
        memoizer = config.memoizer
        if memoizer is None:
            from flowlib.memory.later import LateMemoizer

            memoizer = LateMemoizer()
        kernel.engine.memoizer = memoizer
        memoizer.start(run_dir=kernel.run_dir, config_run_dir=config.run_dir)

    def _start_internal(self) -> None:
        from flowlib.executors.threads import ThreadPoolExecutor

        threads = self._kernel.config.internal_tasks_max_threads
        self._start_executor(ThreadPoolExecutor(label=INTERNAL, max_threads=threads))

    def add_executors(self, executors: Sequence[FlowlibExecutor]) -> None:
        """Start executors; see ``DataFlowKernel.add_executors``."""
        for executor in executors:
            self._start_executor(executor)
        self._kernel.engine.counting = len(self._kernel.lanes.users()) > 1

    def _start_executor(self, executor: FlowlibExecutor) -> None:
        kernel = self._kernel
        for other in _open.values():
            if other is not kernel and any(lane.executor is executor for lane in other.lanes.by_label.values()):
                raise ConfigurationError(
                    f"executor {executor.label!r} is in use by the run in {other.run_dir}: make another one"
                )
        lane: Lane = kernel.lanes.add(executor)
        executor.run_dir = kernel.run_dir
        executor.run_id = kernel.run_id
        executor.report = kernel.engine.report
        executor.emit = kernel.engine.emit
        executor.event_index = lane.index
        executor.strategy = kernel.config.strategy
        executor.strategy_period = kernel.config.strategy_period
        executor.max_idletime = kernel.config.max_idletime
        executor.log_config = kernel.config.initialize_logging
        kernel.engine.emit(
            (int(Code.EXECUTOR), time(), lane.index, lane.label, type(executor).__name__, repr(executor))
        )
        self._started.append(executor)
        executor.start()

    def flush_events(self, timeout: float) -> str | None:
        """See the kernel's."""
        if self._events is None:
            return None
        if not self._kernel.engine.closed:
            self._events.flush(timeout)
        path: str = self._events.path
        return path

    # -------------------------------------------------------------------------------------------------------- end

    def cleanup(self) -> None:
        """End the run; see ``DataFlowKernel.cleanup``."""
        with self._lock:
            if self._ended:
                raise ConfigurationError(
                    "attempt to clean up DFK when it has already been cleaned-up: leave out the second cleanup()"
                )
            self._ended = True
        self._end("cleanup")

    def _end(self, reason: str) -> None:
        from flowlib.dataflow import loader

        kernel = self._kernel
        self._ended = True
        _open.pop(kernel.run_id, None)
        loader.forget(kernel)
        with contextlib.ExitStack() as steps:
            # Last step first: an interrupt in one of them does not keep the others from being taken.
            steps.callback(kernel.config.release)
            steps.callback(self._stop_logging)
            steps.callback(self._end_record, reason)
            # Not before callbacks have had their chance to look.
            steps.callback(self._tell_unseen)
            steps.callback(kernel.engine.close, _CALLBACKS)
            steps.callback(self._close_memoizer)
            steps.callback(_shut_down, self._started)
            steps.callback(self._tell_unfinished, kernel.engine.abandon(), reason)
            if self._display is not None:
                steps.callback(self._display.stop)

    def _tell_unfinished(self, unfinished: int, reason: str) -> None:
        if unfinished:
            text = f"{unfinished} task{'s' * (unfinished != 1)} unfinished"
            _logger.warning("%s, cancelled by %s", text, reason)
            _print(
                f"flowlib: {text}, and cancelled because the run ended: wait for them by result(), "
                f"flowlib.wait_for_current_tasks() or Config(exit_mode='wait') (run {self._kernel.run_dir})"
            )

    def _close_memoizer(self) -> None:
        memoizer = getattr(self._kernel.engine, "memoizer", None)
        if memoizer is not None:
            memoizer.close()

    def _end_record(self, reason: str) -> None:
        counts = _counts(self._kernel)
        _logger.info("the run ended: %s; %s", reason, counts)
        if self._events is not None:
            self._kernel.engine.emit((int(Code.RUN_ENDED), time(), reason, counts))
            self._events.close()

    def _tell_unseen(self) -> None:
        """A failure that nobody looked at must not end as silently as a success."""
        kernel = self._kernel
        text = kernel.engine.unseen.report()
        if text:
            _logger.warning("%s", text)
            hint = ""
            if self._events is not None:
                inside = kernel.run_dir.startswith(os.getcwd() + os.sep)
                run = os.path.relpath(kernel.run_dir) if inside else kernel.run_dir
                hint = f"; see: flowlib events {shlex.quote(run)} --failed"
            _print(f"flowlib: {text}{hint}")


def _shut_down(executors: Sequence[FlowlibExecutor]) -> None:
    """Shut executors down side by side, each within the deadline."""
    threads = []
    for executor in executors:
        thread = threading.Thread(
            target=_shut_down_one, args=(executor,), name=f"flowlib-shutdown-{executor.label}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # At the interpreter's exit no thread can be started any more.
            _shut_down_one(executor)
        else:
            threads.append((executor, thread))
    deadline = monotonic() + _SHUTDOWN
    for executor, thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
        if thread.is_alive():
            _logger.error("executor %s did not shut down within %g s and is left behind", executor.label, _SHUTDOWN)
            _print(f"flowlib: executor {executor.label} did not shut down within {_SHUTDOWN:g} s")


def _shut_down_one(executor: FlowlibExecutor) -> None:
    try:
        executor.shutdown()
    except Exception:
        # The boundary to a plug-in: one that fails keeps none of the others from ending, and a person is told.
        _logger.exception("executor %s failed to shut down", executor.label)
        _print(f"flowlib: executor {executor.label} failed to shut down: {sys.exc_info()[1]}")


def _counts(kernel: DataFlowKernel) -> dict[str, int]:
    return {state.name: number for state, number in kernel.task_state_counts.items() if number}


def _run_started(kernel: DataFlowKernel) -> tuple[Any, ...]:
    from importlib import metadata

    try:
        version = metadata.version("flowlib")
    except metadata.PackageNotFoundError:
        version = "unknown"
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        # No entry for this user in the system's list, as in some containers.
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    script = os.path.abspath(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    return (
        *(int(Code.RUN_STARTED), time(), FORMAT, kernel.run_id, kernel.run_dir, script, os.getcwd(), user),
        *(socket.gethostname(), os.getpid(), platform.python_version(), version),
        *(os.path.basename(script), repr(kernel.config)),
    )


def _print(text: str) -> None:
    stream = sys.stderr
    if stream is not None:
        try:
            stream.write(text + "\n")
        except (OSError, ValueError):
            # Standard error is closed: there is nobody to tell.
            return


def _nothing() -> None:
    return


@atexit.register
def _leave() -> None:
    """A courtesy at the interpreter's exit: those who wait in threads hear of it, and executors end at once."""
    for kernel in list(_open.values()):
        if kernel.owner != os.getpid():
            # A process that the script forked: the run is not its to end.
            continue
        try:
            kernel.cleanup()
        except ConfigurationError:
            # Another thread ends it just now.
            continue
