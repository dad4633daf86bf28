"""Explanations from the event log of a run, live or over."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowlib.errors import ConfigurationError
from flowlib.explain.explanation import Explanation
from flowlib.explain.recount import Recount
from flowlib.rundirs import EVENT_LOG, find_run

if TYPE_CHECKING:
    from flowlib.explain.overview import Overview

_SLACK = 5.0
"""Seconds by which two clocks of one machine may differ."""


def log_of(run: str | None) -> str:
    """The event log that a user means: a file, or that of ``find_run``.

    Raises:
        ConfigurationError: There is none.
    """
    return run if run is not None and os.path.isfile(run) else os.path.join(find_run(run), EVENT_LOG)


def recount(path: str, tasks: Sequence[int]) -> Recount:
    """A run's records, with these tasks in view.

    Raises:
        OSError: The log cannot be read.
        ConfigurationError: It is none.
    """
    from flowlib.events.reader import EventReader

    found = Recount(tasks)
    with EventReader(path) as reader:
        found.take(reader.read())
    return found


def explain_task(path: str, task: int) -> Explanation:
    """Why a task is not done, or where its time went, by the log alone.

    Args:
        path: The event log.
        task: The task's number.

    Raises:
        ConfigurationError: There is no such task, or the file is no event log.
        OSError: The file cannot be read.
    """
    found = recount(path, [task])
    told = of_recount(found, task, clock(found))
    return replace(told, killed=not told.done and _killed(found))


def of_recount(found: Recount, task: int, now: float) -> Explanation:
    """The explanation of one of the tasks that were in view.

    Raises:
        ConfigurationError: There is no such task.
    """
    history = found.tasks.get(task)
    if history is None:
        raise ConfigurationError(_unknown(found, task))
    now = history.done or now
    state = found.state(history)
    return Explanation(task, history.app, state, now, len(history.tries), tuple(found.intervals(history, now)))


def explain_run(path: str) -> Overview:
    """Why a run waits, by the log alone.

    Args:
        path: The event log.

    Raises:
        ConfigurationError: The file is no event log.
        OSError: It cannot be read.
    """
    from flowlib.events.reader import EventReader
    from flowlib.explain.overview import Overview

    with EventReader(path) as reader:
        told = Overview(reader.read(), clock)
    told.killed = _killed(told.recount)
    return told


def clock(found: Recount) -> float:
    """Until when what is not done has gone on: now, or the last record of a run that is not there any more."""
    return found.now if found.over or _killed(found) else max(found.now, time.time())


def _killed(found: Recount) -> bool:
    """Whether the driver is known to be gone without having ended the run; of other hosts nobody can tell."""
    if found.over or found.driver is None:
        return False
    import psutil

    host, pid = found.driver
    if host != socket.gethostname():
        return False
    try:
        # A later process may have got its number.
        return bool(psutil.Process(pid).create_time() > found.started + _SLACK)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _unknown(found: Recount, task: int) -> str:
    if not found.submitted:
        return f"there is no task {task}: no task was submitted in this run yet"
    nearest = min(max(task, 0), found.highest)
    return f"there is no task {task} in this run: its tasks are 0 to {found.highest}; the nearest is {nearest}"


def as_number(text: str) -> int:
    """A task's number as a user writes it.

    Raises:
        ConfigurationError: It is none.
    """
    if not text.isascii() or not text.isdecimal():
        raise ConfigurationError(
            f"{text!r} is no task and no run: give a task by its number, as in 'task 12', or a run by its directory"
        )
    return int(text)


def to_json(value: Any) -> str:
    """Plain values as a line of JSON."""
    import msgspec

    return msgspec.json.encode(value).decode()
