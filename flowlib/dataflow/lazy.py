"""Futures that cost little until somebody waits: the machinery that all of flowlib's futures share.

A stdlib future makes a lock, a condition and three lists when it is born, 1.7 KB and two microseconds for a thing that
is usually asked once, after it is done.  Here they are made when somebody waits.  The conditions of all futures share
one lock, and a future's state changes only with that lock held, together with waking those who wait: the stdlib's
``wait`` counts futures that are not done and then waits for as many calls, and must not see one both done and calling.
One lock also means that no order of taking several can be wrong.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from flowlib.dataflow.outcomes import Failed
from flowlib.dataflow.shield import SHIELD

T = TypeVar("T")

# The stdlib's own names of states: its helpers compare them.
PENDING = "PENDING"
FINISHED = "FINISHED"
CANCELLED = "CANCELLED_AND_NOTIFIED"

_lock = threading.RLock()


def lock() -> threading.RLock:  # type: ignore[valid-type,unused-ignore]
    """The lock of all futures' states."""
    return _lock


def _renew_lock() -> None:
    """In a forked child: another thread of the parent may have held the lock, and is not here to let it go."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


class Waiting:
    """What a future has once somebody waits for it."""

    __slots__ = ("callbacks", "condition", "told", "views", "waiters")

    def __init__(self) -> None:
        self.told = False
        self.condition = threading.Condition(_lock)
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[[Any], Any]] = []
        self.views: list[LazyFuture[Any]] = []


class LazyFuture(Future[T]):
    """A future that is settled by its owner and makes its machinery when somebody waits."""

    __slots__ = ("_waiting",)

    _state: str
    _waiting: Waiting | None

    def __init__(self) -> None:
        # Not the base's: see the module's text.
        self._waiting = None

    # ---- for subclasses

    def _get_outcome(self) -> Any:
        """The outcome of a future that is done."""
        raise NotImplementedError

    def _describe(self) -> str:
        """Who this is, for messages."""
        raise NotImplementedError

    def _is_failed(self) -> bool:
        """Whether it, being done, has no value, as far as that is known without rebuilding the value."""
        return False

    def _looked(self) -> None:
        """Somebody was told that it failed."""

    def _cancelled_error(self) -> CancelledError:
        """What those get who ask a cancelled future."""
        return CancelledError(f"{self._describe()} was cancelled")

    def _mark(self) -> Waiting:
        """The machinery, made now if need be."""
        waiting = self._waiting
        if waiting is None:
            with _lock:
                waiting = self._waiting
                if waiting is None:
                    waiting = self._waiting = Waiting()
        return waiting

    # ---- the stdlib's view: wait() and as_completed() use these

    if not TYPE_CHECKING:  # to checkers they stay the plain attributes that the stdlib's functions expect

        @property
        def _condition(self) -> threading.Condition:
            return self._mark().condition

        @property
        def _waiters(self) -> list[Any]:
            return self._mark().waiters

        @property
        def _done_callbacks(self) -> list[Callable[[Any], Any]]:
            return self._mark().callbacks

        @property
        def _result(self) -> Any:
            return self.result(0) if self._state == FINISHED and self.exception(0) is None else None

        @property
        def _exception(self) -> BaseException | None:
            return self.exception(0) if self._state == FINISHED else None

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """``(done, cancelled, result, exception)``; asyncio asks for it since Python 3.14."""
        if self._state == PENDING:
            return False, False, None, None
        if self._state == CANCELLED:
            return True, True, None, None
        error = self.exception(0)
        return True, False, None if error is not None else self.result(0), error

    # ---- the public face

    def result(self, timeout: float | None = None) -> T:
        """The value of the task; waits for it.

        Args:
            timeout: Most seconds to wait; None for no limit.

        Raises:
            TimeoutError: It is not done in time.
            CancelledError: It was cancelled.
            DependencyError: A task that it depends on failed.
            DeserializationError: The value cannot be rebuilt in this process.
            Exception: What the app raised.
        """
        if self._state == PENDING:
            self._wait(timeout)
        if self._state == CANCELLED:
            raise self._cancelled_error()
        outcome = self._get_outcome()
        if not isinstance(outcome, Failed):
            value: T = outcome.value()
            return value
        self._looked()
        try:
            raise outcome.error
        finally:
            # The traceback holds this frame; without these the frame would hold the traceback.
            del self, outcome

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that ``result`` raises, or None; waits for it.

        Args:
            timeout: Most seconds to wait; None for no limit.

        Raises:
            TimeoutError: It is not done in time.
            CancelledError: It was cancelled.
        """
        if self._state == PENDING:
            self._wait(timeout)
        if self._state == CANCELLED:
            raise self._cancelled_error()
        outcome = self._get_outcome()
        if isinstance(outcome, Failed):
            self._looked()
            return outcome.error
        try:
            outcome.value()
        except Exception as e:  # noqa: BLE001  # a value that cannot be rebuilt is an exception to whoever asks
            return e
        return None

    def done(self) -> bool:
        """Whether it has a value, failed or was cancelled."""
        return self._state != PENDING

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state == CANCELLED

    def running(self) -> bool:
        """Whether an executor has it."""
        return False

    def cancel(self, running: bool = False, grace: float = 5.0) -> bool:
        """Not possible for this kind of future; cancel the task that makes it."""
        return False

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn(self)`` when done; at once if it is.

        Callbacks run in threads of their own, so that one that blocks stalls no task.
        """
        waiting = self._mark()
        with waiting.condition:
            if self._state == PENDING:
                waiting.callbacks.append(fn)
                return
        fn(self)

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Refused: the kernel settles this future."""
        self._refuse("set_running_or_notify_cancel")

    def set_result(self, result: T) -> NoReturn:
        """Refused: the kernel settles this future."""
        self._refuse("set_result")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Refused: the kernel settles this future."""
        self._refuse("set_exception")

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self._describe()} is a future, not its value: iterate over .result(), or use fut[i]")

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError(f"{self._describe()} is a future, not its value: look into .result()")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self._describe()} cannot leave its process: pass it as an argument of an app, which gets its value, "
            "or pass .result()"
        )

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._describe()}: {self._state.partition('_')[0].lower()}>"

    # ---- inside

    def _refuse(self, name: str) -> NoReturn:
        raise TypeError(f"{name}() is not for users: {self._describe()} is settled by flowlib")

    def _wait(self, timeout: float | None) -> None:
        condition = self._mark().condition
        deadline = None if timeout is None else monotonic() + timeout
        with condition:
            while self._state == PENDING:
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise FutureTimeoutError(f"{self._describe()} is not done after {timeout} s")
                condition.wait(left)


class ViewFuture(LazyFuture[T]):
    """A future that is done when another is."""

    __slots__ = ("parent",)

    parent: Future[Any]

    @property
    def _state(self) -> str:  # type: ignore[override]
        parent = self.parent
        if isinstance(parent, LazyFuture):
            return PENDING if parent._state == PENDING else FINISHED
        # Of a future from elsewhere only its callback comes with the lock held.
        done = parent.done() if self._waiting is None else self._waiting.told
        return FINISHED if done else PENDING

    def _mark(self) -> Waiting:
        return mark_view(self, self.parent)


def wake(future: LazyFuture[Any], waiting: Waiting, calls: list[tuple[Callable[[Any], Any], Any]]) -> None:
    """Wake those who wait for a future whose state has just changed; with the lock held."""
    waiting.told = True
    waiting.condition.notify_all()
    for waiter in waiting.waiters:
        if future._state == CANCELLED:
            waiter.add_cancelled(future)
        elif future._is_failed():
            waiter.add_exception(future)
        else:
            waiter.add_result(future)
    calls.extend((callback, future) for callback in waiting.callbacks)
    waiting.callbacks = []
    views, waiting.views = waiting.views, []
    for view in views:
        assert view._waiting is not None
        wake(view, view._waiting, calls)


def mark_view(view: Any, parent: Future[Any]) -> Waiting:
    """Machinery of a view, with an entry at its parent that wakes it."""
    with SHIELD, _lock:
        waiting: Waiting | None = view._waiting
        if waiting is not None:
            return waiting
        waiting = view._waiting = Waiting()
        if isinstance(parent, LazyFuture):
            parent._mark().views.append(view)
            return waiting
    parent.add_done_callback(lambda _: _told(view, waiting))
    return waiting


def _told(view: LazyFuture[Any], waiting: Waiting) -> None:
    """The future from elsewhere that a view shows is done."""
    calls: list[tuple[Callable[[Any], Any], Any]] = []
    with _lock:
        wake(view, waiting, calls)
    for callback, future in calls:
        callback(future)
