"""A few daemon threads that take calls from a queue: started when there is work and nobody idle.

The thread executor, the callbacks of futures and the kernel's own side work run on these.  A crew never waits for its
work at the end: what runs is left to end with the process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Crew:
    """Threads that run calls in the order given.

    Args:
        name: Their names start with it.
        size: Most threads.

    The calls must not raise; one that does is shown by ``threading.excepthook`` and its thread goes on.

    Example:
        >>> crew, done = Crew("example", 1), threading.Event()
        >>> crew.put(done.set)
        >>> done.wait(5)
        True
        >>> crew.close(1)
        True
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.queue: SimpleQueue[Call | None] = SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.closed = False
        # One entry for each thread that found nothing to do; who brings a call takes one instead of hiring.
        self._idle: list[None] = []
        self._lock = threading.Lock()

    def put(self, call: Callable[..., Any], *args: Any) -> None:
        """Have ``call(*args)`` run by a thread of the crew.

        Raises:
            RuntimeError: The crew is closed.
        """
        if self.closed:
            raise RuntimeError(f"{self.name} is closed")
        self.queue.put((call, args))
        if len(self.threads) < self.size:
            self._hire()

    def close(self, grace: float) -> bool:
        """End the threads when the queue is empty.

        Args:
            grace: Seconds to wait for them; those that are busy for longer are left behind.

        Returns:
            Whether all ended.
        """
        with self._lock:
            self.closed = True
            threads = list(self.threads)
        for _ in threads:
            self.queue.put(None)
        deadline = monotonic() + grace
        me = threading.current_thread()
        for thread in threads:
            if thread is not me:
                thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in threads if thread is not me)

    def drop(self) -> None:
        """Forget the calls that wait."""
        try:
            while True:
                self.queue.get_nowait()
        except Empty:
            return

    def _hire(self) -> None:
        try:
            self._idle.pop()
            return
        except IndexError:
            pass
        with self._lock:
            if self.closed or len(self.threads) >= self.size:
                return
            thread = threading.Thread(target=self._work, name=f"{self.name}_{len(self.threads)}", daemon=True)
            self.threads.append(thread)
        thread.start()

    def _work(self) -> None:
        queue, threads, size = self.queue, self.threads, self.size
        while True:
            try:
                item = queue.get_nowait()
            except Empty:
                if len(threads) < size:
                    self._idle.append(None)
                item = queue.get()
            if item is None:
                return
            call, args = item
            try:
                call(*args)
            except BaseException:  # noqa: BLE001  # shown as Python shows an error in a thread; the crew goes on
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            del item, call, args
