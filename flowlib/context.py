"""What a running task may ask about itself: ``flowlib.current()``.

A plain function never needs it.  Executors make a ``TaskContext`` for every task, so making one only stores what is
known; everything else is worked out when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from flowlib.tasklog import TaskLog

Notify = Callable[[str, bytes], None]
"""Sends ``(kind, body)`` to the run's event log: "progress" with msgpack, "emit" with a pickled value."""

_PROGRESS_PERIOD = 0.1


class TaskContext:
    """A task, seen from inside.

    Attributes:
        task_id: The task's number in its run.
        attempt: Which try this is, from 0.
        app: The app's name.
        executor: Label of the executor.
        worker_rank: The worker's number on its node; None in the driver's own process.
        deadline: When its walltime is over, or its batch job's if that is earlier, on the clock of
            ``time.monotonic()``; None for no limit.
        cores: CPUs that the task may use.
        cpus: Their numbers, where the executor binds tasks to CPUs (``cpu_affinity``); () elsewhere.
        gpus: Accelerators that the task may use.
        memory: Bytes that it has asked for; None if it did not.
        spread: For tasks that start MPI programs: names of their nodes, processes in all and on each node; else None.
    """

    __slots__ = (
        "_directory",
        "_noted",
        "_notify",
        "app",
        "attempt",
        "cores",
        "cpus",
        "deadline",
        "executor",
        "gpus",
        "memory",
        "spread",
        "task_id",
        "worker_rank",
    )

    def __init__(
        self,
        task_id: int,
        attempt: int,
        app: str = "",
        executor: str = "",
        worker_rank: int | None = None,
        deadline: float | None = None,
        cores: float = 1,
        gpus: tuple[str, ...] = (),
        notify: Notify | None = None,
        memory: int | None = None,
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.app = app
        self.executor = executor
        self.worker_rank = worker_rank
        self.deadline = deadline
        self.cores = cores
        self.cpus: tuple[int, ...] = ()
        self.gpus = gpus
        self.memory = memory
        self.spread: tuple[tuple[str, ...], int, int] | None = None
        self._notify = notify
        self._directory: str | None = None
        self._noted = 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds until the task's walltime is over, or its batch job's, never below 0; None for no limit."""
        return None if self.deadline is None else max(0.0, self.deadline - monotonic())

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that an MPI task has; () for other tasks."""
        return () if self.spread is None else self.spread[0]

    @property
    def ranks(self) -> int:
        """Processes that an MPI task is to start in all; 0 for other tasks."""
        return 0 if self.spread is None else self.spread[1]

    @property
    def ranks_per_node(self) -> int:
        """Most processes on each of an MPI task's nodes; 0 for other tasks."""
        return 0 if self.spread is None else self.spread[2]

    @property
    def tmpdir(self) -> Path:
        """A directory of the task's own: made when first asked for, removed with all it holds when the task ends."""
        from pathlib import Path

        if self._directory is None:
            import tempfile

            self._directory = tempfile.mkdtemp(prefix=f"flowlib-{self.task_id}-{self.attempt}-")
        return Path(self._directory)

    @property
    def log(self) -> TaskLog:
        """A logger whose messages name the task; they go to the log of the process that runs it."""
        from flowlib.tasklog import TaskLog

        return TaskLog(self.task_id, self.attempt, self.app)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the task is; shown while the run lives.

        May be called in a tight loop: what comes within a tenth of a second is left out, except the last step.

        Args:
            done: Steps done.
            total: Steps in all, if known.
            message: What the task is doing.
        """
        if self._notify is None:
            return
        now = monotonic()
        if now - self._noted < _PROGRESS_PERIOD and done != total:
            return
        self._noted = now
        import msgspec

        self._notify("progress", msgspec.msgpack.encode([done, total, message]))

    def emit(self, value: Any) -> None:
        """Record a value in the run's event log while the task goes on; never dropped.

        Args:
            value: Anything that can be pickled.

        Raises:
            SerializationError: It cannot.
        """
        from flowlib.serialize.values import dump_value

        body = dump_value(value)
        if self._notify is not None:
            self._notify("emit", body)

    def close(self) -> None:
        """Remove the temporary directory, if there is one; ``exit`` does this."""
        directory, self._directory = self._directory, None
        if directory is not None:
            import shutil

            # A file that cannot be removed (another user's, a dead mount) is not the task's failure.
            shutil.rmtree(directory, ignore_errors=True)

    def __repr__(self) -> str:
        name = f" ({self.app})" if self.app else ""
        return f"<TaskContext of task {self.task_id}{name}, try {self.attempt}>"


_here: ContextVar[TaskContext | None] = ContextVar("flowlib_task", default=None)

# In a worker process the one task is everybody's, also in threads that the task started.
_everywhere: TaskContext | None = None


def enter(context: TaskContext, everywhere: bool = False) -> Token[TaskContext | None]:
    """Make ``context`` the current one; for executors, around a task.

    Args:
        context: The task.
        everywhere: Whether the process runs nothing else meanwhile; then every thread of it sees the context.

    Returns:
        What ``exit`` needs.
    """
    global _everywhere
    if everywhere:
        _everywhere = context
    return _here.set(context)


def exit(context: TaskContext, token: Token[TaskContext | None]) -> None:  # noqa: A001  # the pair of enter
    """Undo ``enter``, and remove the task's temporary directory.

    Args:
        context: What was entered.
        token: What ``enter`` returned, in the same thread.
    """
    global _everywhere
    _here.reset(token)
    if _everywhere is context:
        _everywhere = None
    if context._directory is not None:
        context.close()


def find_current() -> TaskContext | None:
    """The running task; None outside of one."""
    return _here.get() or _everywhere


def current() -> TaskContext:
    """The task that this code runs in.

    Raises:
        RuntimeError: This is no task.

    Example:
        >>> import flowlib
        >>> @flowlib.python_app
        ... def where() -> str:
        ...     me = flowlib.current()
        ...     return f"task {me.task_id}, try {me.attempt}"
    """
    context = _here.get() or _everywhere
    if context is None:
        raise RuntimeError(
            "flowlib.current() is for the inside of a running task: call it in the function of an app, "
            "not in the script; to be callable in both, catch this RuntimeError"
        )
    return context
