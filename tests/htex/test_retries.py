"""Retries by cause on real processes: another manager after a failure, more memory, and what the final failure says."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowlib
from flowlib import Retry, python_app
from flowlib.config import Config
from flowlib.dataflow.retry import Cause
from flowlib.errors import OutOfMemory, WorkerLost
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider

PATIENCE = 30.0


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flowlib.DataFlowKernel]:
    """Two managers with two workers each, whose tasks may use 300 MB."""
    executor = HighThroughputExecutor(
        label="main",
        address="127.0.0.1",
        max_workers_per_node=2,
        mem_per_worker=0.3,
        enforce_memory=True,
        provider=LocalProvider(init_blocks=2, min_blocks=2, max_blocks=2),
    )
    with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path_factory.mktemp("runinfo")))) as dfk:
        deadline = time.monotonic() + PATIENCE
        while len(executor.connected_managers()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield dfk


@python_app
def die(path: str, times: int) -> int:
    """Note which manager this is, and take the worker along so often."""
    import os
    from pathlib import Path

    with open(path, "a") as file:
        file.write(os.environ["FLOWLIB_WORKER_POOL_ID"] + "\n")
    if len(Path(path).read_text().splitlines()) <= times:
        os.kill(os.getpid(), 9)
    return times


@python_app
def greedy(megabytes: int) -> int:
    """Use memory for a while."""
    import time

    block = bytearray(b"x" * megabytes) * 1_000_000
    time.sleep(1.5)
    return len(block)


@pytest.mark.usefixtures("kernel")
def test_next_try_runs_elsewhere(tmp_path: Path) -> None:
    """A task whose worker died is tried again with the other manager, whichever had it first; then it has no choice."""
    paths = [tmp_path / f"first{n}" for n in range(8)]
    futures = [die.options(retries=Retry(crash=1))(str(path), 1) for path in paths]
    assert [f.result(PATIENCE) for f in futures] == [1] * 8
    for path, future in zip(paths, futures, strict=True):
        first, second = path.read_text().splitlines()
        assert first != second, future.task_record["tries"]
        assert [one.manager for one in future.task_record["tries"]] == [first]
    path = tmp_path / "third"
    assert die.options(retries=Retry(crash=2))(str(path), 2).result(PATIENCE) == 2
    first, second, _ = path.read_text().splitlines()
    assert first != second, "a number alone means the same"
    path = tmp_path / "number"
    assert die.options(retries=1)(str(path), 1).result(PATIENCE) == 1
    first, second = path.read_text().splitlines()
    assert first != second


@pytest.mark.usefixtures("kernel")
def test_failure_says_where(tmp_path: Path) -> None:
    """The final exception names the causes and the hosts of all tries."""
    future = die.options(retries=Retry(crash=1))(str(tmp_path / "lines"), 9)
    error = future.exception(PATIENCE)
    assert isinstance(error, WorkerLost)
    host = error.hostname
    assert host
    assert error.__notes__ == [f"2 tries: worker lost on {host}"]
    tries = future.task_record["tries"]
    assert [(one.cause, one.host) for one in tries] == [(Cause.CRASH, host)] * 2
    assert [one.manager for one in tries] == (tmp_path / "lines").read_text().splitlines()
    assert platform.node() in host or host in platform.node()


@pytest.mark.usefixtures("kernel")
def test_more_memory_after_it_ran_out() -> None:
    """A task that ran out of memory may use more in its next try, if the policy says so."""
    assert isinstance(greedy.options(retries=Retry(oom=1))(400).exception(PATIENCE), OutOfMemory)
    future = greedy.options(retries=Retry(oom=1, memory="x2"))(400)
    assert future.result(PATIENCE) == 400_000_000
    assert [one.cause for one in future.task_record["tries"]] == [Cause.OOM]
