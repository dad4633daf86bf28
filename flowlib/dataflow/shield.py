"""Short sections of the main thread that Ctrl-C does not cut in half.

Python raises KeyboardInterrupt between any two steps of the main thread: also when a task is in the graph and not yet
in its parents' lists, or when a message is with the kernel and its sender has not yet noted that.  Whoever interrupts
a loop that submits, in a notebook say, would leave a run that never ends.  Within a section the handler of SIGINT is
one that remembers; at its end the interrupt takes its course.  What belongs into one takes microseconds, at most a
second, and is never users' code.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# The module behind `signal`, which would make an enum of each handler that passes: five microseconds a call.
from _signal import getsignal, signal as set_handler  # type: ignore[import-not-found]  # isort: skip


class Shield:
    """A context manager that may be entered again within itself. In other threads than the main one it does nothing.

    Example:
        >>> done = []
        >>> try:
        ...     with SHIELD:
        ...         signal.raise_signal(signal.SIGINT)
        ...         done.append("whole")
        ... except KeyboardInterrupt:
        ...     done.append("interrupted")
        >>> done
        ['whole', 'interrupted']
    """

    __slots__ = ("_depth", "_frame", "_handler", "_main", "_pending")

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._main = threading.main_thread().ident
        self._depth = 0
        self._handler: Any = None
        self._pending = False
        self._frame: FrameType | None = None

    def __enter__(self) -> None:
        if threading.get_ident() != self._main:
            return
        if not self._depth:
            handler = getsignal(signal.SIGINT)
            self._pending = False
            if callable(handler):
                self._handler = handler
                set_handler(signal.SIGINT, self._remember)
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if threading.get_ident() != self._main:
            return
        self._depth -= 1
        if self._depth:
            return
        handler, self._handler = self._handler, None
        if handler is None:
            return
        set_handler(signal.SIGINT, handler)
        if self._pending:
            frame, self._frame = self._frame, None
            self._pending = False
            handler(int(signal.SIGINT), frame)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._pending, self._frame = True, frame


SHIELD = Shield()
"""The process's own: there is one main thread."""


class ShieldedLock:
    """A lock that its holder may take again; the main thread is not interrupted while it holds it."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        SHIELD.__enter__()
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
        SHIELD.__exit__(kind, error, traceback)


os.register_at_fork(after_in_child=SHIELD._renew)
