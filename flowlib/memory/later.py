"""The default memoizer of a run, made when the first call wants it: most runs remember nothing and pay nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.memoization import BatchMemoizer

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord
    from flowlib.memory.project import ProjectMemoizer


class LateMemoizer(BatchMemoizer):
    """A ``ProjectMemoizer`` with its defaults, once it is needed."""

    def __init__(self) -> None:
        self._made: ProjectMemoizer | None = None
        self._dirs = ("", "")
        self._lock = threading.Lock()

    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        """See ``Memoizer``."""
        self._dirs = run_dir, config_run_dir

    def check_memo(self, task: TaskRecord) -> Future[Any] | None:
        """See ``Memoizer``."""
        made = self._made
        return (self.make() if made is None else made).check_memo(task)

    def update_memo_result(self, task: TaskRecord, r: Any) -> None:
        """See ``Memoizer``."""
        self.make().update_memo_result(task, r)

    def update_many(self, batch: Sequence[tuple[TaskRecord, Any]]) -> None:
        """See ``BatchMemoizer``."""
        self.make().update_many(batch)

    def update_memo_exception(self, task: TaskRecord, e: BaseException) -> None:
        """See ``Memoizer``."""
        self.make().update_memo_exception(task, e)

    def close(self) -> None:
        """See ``Memoizer``."""
        if self._made is not None:
            self._made.close()

    def make(self) -> ProjectMemoizer:
        """What does the work."""
        with self._lock:
            if self._made is None:
                from flowlib.memory.project import ProjectMemoizer

                made = ProjectMemoizer()
                made.start(run_dir=self._dirs[0], config_run_dir=self._dirs[1])
                self._made = made
            return self._made
