"""``flowlib.put``: a large value that is stored once and passed to many tasks by reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flowlib.dataflow.lazy import FINISHED, LazyFuture
from flowlib.dataflow.outcomes import Returned

if TYPE_CHECKING:
    from flowlib.dataflow.kernel import DataFlowKernel

T = TypeVar("T")


class ObjectRef(LazyFuture[T], Generic[T]):
    """A reference to a stored value, from ``flowlib.put``.

    It is a future that is done. Given to an app, at any depth of its arguments, the task gets the value; its memory is
    freed when the last reference to it is gone and the tasks that use it have ended.
    """

    __slots__ = ("_outcome",)

    def __init__(self, outcome: Any) -> None:
        self._waiting = None
        self._outcome = outcome

    @property
    def _state(self) -> str:  # type: ignore[override]
        return FINISHED

    def _get_outcome(self) -> Any:
        return self._outcome

    def _describe(self) -> str:
        entry = getattr(self._outcome, "entry", None)
        if entry is None:
            return f"a {type(self._outcome.value()).__name__} in this process"
        from flowlib.units import format_size

        return f"an object of {format_size(entry.size)}"

    def get(self, timeout: float | None = None) -> T:
        """The value, in this process: a copy of its own of what was put, the same at every call.

        Args:
            timeout: Seconds; without effect, since a reference waits for nothing.
        """
        return self.result(timeout)

    def __reduce__(self) -> Any:
        """Where it is not an argument of an app but part of something else, the value goes along."""
        return _here, (self.result(),)


def _here(value: Any) -> ObjectRef[Any]:
    return ObjectRef(Returned(value))


def put(obj: T, data_flow_kernel: DataFlowKernel | None = None) -> ObjectRef[T]:
    """Store a value once, to pass it to many tasks.

    What was put is as it is now: later changes of ``obj`` are seen by no task. Where all executors run their tasks in
    this process nothing is copied, and tasks get ``obj`` itself.

    Args:
        obj: Any value that can be sent. Arrays, and all that gives its memory to pickle's protocol 5, is neither copied
            nor unpickled by the tasks, which map it. They may write into it, and nobody else sees that.
        data_flow_kernel: Whose executors will use it; None for that of the loaded configuration.

    Returns:
        A reference to be given to apps in place of the value.

    Raises:
        NoDataFlowKernelError: No configuration is loaded.
        SerializationError: It cannot be sent.
        NoRoom: Neither memory nor disk has room for it.

    Example:
        >>> import tempfile
        >>> import flowlib
        >>> from flowlib.config import Config
        >>> from flowlib.executors import InlineExecutor
        >>> @flowlib.python_app
        ... def total(numbers, weight):
        ...     return weight * sum(numbers)
        >>> with flowlib.load(Config(executors=[InlineExecutor()], run_dir=tempfile.mkdtemp())):
        ...     numbers = flowlib.put(list(range(1000)))
        ...     sum(total(numbers, weight).result() for weight in (1, 2))
        1498500
    """
    from flowlib.dataflow.loader import dfk

    if isinstance(obj, ObjectRef):
        return obj
    kernel = dfk() if data_flow_kernel is None else data_flow_kernel
    if any(lane.executor.shares_objects for lane in kernel.lanes.users()):
        from flowlib.store.home import HOME

        return ObjectRef(HOME.put(obj))
    return ObjectRef(Returned(obj))
