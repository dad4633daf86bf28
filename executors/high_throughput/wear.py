"""When a worker has done its part and makes room for a fresh one, because the user has set limits.

Libraries leak and caches grow.  A worker that ends between two tasks costs a few milliseconds; one that the system
kills for its memory costs the task that it runs.
"""

from __future__ import annotations

from collections.abc import Callable


class Wear:
    """Counts what a worker has done.

    Args:
        tasks: Tasks that it may run; None for any number.
        memory: Bytes that it may keep between tasks; None for any.
        measure: Tells the bytes that it keeps now; only asked if there is a limit.

    Example:
        >>> wear = Wear(tasks=2, memory=None, measure=lambda: 0)
        >>> wear.after_task()
        >>> wear.after_task()
        'it has run 2 tasks (max_tasks_per_worker)'
    """

    def __init__(self, tasks: int | None, memory: int | None, measure: Callable[[], int]) -> None:
        self._tasks = tasks
        self._memory = memory
        self._measure = measure
        self._done = 0

    def after_task(self) -> str | None:
        """One more task is done; why the worker should end now, if it should."""
        self._done += 1
        if self._tasks is not None and self._done >= self._tasks:
            return f"it has run {self._done} task{'s' * (self._done != 1)} (max_tasks_per_worker)"
        if self._memory is not None:
            kept = self._measure()
            if kept > self._memory:
                return f"it keeps {kept / 1e9:.2f} GB of memory after a task (max_memory_per_worker)"
        return None
