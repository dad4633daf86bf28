"""Workers that make room for fresh ones after so many tasks, or when they keep too much memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.wear import Wear

from .node_side import FakeInterchange

TASKS = 57


@pytest.fixture
def home(tmp_path: Path) -> Iterator[FakeInterchange]:
    """An interchange whose manager the test starts."""
    interchange = FakeInterchange(tmp_path)
    yield interchange
    interchange.close()


@pytest.mark.parametrize("limit", [1, 5])
def test_so_many_tasks_and_no_more(home: FakeInterchange, limit: int) -> None:
    """No worker runs more tasks than it may, and each task is answered once, by its first attempt."""
    home.start(max_workers_per_node=2, max_tasks_per_worker=limit)
    home.until(lambda: home.register)
    keys = home.tasks([(os.getpid, (), {})] * TASKS)
    ran = Counter(home.value(key) for key in keys)
    assert max(ran.values()) <= limit
    assert not home.duplicates
    assert {result.status for result in home.results.values()} == {int(m.Status.OK)}


_kept: list[bytearray] = []


def leak(size: int) -> int:
    """Keep some memory for ever."""
    _kept.append(bytearray(b"x") * size)
    return os.getpid()


def test_a_worker_that_keeps_too_much(home: FakeInterchange) -> None:
    """It is replaced when a task has left more memory behind than the limit, and not before."""
    home.start(max_memory_per_worker=0.2)
    home.until(lambda: home.register)
    first = home.call(os.getpid)
    assert home.call(leak, 1_000_000) == first
    assert home.call(leak, 250_000_000) == first
    assert home.call(os.getpid) != first
    assert "max_memory_per_worker" in home.log()


def test_what_is_counted() -> None:
    """Tasks first; memory is looked at only where it has a limit."""
    assert Wear(None, 10, lambda: 10).after_task() is None
    assert Wear(None, 10, lambda: 11).after_task()
    wear = Wear(3, None, lambda: 1 // 0)
    assert [wear.after_task() is None for _ in range(3)] == [True, True, False]
