"""Stopping a Python function in a thread when its walltime is over.

The only way is an exception that the interpreter raises in that thread at its next bytecode; code that sits in one C
call is stopped when the call returns.  The danger is an exception that arrives after the function returned, in code
that is not the user's.  Here it cannot: one token decides between the function's end and the alarm, and when the
alarm has it, the end waits until the exception is sent and takes it back if it was not delivered.
"""

from __future__ import annotations

import ctypes
import heapq
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from flowlib.errors import AppTimeout

_GRACE = 5.0
_IDLE = 1.0


class _Alarm:
    __slots__ = ("fired", "sent", "thread", "token")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.token = [None]
        self.sent = threading.Event()
        self.fired = False

    def claim(self) -> bool:
        """Take the token; True for the first to ask."""
        try:
            self.token.pop()
        except IndexError:
            return False
        return True

    def ring(self) -> None:
        if self.claim():
            self.fired = True
            _raise_in(self.thread, AppTimeout)
            self.sent.set()

    def end(self) -> None:
        """The function returned. Afterwards no exception comes."""
        if not self.claim():
            self.sent.wait(_GRACE)
            _raise_in(self.thread, None)


class _Clock:
    """One thread for all alarms of the process."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Alarm]] = []
        self._count = 0
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def set(self, seconds: float) -> _Alarm:
        alarm = _Alarm(threading.get_ident())
        with self._change:
            self._count += 1
            heapq.heappush(self._heap, (monotonic() + seconds, self._count, alarm))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flowlib-walltime", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is alarm or len(self._heap) == 1:
                self._change.notify()
        return alarm

    def _run(self) -> None:
        while True:
            with self._change:
                now = monotonic()
                while self._heap and (self._heap[0][0] <= now or not self._heap[0][2].token):
                    heapq.heappop(self._heap)[2].ring()
                if self._heap:
                    self._change.wait(self._heap[0][0] - now)
                elif not self._change.wait(_IDLE) and not self._heap:
                    self._thread = None
                    return


_clock = _Clock()


def call_within(seconds: float, call: Callable[..., Any], *args: Any) -> Any:
    """``call(*args)`` in this thread, stopped by ``AppTimeout`` after ``seconds``.

    Raises:
        AppTimeout: The time is over.
        Exception: What the call raised.

    Example:
        >>> call_within(5, max, 1, 2)
        2
    """
    alarm = _clock.set(seconds)
    try:
        try:
            return call(*args)
        finally:
            alarm.end()
    except AppTimeout as e:
        if not alarm.fired:
            raise
        # Delivered inside end() it may have cut that short; nothing is pending now, for it was delivered.
        raise AppTimeout(f"the task ran longer than its walltime of {seconds:g} s and was stopped") from e


def _raise_in(thread: int, exception: type[BaseException] | None) -> None:
    kind = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), kind)
