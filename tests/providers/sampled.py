"""What a real scheduler tells when it is asked again and again: the most jobs of a run, the end of them all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

PAUSE = 0.5
"""Seconds between looks: the scheduler's commands cost more than what they tell."""


@contextmanager
def most_jobs(queue: Callable[[], Sequence[str] | None]) -> Iterator[Callable[[], int]]:
    """Look at a queue until the block ends; yields what tells the most jobs that were seen at a time."""
    over = threading.Event()
    seen = [0]

    def watch() -> None:
        while not over.wait(PAUSE):
            seen[0] = max(seen[0], len(queue() or ()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: seen[0]
    finally:
        over.set()
        thread.join(90)


def eventually(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Until something holds that a scheduler must be asked for; what it is."""
    never = threading.Event()
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"it did not come in {seconds:g} s"
        never.wait(PAUSE)
    return found
