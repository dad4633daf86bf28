"""The states of a task: names and numbers are part of the public interface and of recorded events."""

from __future__ import annotations

from enum import IntEnum


class States(IntEnum):
    """What a task is doing.

    ``running`` and ``running_ended`` are told by workers and appear only in records of events.
    """

    pending = 0
    """Waits for its dependencies."""
    running = 2
    exec_done = 3
    """Ended with a value."""
    failed = 4
    """Ended with its own failure, after its retries."""
    dep_fail = 5
    """Never ran: a dependency failed."""
    launched = 7
    """Given to an executor."""
    fail_retryable = 8
    """An attempt failed; whether there is another is being decided."""
    memo_done = 9
    """Ended with a remembered value."""
    joining = 10
    """Its body returned futures that are not all done."""
    running_ended = 11
    cancelled = 12
    """Withdrawn by ``cancel()`` or by the end of the run."""

    # Formatting would otherwise differ between Python versions.
    def __str__(self) -> str:
        return f"States.{self.name}"


FINAL_STATES = frozenset({States.exec_done, States.memo_done, States.failed, States.dep_fail, States.cancelled})
"""A task in one of these never changes again."""

FINAL_FAILURE_STATES = frozenset({States.failed, States.dep_fail, States.cancelled})
"""The final states without a value."""
