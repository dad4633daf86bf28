"""Futures of apps, of parts of their values and of the files that they make.

The kernel settles a future with an *outcome* (``flowlib.dataflow.outcomes``).  A value from another process stays
pickled in it until ``result()`` is called.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, TypeVar

from flowlib.dataflow import lazy
from flowlib.dataflow.lazy import CANCELLED, FINISHED, PENDING, LazyFuture, ViewFuture, Waiting
from flowlib.dataflow.outcomes import Blame, Failed
from flowlib.dataflow.states import States
from flowlib.errors import DependencyError, FlowlibError

if TYPE_CHECKING:
    from flowlib.data_provider.files import File
    from flowlib.dataflow.record import TaskRecord
    from flowlib.explain import Explanation

T = TypeVar("T")


class AppFuture(LazyFuture[T]):
    """The future of a task, as an app returns it when it is called.

    Works wherever a ``concurrent.futures.Future`` does and can be awaited.  ``fut[key]`` and ``fut.name`` are futures
    of a part of the value.

    Example:
        >>> import flowlib
        >>> from flowlib.config import Config
        >>> from flowlib.executors import InlineExecutor
        >>> @flowlib.python_app
        ... def pair(x):
        ...     return {"x": x, "y": x + 1}
        >>> import tempfile
        >>> with flowlib.load(Config(executors=[InlineExecutor()], run_dir=tempfile.mkdtemp())):
        ...     pair(1)["y"].result()
        2
    """

    __slots__ = ("_outcome", "_record", "_state")

    def __init__(self, record: TaskRecord) -> None:
        self._waiting = None
        self._state = PENDING
        self._outcome: Any = None
        self._record = record

    def _get_outcome(self) -> Any:
        return self._outcome

    def _is_failed(self) -> bool:
        return isinstance(self._outcome, Failed)

    def _describe(self) -> str:
        return self._record.describe()

    def __repr__(self) -> str:
        return f"<AppFuture of {self._describe()}: {self.task_status()}>"

    @property
    def tid(self) -> int:
        """The task's number in its run."""
        return self._record.id

    @property
    def record(self) -> TaskRecord:
        """What is known of the task: ``record.cache``, say."""
        return self._record

    @property
    def task_record(self) -> TaskRecord:
        """What the kernel knows of the task; also readable as a mapping."""
        return self._record

    @property
    def stdout(self) -> Any:
        """Where its standard output goes, as given; a ``DataFuture`` if that was a ``File``, None if nowhere."""
        return self._record.stream("stdout")

    @property
    def stderr(self) -> Any:
        """Where its standard error goes, as given; a ``DataFuture`` if that was a ``File``, None if nowhere."""
        return self._record.stream("stderr")

    @property
    def outputs(self) -> list[DataFuture]:
        """One future for each file in ``outputs``."""
        rare = self._record.rare
        return [] if rare is None else rare.outputs

    def task_status(self) -> str:
        """Name of the task's state: 'pending', 'launched', 'exec_done', 'failed', 'dep_fail' ..."""
        status = self._record.status
        if status is States.failed:
            self._looked()
        return status.name

    def explain(self) -> Explanation:
        """Why the task is not done, or where its time went.

        Looks through the run's event log and asks the executor, so it is for people and for now and then: about a
        second for each 150 000 tasks of the run.

        Returns:
            Its ``str()`` is a sentence, ``to_dict()`` is for programs, ``reason`` a ``flowlib.explain.Reason``.

        Raises:
            OSError: The event log cannot be read.

        Example:
            >>> import flowlib, tempfile
            >>> from flowlib.config import Config
            >>> from flowlib.executors import InlineExecutor
            >>> with flowlib.load(Config(executors=[InlineExecutor()], run_dir=tempfile.mkdtemp())) as kernel:
            ...     str(kernel.submit(divmod, (7, 2)).explain().reason)
            'done'
        """
        from flowlib.explain.live import explain

        return explain(self._record)

    def _looked(self) -> None:
        self._record.kernel.engine.unseen.seen(self._record.id)

    def _cancelled_error(self) -> CancelledError:
        by = self._outcome
        if isinstance(by, Failed):
            # It was ended while it ran, or a foreign executor's future was cancelled.
            return CancelledError(f"{self._describe()} was cancelled" + (f": {by.error}" if str(by.error) else ""))
        return CancelledError(f"{self._describe()} was cancelled{f' {by}' if by else ''}")

    def _wait(self, timeout: float | None) -> None:
        if self._record.kernel.owner != os.getpid():
            raise FlowlibError(
                f"{self._describe()} belongs to process {self._record.kernel.owner}, and this is a forked copy of it, "
                "which would never hear of its end: ask there, or load a configuration here"
            )
        super()._wait(timeout)

    def running(self) -> bool:
        """Whether an executor has the task."""
        return self._state == PENDING and self._record.status in (States.launched, States.joining)

    def cancel(self, running: bool = False, grace: float = 5.0) -> bool:
        """Withdraw the task if it has not started; with ``running=True`` end it if it has.

        A running task is ended with all that it has started: they get SIGTERM, and SIGKILL if they live still when the
        grace is over. Its future is done when they are dead. Its worker is replaced, other tasks never notice. Threads
        cannot be ended, so this is for tasks in processes.

        Args:
            running: Whether to end it if it runs.
            grace: Seconds between SIGTERM and SIGKILL; 0 for SIGKILL at once.

        Returns:
            Whether it is, or is sure to be, cancelled. False if it is done; or if it runs, unless ``running`` is true
            and its executor has processes. Tasks that depend on it fail with a ``DependencyError`` whose cause is a
            ``CancelledError``.

        Raises:
            ValueError: ``grace`` is negative.
        """
        if not grace >= 0:
            raise ValueError(f"cancel(grace={grace!r}): give seconds, 0 or more")
        if self._state != PENDING:
            return self._state == CANCELLED
        caller = sys._getframe(1)
        by = f"by cancel() at {os.path.basename(caller.f_code.co_filename)}:{caller.f_lineno}"
        return self._record.kernel.cancel(self._record, running, grace, by)

    def __getitem__(self, key: Any) -> AppFuture[Any]:
        return LiftedFuture(self, (("item", key),))

    # Not called for names that exist, nor for private ones; so hasattr(), copying and pickling probe in vain.
    def __getattr__(self, name: str) -> AppFuture[Any]:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return LiftedFuture(self, (("attribute", name),))


