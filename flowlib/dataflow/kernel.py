"""The data flow kernel: what users and apps see of a run.

It makes tasks of calls and hands them to the ``Engine``, and it is the place where the run's parts (executors, event
log, memoizer) live.  How a run starts and ends is in ``lifecycle``.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Sequence
from contextvars import copy_context
from itertools import count
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.dataflow import special
from flowlib.dataflow.engine import Engine
from flowlib.dataflow.futures import AppFuture, DataFuture
from flowlib.dataflow.graph import STATE_COUNT
from flowlib.dataflow.lanes import INTERNAL, Lanes, in_time, suitable
from flowlib.dataflow.lifecycle import Life
from flowlib.dataflow.loader import DataFlowKernelLoader as DataFlowKernelLoader
from flowlib.dataflow.outcomes import Blame, Failed
from flowlib.dataflow.record import NO_KWARGS, TaskRecord
from flowlib.dataflow.states import FINAL_STATES, States
from flowlib.errors import NoDataFlowKernelError
from flowlib.events.schema import Code

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from flowlib.config import Config
    from flowlib.dataflow.lineage import Rerun
    from flowlib.dataflow.memoization import Memoizer
    from flowlib.executors.base import FlowlibExecutor
    from flowlib.options import TaskOptions

_FILES = "flowlib.data_provider.files"
_STREAMS = int(Code.TASK_STREAMS)
_APP = int(Code.APP)


class _App:
    """What the kernel keeps of an app: its number in events and its tasks by state."""

    __slots__ = ("counts", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.counts = [0] * STATE_COUNT


class DataFlowKernel:
    """Runs the tasks of a workflow on the executors of a configuration.

    ``flowlib.load`` makes one and lets apps find it; several may live side by side when apps are bound to them by
    ``data_flow_kernel=``.  As a context manager it ends as ``config.exit_mode`` says.

    Args:
        config: The configuration; it cannot be changed while it is in use. None for ``Config()``.

    Attributes:
        config: The configuration.
        run_id: A UUID.
        run_dir: Absolute path of the run's directory.
        lanes: The executors.
        engine: What drives the tasks.

    Raises:
        ConfigurationError: The configuration cannot work: equal labels, a run directory that cannot be made ...

    Example:
        >>> import tempfile
        >>> from flowlib.config import Config
        >>> from flowlib.executors import InlineExecutor
        >>> with DataFlowKernel(Config(executors=[InlineExecutor()], run_dir=tempfile.mkdtemp())) as kernel:
        ...     kernel.submit(divmod, (7, 2)).result()
        (3, 1)
    """

    def __init__(self, config: Config | None = None) -> None:
        if config is None:
            from flowlib.config import Config

            config = Config()
        self.config = config
        self.run_id = str(uuid.uuid4())
        self.run_dir = ""
        self.lanes = Lanes()
        self.engine = Engine(config)
        self._ids = count()
        self._apps: dict[str, _App] = {}
        self._life = Life(self)
        self._life.start()

    # ------------------------------------------------------------------------------------------------ submitting

    def submit_app(
        self, app: Any, options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AppFuture[Any]:
        """Make a task of a call of an app.

        Args:
            app: Has ``name``, ``kind`` ("python", "bash" or "join"), ``func``, ``target`` (what executors run) and
                ``defaults`` (of special arguments in its signature).
            options: How it is to run.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.

        Raises:
            NoDataFlowKernelError: The kernel was cleaned up.
            ValueError: An executor is named that does not exist, or a file cannot be brought to one.
            InvalidResourceSpecification: No executor can honour what the task asks for.
            TypeError: A special argument has the wrong type, or an argument is an asyncio future.
        """
        now = time()
        wanted = INTERNAL if app.kind == "join" else options.executors
        lanes = self.lanes.choose(wanted)
        entry = self._apps.get(app.name)
        if entry is None:
            entry = self._meet(app)
        if app.defaults:
            kwargs = special.with_defaults(app, args, kwargs)
        record = TaskRecord(self, app, options, app.target, args, kwargs or NO_KWARGS, lanes, entry.counts, now)
        if _FILES in sys.modules and (args or kwargs):
            special.check_files(lanes, args, kwargs)
        record.id = next(self._ids)
        future: AppFuture[Any] = AppFuture(record)
        record.future = future
        if kwargs:
            record.kwargs = special.prepare(record, future, kwargs)
        specification = record.resource_specification or options.resources
        if specification:
            record.resource_specification = asked = dict(specification)
            record.lanes = lanes = suitable(self.lanes.choose_any(wanted), asked)
        if record.walltime is not None:
            record.lanes = lanes = in_time(lanes, record.walltime)
        if options.cache:
            record.memoize = True
        for lane in lanes:
            if lane.executor.in_process:
                record.context = copy_context()
                break
        self.engine.add(record, entry.index)
        rare = record.rare
        if rare is not None and (rare.stdout is not None or rare.stderr is not None):
            self.engine.emit((_STREAMS, now, record.id, _path(rare.stdout), _path(rare.stderr)))
        return future

    def submit(
        self,
        func: Callable[..., Any],
        app_args: Sequence[Any],
        executors: str | Sequence[str] = "all",
        cache: bool = False,
        ignore_for_cache: Sequence[str] | None = None,
        app_kwargs: dict[str, Any] | None = None,
        join: bool = False,
    ) -> AppFuture[Any]:
        """Run ``func(*app_args, **app_kwargs)`` as a task, without an app.

        Args:
            func: What to run.
            app_args: Positional arguments.
            executors: "all", or labels of executors.
            cache: Whether the value is remembered.
            ignore_for_cache: Names of keyword arguments that do not count for that.
            app_kwargs: Keyword arguments.
            join: Whether ``func`` returns futures whose values are the task's.

        Raises:
            NoDataFlowKernelError: The kernel was cleaned up.
            ValueError: An executor is named that does not exist.
        """
        from flowlib.options import TaskOptions

        wanted = executors if isinstance(executors, str) else tuple(executors)
        options = TaskOptions(executors=wanted, cache=cache, ignore_for_cache=tuple(ignore_for_cache or ()))
        return self.submit_app(Function(func, join), options, tuple(app_args), dict(app_kwargs or {}))

    def _meet(self, app: Any) -> _App:
        """The first task of an app."""
        with self.engine.lock:
            entry = self._apps.get(app.name)
            if entry is not None:
                return entry
            entry = self._apps[app.name] = _App(len(self._apps))
        code = getattr(app.func, "__code__", None)
        file, line = ("", 0) if code is None else (code.co_filename, code.co_firstlineno)
        module = str(getattr(app.func, "__module__", None) or "")
        self.engine.emit((_APP, time(), entry.index, app.name, app.kind, module, file, line))
        return entry

    def submit_again(self, rerun: Rerun, first: TaskRecord) -> None:
        """Take a task that does once more what another one has done.

        Args:
            rerun: The task; has its arguments.
            first: The one that has done it.
        """
        rerun.id = next(self._ids)
        try:
            self.engine.add(rerun, self._apps[first.app.name].index)
        except NoDataFlowKernelError as e:
            rerun.end(Failed(e, Blame.REFUSED))

    # ------------------------------------------------------------------------------------------------ what is seen

    @property
    def executors(self) -> dict[str, FlowlibExecutor]:
        """All executors by label, flowlib's own included."""
        return {label: lane.executor for label, lane in self.lanes.by_label.items()}

    @property
    def memoizer(self) -> Memoizer:
        """What remembers the values of apps with ``cache=True``."""
        return self.engine.memoizer

    @property
    def tasks(self) -> dict[int, TaskRecord]:
        """Tasks that are not done, by id; all tasks if ``garbage_collect`` is off."""
        return self.engine.graph.tasks

    @property
    def task_count(self) -> int:
        """Tasks submitted so far."""
        return self.engine.graph.added

    @property
    def task_state_counts(self) -> dict[States, int]:
        """Number of tasks in each state."""
        with self.engine.lock:
            columns = [entry.counts for entry in self._apps.values()]
            return {state: sum(counts[state] for counts in columns) for state in States}

    def progress_snapshot(self) -> dict[str, dict[int, int]]:
        """Number of tasks by app name and state, without the states that no task is in."""
        with self.engine.lock:
            return {
                name: {state: entry.counts[state] for state in States if entry.counts[state]}
                for name, entry in self._apps.items()
            }

    def __repr__(self) -> str:
        return f"<DataFlowKernel {self.run_dir}: {self.engine.graph.unfinished} of {self.task_count} tasks unfinished>"

    # ------------------------------------------------------------------------------------------------------- life

    @property
    def owner(self) -> int:
        """Id of the process that the run belongs to; a forked copy cannot use it."""
        return self._life.pid

    @property
    def cleaned_up(self) -> bool:
        """Whether the run is over."""
        return self.engine.closed

    @property
    def cleanup_called(self) -> bool:
        """The same under the name that scripts of the field read."""
        return self.cleaned_up

    def add_executors(self, executors: Sequence[FlowlibExecutor]) -> None:
        """Start further executors; apps may use them from now on.

        Raises:
            ConfigurationError: A label is taken.
        """
        self._life.add_executors(executors)

    def flush_events(self, timeout: float = 1.0) -> str | None:
        """Wait until what happened so far is in the event log.

        Args:
            timeout: Most seconds to wait, for a disk that takes nothing.

        Returns:
            Path of the event log; None if there is none.
        """
        return self._life.flush_events(timeout)

    def wait_for_current_tasks(self) -> None:
        """Wait until every task that was submitted so far is done."""
        with self.engine.lock:
            futures = [r.future for r in self.tasks.values() if r.status not in FINAL_STATES]
        for future in futures:
            if future is not None and not future.done():
                future._wait(None)

    def cancel(self, record: TaskRecord, running: bool = False, grace: float = 5.0, by: str = "") -> bool:
        """Withdraw a task that has not started, or end it; see ``AppFuture.cancel``."""
        return self.engine.cancel(record, running, grace, by)

    def cancel_all(self, running: bool = False, grace: float = 5.0) -> int:
        """Cancel every task that is not done, the last submitted first.

        Args:
            running: Whether to end those that run; see ``AppFuture.cancel``.
            grace: Seconds that these have between SIGTERM and SIGKILL.

        Returns:
            How many are cancelled or will be, those not counted that fail because they depend on one.
        """
        with self.engine.lock:
            records = [r for r in self.tasks.values() if r.status not in FINAL_STATES]
        # Those that wait go first: nothing moves up to be begun, and nobody waits for what is gone.
        records.sort(key=lambda record: (record.status is not States.pending, -record.id))
        return sum(self.engine.cancel(record, running, grace, "by cancel_all()") for record in records)

    def cleanup(self) -> None:
        """End the run: cancel what is not done, end all executors.  Takes bounded time.

        Raises:
            ConfigurationError: It was called before.
        """
        self._life.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        mode = self.config.exit_mode
        if mode == "skip" or self.cleaned_up:
            return
        if mode == "wait" and kind is None:
            self.wait_for_current_tasks()
        self.cleanup()


class Function:
    """A plain function in the place of an app.

    Args:
        func: The function.
        join: Whether it returns futures to be joined.
    """

    __slots__ = ("defaults", "func", "kind", "name", "target")

    def __init__(self, func: Callable[..., Any], join: bool = False) -> None:
        self.func = self.target = func
        self.name = getattr(func, "__name__", type(func).__name__)
        self.kind = "join" if join else "python"
        self.defaults: dict[str, Any] = {}


def _path(stream: Any) -> str:
    """A stream as events show it."""
    if stream is None:
        return ""
    if isinstance(stream, DataFuture):
        return str(stream.file_obj)
    return str(stream[0] if isinstance(stream, tuple) and stream else stream)
