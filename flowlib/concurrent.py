"""A face of ``concurrent.futures``: code written for its pools runs on flowlib's executors."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from flowlib.config import Config
    from flowlib.dataflow.futures import AppFuture
    from flowlib.dataflow.kernel import DataFlowKernel

T = TypeVar("T")


class FlowlibPoolExecutor(Executor):
    """Runs functions as tasks of a workflow.

    Args:
        config: Loaded by this pool, and ended with it.
        dfk: A kernel to use instead; it is left as it is at the end.
        executors: "all", or labels of executors.

    Raises:
        ValueError: Not exactly one of ``config`` and ``dfk`` is given.
        ConfigurationError: The configuration cannot be loaded.

    Example:
        >>> import tempfile
        >>> from flowlib.config import Config
        >>> from flowlib.executors import ThreadPoolExecutor
        >>> with FlowlibPoolExecutor(Config(executors=[ThreadPoolExecutor()], run_dir=tempfile.mkdtemp())) as pool:
        ...     list(pool.map(abs, [-1, 2, -3]))
        [1, 2, 3]
    """

    def __init__(
        self, config: Config | None = None, *, dfk: DataFlowKernel | None = None, executors: str | Sequence[str] = "all"
    ) -> None:
        if (config is None) == (dfk is None):
            given = "Must specify" if config is None else "Specify only"
            raise ValueError(f"{given} one of config or dfk")
        if dfk is None:
            from flowlib.dataflow.loader import load

            dfk = load(config)
            self._owns = True
        else:
            self._owns = False
        self._kernel = dfk
        self._executors = executors if isinstance(executors, str) else tuple(executors)
        self._apps: dict[Any, Any] = {}
        self._unfinished: weakref.WeakSet[AppFuture[Any]] = weakref.WeakSet()
        self._closed = False

    @property
    def app_count(self) -> int:
        """Number of functions that were made apps."""
        return len(self._apps)

    def get_app(self, fn: Callable[..., Any]) -> Any:
        """The app that stands for a function; made once."""
        try:
            app = self._apps.get(fn)
        except TypeError:
            return self._make(fn)
        if app is None:
            app = self._apps[fn] = self._make(fn)
        return app

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` as a task.

        Raises:
            RuntimeError: The pool was shut down.
        """
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown: this pool was shut down")
        future: AppFuture[T] = self.get_app(fn)(*args, **kwargs)
        self._unfinished.add(future)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Run ``fn`` on each item, or on the items of several iterables side by side.

        Args:
            fn: The function.
            iterables: Its arguments.
            timeout: Most seconds until the value that is asked for is there, from now on.
            chunksize: Accepted for compatibility; ``app.map`` sends items in batches.
            buffersize: Accepted for compatibility.

        Returns:
            The values, in order.

        Raises:
            TimeoutError: A value is not there in time.
        """
        deadline = None if timeout is None else monotonic() + timeout
        futures = [self.submit(fn, *items) for items in zip(*iterables, strict=False)]

        def values() -> Iterator[T]:
            futures.reverse()
            while futures:
                left = None if deadline is None else max(0.0, deadline - monotonic())
                # Dropped here, so that values which were taken are freed.
                yield futures.pop().result(left)

        return values()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more functions.

        Args:
            wait: Wait for what was submitted; a kernel that the pool loaded is then cleaned up.
            cancel_futures: Withdraw what has not started.
        """
        self._closed = True
        futures = list(self._unfinished)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if not wait and self._owns and any(not future.done() for future in futures):
            # The kernel goes with the interpreter, or when its owner says so.
            return
        for future in futures:
            if not future.done():
                future._wait(None)
        if self._owns and not self._kernel.cleaned_up:
            self._kernel.cleanup()

    def _make(self, fn: Callable[..., Any]) -> Any:
        from flowlib.app.app import python_app

        # The function itself when this was an app already.
        return python_app(getattr(fn, "func", fn), data_flow_kernel=self._kernel, executors=self._executors)
