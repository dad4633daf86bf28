"""What workers say to their manager's pool is heard to the end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowlib.executors.high_throughput.link import Link
from flowlib.executors.high_throughput.pool import Pool, WorkerProcess


class Owner:
    """A manager that notes what it is told."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.heard: list[bytes] = []
        self.answer: Callable[[WorkerProcess], None] = lambda worker: None

    def watch(self, fd: int, call: Callable[[], None], writing: bool = False) -> None:
        """Note whom to call."""
        self.watched[fd] = call

    def unwatch(self, fd: int) -> None:
        """Forget it."""
        del self.watched[fd]

    def now(self) -> float:
        """Any clock."""
        return time.monotonic()

    def on_message(self, worker: WorkerProcess, frames: Any) -> None:
        """Note it, and do what the test wants."""
        self.heard.append(bytes(frames[0]))
        self.answer(worker)

    def on_death(self, worker: WorkerProcess, death: Any) -> None:
        """Nobody dies here."""
        raise AssertionError(death)

    def on_template_lost(self, reason: str) -> None:
        """Nor does the template."""
        raise AssertionError(reason)


@pytest.fixture
def owner() -> Owner:
    """Who is told."""
    return Owner()


@pytest.fixture
def pool(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool for one worker, which the test itself is."""
    monkeypatch.setattr(Pool, "_start_template", lambda self: None)
    made = Pool(owner, 1)
    yield made
    made.end()
    made.page.close()


def test_last_words_are_heard_though_nothing_can_be_sent(owner: Owner, pool: Pool) -> None:
    """A worker that ends while tasks are being sent to it: the results that it sent before count."""
    ours, theirs = socket.socketpair()
    worker = pool.workers[0] = WorkerProcess(0, Link(ours), 0.0)
    owner.watch(ours.fileno(), lambda: pool._on_link(worker))
    far = Link(theirs)

    def ends_meanwhile(worker: WorkerProcess) -> None:
        owner.answer = lambda worker: None
        far.send([b"its last results"])
        far.close()
        pool.send(worker, [b"more tasks"])
        pool.send(worker, [b"and more"])

    owner.answer = ends_meanwhile
    far.send([b"a result"])
    while owner.watched:
        for call in [*owner.watched.values()]:
            call()
    assert owner.heard == [b"a result", b"its last results"]
    assert worker.closed
