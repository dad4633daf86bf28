"""What a manager's core has to say: orders that its shell carries out, and answers for the interchange."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from flowlib.executors.high_throughput.messages import Task

Key = tuple[int, int]
"""``(task, attempt)``."""


class Revoke(NamedTuple):
    """Tell the worker to skip tasks from this number on; None to skip none any more."""

    rank: int
    number: int | None


class Look(NamedTuple):
    """Read which task the worker began last, and call ``looked``."""

    rank: int


class Collect(NamedTuple):
    """Read the worker's outbox: it has been at its task for a while, and may have results of others."""

    rank: int


class Cause(Enum):
    """Why a running task is ended from outside."""

    WALLTIME = "walltime"
    CANCEL = "cancel"
    MEMORY = "memory"
    END = "end"


class Terminate(NamedTuple):
    """End the task that the worker runs, with all that it has started: SIGTERM, and SIGKILL when the grace is over.

    Attributes:
        rank: The worker. It runs nothing else any more.
        cause: Why.
        grace: Seconds between the signals; 0 for SIGKILL at once.
        limit: What was exceeded: seconds of walltime, bytes of memory; 0 for a cancelled task.
        used: Bytes that were found in use, where memory is the cause.
    """

    rank: int
    cause: Cause
    grace: float
    limit: float = 0.0
    used: int = 0


class Kill(NamedTuple):
    """Kill the worker, and what its task has left: the task ended by itself after ``Terminate``."""

    rank: int


class Weigh(NamedTuple):
    """Find out how much memory the worker and its children use, and call ``weighed``.

    Attributes:
        rank: The worker.
        limit: Bytes; what is certainly below need not be known exactly.
    """

    rank: int
    limit: int


Order = Revoke | Look | Collect | Terminate | Kill | Weigh


class Batch(NamedTuple):
    """Tasks for a worker.

    Attributes:
        rank: The worker.
        tasks: In this order.
        functions: Those that it needs and has not got before.
    """

    rank: int
    tasks: list[Task]
    functions: list[int]


class Answers(NamedTuple):
    """What the interchange is to be told.

    Attributes:
        withdrawn: These will not run here.
        running: These could not be withdrawn.
    """

    withdrawn: list[Key]
    running: list[Key]
