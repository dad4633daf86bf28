"""What the kernel and an executor say to each other.

An executor takes attempts by ``launch`` and tells how they ended through ``report``.  Both may be called from any
thread.  Executors written against the field's usual interface (``submit`` returning a future) work unchanged: the
base class builds ``launch`` on ``submit``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.outcomes import Blame, Failed, Returned
from flowlib.errors import ExecutorError, InvalidResourceSpecification, LostError, WorkerLost
from flowlib.executors.turns import Turns
from flowlib.representation import RepresentationMixin

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from flowlib.dataflow.record import TaskRecord
    from flowlib.events import Emit
    from flowlib.explain.place import Place
    from flowlib.logs import LogConfig

_turns = Turns()

Report = Callable[[Sequence[tuple["TaskRecord", int, Any]]], None]
"""Takes ``(record, attempt, outcome)`` triples; an outcome is a ``Success`` or a ``Failed``."""


class FlowlibExecutor(RepresentationMixin, ABC):
    """Base of all executors.

    The kernel sets ``run_dir``, ``run_id``, ``report`` and ``emit`` before it calls ``start``.

    Attributes:
        label: Unique name in its Config.
        run_dir: The run's directory.
        run_id: The run's id.
        working_dir: Directory for staged files; None for the current one.
        storage_access: Staging providers; None for the defaults.
        report: Where outcomes go.
        emit: Where events go (see ``flowlib.events``).
        event_index: The executor's number in events.
        strategy: How blocks are scaled, as in ``Config``; so are the next two.
        strategy_period: Seconds between looks at the load.
        max_idletime: Seconds after which idle blocks may go.
        log_config: The run's ``initialize_logging``, as in ``Config``.
        in_process: Class attribute. Its tasks run in the driver's process; ``record.context`` is set for it.
        wants_resources: Class attribute. It runs only tasks that ask for resources.
        forwards_pickled: Class attribute. ``launch`` takes values of other tasks as their pickled outcomes
            (``flowlib.serialize.values.Pickled``), so that the driver never unpickles what it only passes on.
        shares_objects: Class attribute. ``launch`` takes stored objects as ``flowlib.store.stored.Stored``, so that
            ``flowlib.put`` has to store.
    """

    label: str = "undefined"
    event_index: int = -1
    strategy: str = "simple"
    strategy_period: float = 5.0
    max_idletime: float = 120.0
    log_config: bool | LogConfig = True
    in_process: bool = False
    wants_resources: bool = False
    forwards_pickled: bool = False
    shares_objects: bool = False
    run_dir: str = "."
    run_id: str | None = None
    working_dir: str | None = None
    storage_access: Sequence[Any] | None = None
    report: Report
    emit: Emit

    @property
    def usable(self) -> bool:
        """Whether it runs tasks, now or as soon as it has what it needs; others may be preferred if not."""
        return True

    @abstractmethod
    def start(self) -> None:
        """Make ready. Called once by ``load``."""

    @abstractmethod
    def submit(
        self, func: Callable[..., Any], resource_specification: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Run ``func(*args, **kwargs)`` and return a future of its value."""

    @abstractmethod
    def shutdown(self) -> None:
        """End everything the executor started; its unfinished attempts are reported or cancelled by the kernel."""

    def launch(
        self, record: TaskRecord, attempt: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Start one attempt; its outcome is reported later, exactly once.

        Args:
            record: The task. ``record.options`` holds what it asks for.
            attempt: Number of the try, from 0.
            func: What to call.
            args: Arguments with futures replaced by values.
            kwargs: Likewise.

        Raises:
            Exception: The attempt was not taken; the kernel makes it a failure of the task.
        """
        with _turns.inside():
            future = self.submit(func, record.resource_specification, *args, **kwargs)

        def tell(done: Future[Any] = future) -> None:
            self.report([(record, attempt, _outcome(done))])

        if future.done():
            _turns.take(tell)
        else:
            future.add_done_callback(tell)

    def cancel(self, record: TaskRecord, attempt: int) -> bool:
        """Withdraw an attempt that has not started.

        Returns:
            Whether it will never run. False if it runs, ended, or the executor cannot tell within a second.
            A withdrawn attempt is not reported.
        """
        return False

    def kill(self, record: TaskRecord, attempt: int, grace: float) -> bool:
        """End an attempt that runs, with all that it has started: SIGTERM, and SIGKILL when the grace is over.

        Args:
            record: The task.
            attempt: Which try.
            grace: Seconds between the signals.

        Returns:
            Whether it will end, reported as ``Failed(CancelledError(...), Blame.REFUSED)`` when its processes are dead.
            False if it has ended, or the executor cannot: threads cannot be killed. Returns at once.
        """
        return False

    def whereabouts(self, record: TaskRecord, attempt: int) -> Place | None:
        """Where an attempt is at this moment, for people who ask why it does not run.

        Args:
            record: The task.
            attempt: Which try.

        Returns:
            None if the executor cannot tell; the event log's word stands then. Takes a few seconds at most.
        """
        return None

    def validate_resources(self, specification: dict[str, Any]) -> None:
        """Refuse, at submit, what this executor can never honour.

        Raises:
            InvalidResourceSpecification: Names the keys.
        """
        if specification:
            raise InvalidResourceSpecification(
                specification, f"{type(self).__name__} ({self.label}) takes no resource specification"
            )

    def validate_walltime(self, walltime: float) -> None:
        """Refuse, at submit, a task that could never have the time that it has declared.

        Args:
            walltime: Seconds.

        Raises:
            InvalidResourceSpecification: Names both times.
        """

    def monitor_resources(self) -> bool:
        """Whether resource use of its tasks can be sampled."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()


def _outcome(future: Future[Any]) -> Any:
    """The outcome that a finished future of a foreign executor stands for."""
    try:
        error = future.exception()
    except CancelledError as e:
        return Failed(e, Blame.REFUSED)
    if error is None:
        return Returned(future.result())
    if isinstance(error, LostError) and not isinstance(error, WorkerLost):
        return Failed(error, Blame.INFRASTRUCTURE)
    if isinstance(error, (ExecutorError, InvalidResourceSpecification)):
        return Failed(error, Blame.REFUSED)
    return Failed(error)
