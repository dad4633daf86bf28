"""Waiting for what no event tells of, such as a scheduler's state, with a deadline: for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers.base import ExecutionProvider

T = TypeVar("T")

DEADLINE = 20.0
"""Seconds, unless told."""


def wait_until(what: Callable[[], T], seconds: float = DEADLINE) -> T:
    """Ask until the answer is true, or not empty.

    Args:
        what: The question.
        seconds: How long to go on asking.

    Returns:
        The first such answer.

    Raises:
        AssertionError: There was none in that time.

    Example:
        >>> wait_until(lambda: "yes")
        'yes'
    """
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"it did not come within {seconds:g} s; the last answer was {found!r}")
        time.sleep(0.05)
    return found


def status_of(provider: ExecutionProvider, job: Any) -> JobStatus:
    """The state of one job, by one query."""
    return provider.status([job])[0]


def wait_for_state(provider: ExecutionProvider, job: Any, *states: JobState, seconds: float = DEADLINE) -> JobStatus:
    """Ask for a job's state until it is one of these.

    Args:
        provider: The provider that submitted the job.
        job: The id that ``submit`` returned.
        states: What to wait for; none for any in which the job has ended.
        seconds: How long to go on asking.

    Returns:
        The status with that state.

    Raises:
        AssertionError: It was none of these in that time, or the job ended otherwise.
    """

    def ask() -> JobStatus | None:
        found = status_of(provider, job)
        if found.state in states or (found.terminal and not states):
            return found
        if found.terminal:
            raise AssertionError(f"waited for {', '.join(map(str, states))}, but the job ended: {found}")
        return None

    found = wait_until(ask, seconds)
    assert found is not None
    return found
