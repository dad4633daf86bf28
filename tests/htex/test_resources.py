"""Resources on real processes: what a task asks for is what it finds, and what no node has is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib.config import Config
from flowlib.errors import InvalidResourceSpecification
from flowlib.executors import HighThroughputExecutor

DEADLINE = 60


@flowlib.python_app
def look() -> dict[str, Any]:
    """What a task sees of its part of the node."""
    me = flowlib.current()
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "FLOWLIB_CORES")
    return {"cores": me.cores, "gpus": me.gpus, "memory": me.memory, **{n: os.environ.get(n) for n in names}}


@flowlib.python_app
def alone(directory: str, number: int) -> list[str]:
    """Who else is there while this task is."""
    mark = Path(directory) / str(number)
    mark.touch()
    there = os.listdir(directory)
    mark.unlink()
    return there


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run on a pretend node of four cores and two accelerators."""
    monkeypatch.setenv("FLOWLIB_CORES", "4")
    executor = HighThroughputExecutor(
        label="htex", address="127.0.0.1", available_accelerators=["g0", "g1"], shared_accelerators=True,
        disk_per_node="10GB", labels={"licence": 1},
    )  # fmt: skip
    with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runs"))):
        yield


def test_what_a_task_sees(run: None) -> None:
    """Accelerators by name, threads to match, memory; and nothing of it is left for the next task."""
    asking = look.options(resources={"cores": 2, "memory": "100MB", "gpus": 1, "licence": 1, "disk": "1GB"})
    seen = asking().result(DEADLINE)
    assert seen["gpus"] in [("g0",), ("g1",)]
    assert seen == {
        "cores": 2, "gpus": seen["gpus"], "memory": 100_000_000, "CUDA_VISIBLE_DEVICES": seen["gpus"][0],
        "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "FLOWLIB_CORES": "2",
    }  # fmt: skip
    for after in [look() for _ in range(8)]:
        plain = after.result(DEADLINE)
        assert plain["gpus"] == () and plain["CUDA_VISIBLE_DEVICES"] == "" and plain["memory"] is None


def test_a_task_with_all_cores_is_alone(run: None, tmp_path: Path) -> None:
    """While a task with every core runs, no other task does."""
    marks = tmp_path / "marks"
    marks.mkdir()
    others = [alone(str(marks), n) for n in range(40)]
    wide = [alone.options(resources={"cores": 4})(str(marks), 100 + n) for n in range(5)]
    others += [alone(str(marks), n) for n in range(40, 80)]
    for n, future in enumerate(wide):
        assert future.result(DEADLINE) == [str(100 + n)]
    for future in others:
        assert not any(int(name) >= 100 for name in future.result(DEADLINE))


def test_what_no_node_has_is_refused(run: None) -> None:
    """Before the first node is known the task fails, afterwards the call does; both name what is missing."""
    with pytest.raises(InvalidResourceSpecification, match="64 cores, the largest node of .*htex.* has 4"):
        look.options(resources={"cores": 64})().result(DEADLINE)
    look().result(DEADLINE)
    with pytest.raises(InvalidResourceSpecification, match=r"20 GB of disk, .* has 10 GB"):
        look.options(resources={"disk": "20GB"})()
    with pytest.raises(InvalidResourceSpecification, match="did you mean 'licence'"):
        look.options(resources={"license": 1})()