class LiftedFuture(AppFuture[Any]):
    """A part of another future's value: nothing exists or happens for it until it is used.

    Args:
        root: The task's future.
        path: Items and attributes to take, one after the other.
    """

    __slots__ = ("_path", "_root")

    def __init__(self, root: AppFuture[Any], path: tuple[tuple[str, Any], ...]) -> None:
        self._waiting = None
        self._outcome = None
        self._root = root
        self._path = path
        self._record = root._record

    @property
    def _state(self) -> str:  # type: ignore[override]
        # A part of something that was cancelled is not itself cancelled: it lacks what it depends on.
        return PENDING if self._root._state == PENDING else FINISHED

    def _mark(self) -> Waiting:
        return lazy.mark_view(self, self._root)

    def _get_outcome(self) -> Any:
        outcome = self._outcome
        if outcome is None:
            root = self._root
            if failed(root):
                outcome = DependencyFailed(root.tid, [root])
            else:
                outcome = LiftedValue(root._outcome, self._path)
            self._outcome = outcome
        return outcome

    def _describe(self) -> str:
        steps = "".join(f"[{key!r}]" if kind == "item" else f".{key}" for kind, key in self._path)
        return f"{steps} of {self._root._describe()}"

    def task_status(self) -> str:
        """State of the part: the task's own while it is not done."""
        if self._state == PENDING:
            return self._root.task_status()
        if failed(self._root):
            return States.dep_fail.name
        return States.exec_done.name if self.exception(0) is None else States.failed.name

    def running(self) -> bool:
        """Always False: nothing runs for a part."""
        return False

    def cancel(self, running: bool = False, grace: float = 5.0) -> bool:
        """Always False: cancel the task whose part it is."""
        return False

    def __getitem__(self, key: Any) -> AppFuture[Any]:
        return LiftedFuture(self._root, (*self._path, ("item", key)))

    def __getattr__(self, name: str) -> AppFuture[Any]:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return LiftedFuture(self._root, (*self._path, ("attribute", name)))


class DataFuture(ViewFuture[Any]):
    """The future of a file that a task makes; its value is the ``File``.

    Args:
        fut: The task's future.
        file_obj: The file.
        tid: The task's number; None for none.
    """

    __slots__ = ("file_obj", "tid")

    def __init__(self, fut: Future[Any], file_obj: File, tid: int | None = None) -> None:
        self._waiting = None
        self.parent = fut
        self.file_obj = file_obj
        self.tid = tid

    def _get_outcome(self) -> Any:
        from flowlib.dataflow.outcomes import Returned

        try:
            error = self.parent.exception(0)
        except CancelledError as e:
            return Failed(e, Blame.REFUSED)
        return Returned(self.file_obj) if error is None else Failed(error)

    def _describe(self) -> str:
        return f"file {self.file_obj!r}" + ("" if self.tid is None else f" of task {self.tid}")

    @property
    def filepath(self) -> str:
        """Path of the file."""
        return self.file_obj.filepath

    @property
    def filename(self) -> str:
        """Path of the file, under the name that the field's scripts use."""
        return self.filepath

    def running(self) -> bool:
        """Whether the task that makes it runs."""
        return self.parent.running()


