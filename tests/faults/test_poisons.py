"""One poison never spreads: each poison among nineteen innocent tasks, twice, on two workers."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import WorkerLost
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider

from .poisons import FOREVER, POISONS, Poison, stop_self
from .sampling import sample

INNOCENTS = 19
ROUNDS = 2


@python_app
def innocent(x: int) -> tuple[int, Any]:
    """A small task that needs an ordinary world around it."""
    import subprocess

    return x, (
        os.getcwd(),
        os.environ.get("PATH"),
        os.umask(os.umask(0o22)),
        len(sorted(open("/proc/self/status").read().split())) > 0,
        subprocess.run(["true"], check=False).returncode,
    )


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flowlib.DataFlowKernel]:
    """Two workers, no retries."""
    executor = HighThroughputExecutor(
        label="poisoned",
        address="127.0.0.1",
        max_workers_per_node=2,
        heartbeat_period=1,
        heartbeat_threshold=5,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    run_dir = tmp_path_factory.mktemp("runinfo")
    with flowlib.load(Config(executors=[executor], run_dir=str(run_dir), retries=0)) as dfk:
        yield dfk
    shutil.rmtree(run_dir)


def _gone(pid: int, deadline: float) -> bool:
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
            psutil.Process(pid).wait(0.1)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            continue
    return False


def _sleepers() -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", str(FOREVER)]]


@pytest.mark.parametrize("poison", sample(POISONS, 14), ids=lambda p: p.run.__name__)
def test_poison(kernel: flowlib.DataFlowKernel, poison: Poison) -> None:
    """The poison fails with its cause or succeeds; nineteen innocents beside it succeed; so does the next round."""
    app = python_app(poison.run)
    usual = innocent(0).result(20)[1]
    for _ in range(ROUNDS):
        before = [innocent(i) for i in range(INNOCENTS // 2)]
        bad = app()
        after = [innocent(i) for i in range(INNOCENTS // 2, INNOCENTS)]
        deadline = time.monotonic() + poison.timeout
        for i, future in enumerate(before + after):
            assert future.result(max(0.0, deadline - time.monotonic())) == (i, usual)
        error = bad.exception(max(0.0, deadline - time.monotonic()))
        if poison.fails:
            assert isinstance(error, poison.fails), repr(error)
        else:
            assert error is None
        if poison.children:
            assert _gone(bad.result(), deadline)
    finish = time.monotonic() + 5
    for pid in _sleepers():
        assert _gone(pid, finish)


def test_unpicklable_argument_harms_nobody(kernel: flowlib.DataFlowKernel) -> None:
    """An argument that cannot be sent fails its own task, naming the app."""
    import threading

    from flowlib.errors import SerializationError

    futures = [innocent(i) if i != 7 else innocent(threading.Lock()) for i in range(20)]
    with pytest.raises(SerializationError, match="innocent"):
        futures[7].result(20)
    assert [f.result(20)[0] for i, f in enumerate(futures) if i != 7] == [i for i in range(20) if i != 7]


def test_stopped_worker_is_killed(kernel: flowlib.DataFlowKernel) -> None:
    """A worker that is stopped for longer than the threshold counts as lost; its neighbours go on."""
    bad = python_app(stop_self)()
    futures = [innocent(i) for i in range(INNOCENTS)]
    assert [f.result(20)[0] for f in futures] == list(range(INNOCENTS))
    with pytest.raises(WorkerLost, match="stop"):
        bad.result(20)


def test_worker_lost_says_why(kernel: flowlib.DataFlowKernel) -> None:
    """A lost worker is noticed within two seconds; the error names host, signal and an existing log."""
    import signal

    def die() -> None:
        print("these are my last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    innocent(0).result(20)
    began = time.monotonic()
    error = python_app(die)().exception(20)
    assert time.monotonic() - began < 2
    assert isinstance(error, WorkerLost)
    assert "SIGKILL" in str(error)
    assert error.hostname
    assert "these are my last words" in Path(error.log).read_text() or "these are my last words" in str(error)


def test_last_words_are_the_task_s_own(kernel: flowlib.DataFlowKernel) -> None:
    """What earlier tasks printed is not told as the last words of a lost worker."""

    def chatter() -> None:
        print("I am not involved", flush=True)

    def die() -> None:
        os._exit(5)

    for _ in range(4):
        python_app(chatter)().result(20)
    error = python_app(die)().exception(20)
    assert isinstance(error, WorkerLost)
    assert "exit code 5" in str(error)
    assert "not involved" not in str(error)
