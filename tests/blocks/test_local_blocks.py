"""The block manager with real processes: a dead block is noticed at once and replaced, a broken one is explained."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from flowlib.errors import TooManyJobFailuresError
from flowlib.jobs.states import JobState
from flowlib.providers import LocalProvider

from .fakes import DEADLINE, Executor

Start = Callable[..., Executor]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an executor with local blocks of one command."""
    made: list[Executor] = []

    def begin(command: str, **settings: Any) -> Executor:
        provider = LocalProvider(**{k: settings.pop(k) for k in ("init_blocks", "max_blocks") if k in settings})
        provider.script_dir = str(tmp_path)
        executor = Executor(provider, strategy_period=1000, **settings)
        executor.command = lambda block: command
        made.append(executor)
        executor.manager.start()
        return executor

    yield begin
    for executor in made:
        assert executor.manager.close(time.monotonic() + DEADLINE) == []


def test_killed_block_is_replaced_at_once(start: Start) -> None:
    """The death of a block's process is noticed within a second and the block replaced, without any period ending."""
    executor = start("sleep 1000")
    executor.wait(lambda: executor.manager.jobs())
    executor.register("0")
    executor.wait(lambda: "registered" in executor.changes("0"))
    executor.loads.clear()
    executor.queued = 1
    began = time.monotonic()
    os.killpg(int(executor.manager.jobs()["0"]), signal.SIGKILL)
    executor.wait(lambda: "submitted" in executor.changes("1"))
    assert time.monotonic() - began < 1
    assert executor.ended[0][0] == "0"
    assert "ended by SIGKILL" in executor.ended[0][1]


def test_broken_block_is_explained_at_once(start: Start) -> None:
    """A block whose command does not work fails the executor within seconds, with script, code and standard error."""
    began = time.monotonic()
    executor = start("no-such-command-at-all --option")
    executor.wait(lambda: executor.bad)
    assert time.monotonic() - began < 2
    assert isinstance(executor.bad, TooManyJobFailuresError)
    text = str(executor.bad)
    assert "EXIT CODE: 127" in text
    assert "flowlib.fake.block-0.sh" in text
    assert "no-such-command-at-all: command not found" in text


def test_close_ends_the_processes_fast(start: Start) -> None:
    """Closing kills all blocks together and does not wait longer than they need."""
    executor = start("sleep 1000", init_blocks=4, max_blocks=4)
    executor.wait(lambda: len(executor.manager.jobs()) == 4)
    guards = [psutil.Process(int(job)) for job in executor.manager.jobs().values()]
    processes = guards + [child for guard in guards for child in guard.children(recursive=True)]
    assert len(processes) >= 8
    began = time.monotonic()
    assert executor.manager.close(began + DEADLINE) == []
    assert time.monotonic() - began < 0.5
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            assert process.status() == psutil.STATUS_ZOMBIE, process
    assert {s.state for s in executor.manager.status().values()} == {JobState.SCALED_IN}