def failed(future: Future[Any]) -> bool:
    """Whether a future that is done has no value, as far as that is known without rebuilding the value."""
    if isinstance(future, AppFuture) and not isinstance(future, LiftedFuture):
        return future._state == CANCELLED or isinstance(future._outcome, Failed)
    if isinstance(future, LiftedFuture) and failed(future._root):
        return True
    if isinstance(future, DataFuture):
        return failed(future.parent)
    return error_of(future) is not None


def error_of(future: Future[Any]) -> BaseException | None:
    """The exception of a future that is done, a ``CancelledError`` included, and what asking for it raises."""
    try:
        return future.exception(0)
    except Exception as e:  # noqa: BLE001  # cancelled, or a future from elsewhere may be broken itself
        return e


def settle(future: AppFuture[Any], outcome: Any, cancelled: bool) -> Sequence[tuple[Callable[[Any], Any], Any]]:
    """Set the state of a future and wake those who wait for it.

    Args:
        future: The future, not settled before.
        outcome: What its task came to.
        cancelled: Whether that is nothing, because it was cancelled.

    Returns:
        Callbacks with their futures, to be called without any lock held.
    """
    with lazy.lock():
        future._outcome = outcome
        future._state = CANCELLED if cancelled else FINISHED
        waiting = future._waiting
        if waiting is None:
            return ()
        calls: list[tuple[Callable[[Any], Any], Any]] = []
        lazy.wake(future, waiting, calls)
    return calls


class DependencyFailed(Failed):
    """The failure of a task that never ran; the exception is made when somebody asks for it.

    Args:
        tid: The task.
        futures: Those that failed, or a function that finds all that it depends on.
        kind: Class of the exception.
    """

    __slots__ = ("_error", "_futures", "_kind", "_tid")

    def __init__(
        self,
        tid: int,
        futures: list[Any] | Callable[[], list[Any]],
        kind: Callable[[list[tuple[BaseException, str | None]], int], BaseException] = DependencyError,
    ) -> None:
        self.blame = Blame.REFUSED
        self._tid = tid
        self._futures: list[Any] | Callable[[], list[Any]] | None = futures
        self._kind = kind
        self._error: BaseException | None = None

    @property
    def error(self) -> BaseException:  # type: ignore[override]
        """The exception: one pair per failed predecessor."""
        if self._error is None:
            _explain(self)
            assert self._error is not None
        return self._error

    def names(self) -> str:
        """Those that failed, for a message; those after the third are counted."""
        bad = self._failed()
        names = [f._describe() if isinstance(f, LazyFuture) else repr(f) for f in bad[:3]]
        return ", ".join(names) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")

    def _failed(self) -> list[Any]:
        """Failed futures that this failure is made of."""
        futures = self._futures
        if callable(futures):
            self._futures = futures = [f for f in dict.fromkeys(futures()) if f.done() and failed(f)]
        return futures or []


_explaining = threading.RLock()


def _explain(failure: DependencyFailed) -> None:
    """Make the exception of a failure, after those that it is made of: in a loop, for chains may be long."""
    with _explaining:
        stack = [failure]
        while stack:
            top = stack[-1]
            if top._error is not None:
                stack.pop()
                continue
            futures = top._failed()
            missing = [o for o in map(_cause, futures) if isinstance(o, DependencyFailed) and o._error is None]
            if missing:
                stack.extend(missing)
                continue
            pairs = [(error_of(f), f._describe() if isinstance(f, LazyFuture) else repr(f)) for f in futures]
            top._error = top._kind([(e, d) for e, d in pairs if e is not None], top._tid)
            top._futures = None
            stack.pop()


def _cause(future: Future[Any]) -> Any:
    """The outcome that a future's failure comes from; None for futures from elsewhere."""
    while isinstance(future, DataFuture):
        future = future.parent
    return future._get_outcome() if isinstance(future, AppFuture) else None


class LiftedValue:
    """The success of a ``LiftedFuture``: computed on first use, remembered also if it raised.

    Args:
        whole: The outcome that it is a part of.
        path: Items and attributes to take.
    """

    __slots__ = ("_error", "_lock", "_path", "_value", "_whole")

    def __init__(self, whole: Any, path: tuple[tuple[str, Any], ...]) -> None:
        self._whole = whole
        self._path = path
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._value: Any = None

    def value(self) -> Any:
        """The part.

        Raises:
            Exception: What taking it raised: KeyError, AttributeError ...
        """
        with self._lock:
            if self._whole is not None:
                try:
                    value = self._whole.value()
                    for kind, key in self._path:
                        value = value[key] if kind == "item" else getattr(value, key)
                    self._value = value
                except Exception as e:  # noqa: BLE001  # whoever asks gets what the lookup raised
                    self._error = e
                self._whole = None
        if self._error is not None:
            raise self._error
        return self._value


class JoinedValues:
    """The success of a join app that returned a list.

    Args:
        parts: The outcomes of its futures.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def value(self) -> list[Any]:
        """The values, in order."""
        return [part.value() for part in self.parts]
