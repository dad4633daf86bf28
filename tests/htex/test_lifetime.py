"""Blocks that end, on real processes: nothing is lost that need not be, and what is lost is known at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flowlib
from flowlib import bash_app, python_app
from flowlib.config import Config
from flowlib.errors import InvalidResourceSpecification, ManagerLost
from flowlib.executors import HighThroughputExecutor
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.lifetime import STARTED, margin
from flowlib.explain.reasons import Reason
from flowlib.providers import LocalProvider

from .node_side import FakeInterchange

PATIENCE = 30.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[FakeInterchange]:
    """An interchange without encryption."""
    interchange = FakeInterchange(tmp_path)
    yield interchange
    interchange.close()


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s"
        time.sleep(0.01)


def _linger(path: str) -> str:
    """Tell that it has begun, and stay until it is ended, which it notes."""
    import signal
    import sys

    signal.signal(signal.SIGTERM, lambda *_: (Path(path).write_text("ended"), sys.exit(1)))
    Path(path).write_text("begun")
    time.sleep(60)
    return "stayed"


def _square(x: int) -> int:
    return x * x


def _seen() -> tuple[float, float | None, str]:
    return float(os.environ["FLOWLIB_DEADLINE"]), flowlib.current().remaining, os.environ.get(STARTED, "")


def test_a_manager_ends_before_its_job(home: FakeInterchange, tmp_path: Path) -> None:
    """It tells what it has left, ends what runs with a signal, answers that as lost at once, and leaves."""
    began = int(time.time())
    note = tmp_path / "note"
    process = home.start(walltime=10.0, max_workers_per_node=1, environment={STARTED: str(began - 2)})
    end = began - 2 + 10.0
    home.until(lambda: home.register)
    assert home.register is not None and home.register.left is not None
    assert home.register.left <= home.register.life <= end - margin(10) - began
    deadline, remaining, started = home.call(_seen)
    assert abs(deadline - (end - margin(10))) < 0.01
    assert remaining is not None and remaining <= deadline - began
    assert started == "", "a workflow inside of a task has jobs of its own"
    short, _, _ = home.call(_seen, needs=m.Needs(walltime=0.5))
    assert short < deadline
    lost, behind = home.tasks([(_linger, (str(note),), {}), (_square, (2,), {})])
    home.until(lambda: home.heard(m.Goodbye))
    assert process.wait(5) == 0
    assert home.failure(lost, m.Status.LOST).message.count("its job ends at ") == 1
    assert home.results[behind].status == m.Status.WITHDRAWN
    assert note.read_text() == "ended", "there was time to clean up"
    assert [message.reason[:15] for message in home.heard(m.Drain)] == ["its job ends at"]
    assert not home.duplicates


@python_app
def block_of() -> tuple[str, float]:
    """The block that it runs in, and the seconds it has."""
    left = flowlib.current().remaining
    assert left is not None
    return os.environ["FLOWLIB_WORKER_BLOCK_ID"], left


@python_app
def nap(seconds: float) -> None:
    """Take some time."""
    time.sleep(seconds)


@bash_app
def deadline(stdout: str | None = None) -> str:
    """Tell when its time is over."""
    return "echo $FLOWLIB_DEADLINE"


def test_blocks_that_end(tmp_path: Path) -> None:
    """Tasks go to the block that has the time, blocks follow each other, and only what is too long for all fails."""
    executor = HighThroughputExecutor(
        label="htex", address="127.0.0.1", max_workers_per_node=1, provider=LocalProvider(walltime=12, max_blocks=2)
    )
    config = Config(executors=[executor], run_dir=str(tmp_path), strategy_period=0.2, lost_retries=0)
    with flowlib.load(config):
        first, left = block_of().result(PATIENCE)
        ends = time.time() + left
        with pytest.raises(InvalidResourceSpecification, match=r"LocalProvider\(walltime=12\)"):
            nap.options(walltime=13)(1)
        deadline(stdout=str(tmp_path / "job")).result(PATIENCE)
        deadline(stdout=str(tmp_path / "own"), walltime=3).result(PATIENCE)
        job, own = (float((tmp_path / name).read_text()) for name in ("job", "own"))
        assert abs(job - ends) < 0.5 and own < job, "the job's end, or its own if that is earlier"
        # What is declared is more than is left by now, and less than a fresh block has.
        time.sleep(max(0.0, ends - 4.5 - time.time()))
        waiting = block_of.options(walltime=5)()
        _until(lambda: waiting.done() or waiting.explain().reason is Reason.WALLTIME)
        second, left = waiting.result(PATIENCE)
        assert second != first and left <= 5
        error = nap(60).exception(PATIENCE)
        assert isinstance(error, ManagerLost) and "its job ends at " in str(error)
        blocks = executor.status()
        assert len(blocks) <= 4
