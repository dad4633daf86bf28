"""What a manager's core has to say: orders that its shell carries out, and answers for the interchange."""

from __future__ import annotations

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


class Kill(NamedTuple):
    """Kill the worker: its task has outlived this walltime."""

    rank: int
    walltime: float


Order = Revoke | Look | Collect | Kill


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
