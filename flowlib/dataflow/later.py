"""Calls that are made later, by one thread for all of them.

A task that waits before its next try must not cost a thread: thousands may.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

from flowlib.dataflow.delays import Delays

K = TypeVar("K", bound=Hashable)

_IDLE = 5.0
_LONGEST = 3600.0


class Later(Generic[K]):
    """Tells ``call`` each key when its time has come.

    Args:
        name: Of the thread.
        call: Takes a key. Must neither block nor raise; one that raises is shown by ``threading.excepthook``.

    Example:
        >>> came = threading.Event()
        >>> later = Later("example", lambda key: came.set())
        >>> later.put("x", 0.001)
        >>> came.wait(5)
        True
        >>> later.close(5)
        True
    """

    def __init__(self, name: str, call: Callable[[K], None]) -> None:
        self._name = name
        self._call = call
        self._delays: Delays[K] = Delays()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._delays)

    def put(self, key: K, seconds: float) -> None:
        """Tell ``key`` in so many seconds; nothing once this is closed."""
        with self._change:
            if self._closed:
                return
            self._delays.put(key, monotonic() + seconds)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            else:
                self._change.notify()

    def remove(self, key: K) -> bool:
        """Do not tell ``key``; whether it waited."""
        with self._change:
            return self._delays.remove(key)

    def close(self, grace: float) -> bool:
        """Forget everything and end the thread.

        Args:
            grace: Seconds to wait for it.

        Returns:
            Whether it ended.
        """
        with self._change:
            self._closed = True
            self._delays.clear()
            thread = self._thread
            self._change.notify()
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(grace)
        return not thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._change:
                due = self._delays.due(monotonic())
                if not due:
                    if self._closed:
                        return
                    at = self._delays.next
                    if at is not None:
                        self._change.wait(min(_LONGEST, max(0.0, at - monotonic())))
                    elif not self._change.wait(_IDLE) and not len(self._delays):
                        self._thread = None
                        return
                    continue
            for key in due:
                self._call(key)
