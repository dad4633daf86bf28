"""Log messages from inside a task, each with the task it comes from.

Apart from ``flowlib.context``, so that a task that logs nothing imports no logging.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    # Not to be subscripted before Python 3.11.
    _Adapter = logging.LoggerAdapter


class TaskLog(_Adapter):
    """A logger that puts the task in front of each message, and its number, try and app into the record.

    Args:
        task_id: The task.
        attempt: Which try.
        app: The app's name.
    """

    def __init__(self, task_id: int, attempt: int, app: str) -> None:
        super().__init__(logging.getLogger("flowlib.task"), {"task": task_id, "attempt": attempt, "app": app})
        self._prefix = f"task {task_id} ({app}), try {attempt}: " if app else f"task {task_id}, try {attempt}: "

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The message with its task; see ``logging.LoggerAdapter``."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return self._prefix + str(msg), kwargs
