"""One suite, every executor: each test in this folder runs on inline, threads and the high-throughput executor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor, InlineExecutor, ThreadPoolExecutor
from flowlib.providers import LocalProvider

EXECUTORS = ("inline", "threads", "htex", "htex-zmq")


def make_executor(kind: str) -> Any:
    """A fresh executor of one of ``EXECUTORS``, labelled "main"."""
    if kind == "inline":
        return InlineExecutor(label="main")
    if kind == "threads":
        return ThreadPoolExecutor(label="main", max_threads=4)
    executor = HighThroughputExecutor(
        label="main",
        address="127.0.0.1",
        max_workers_per_node=2,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    executor.short_way = kind == "htex"
    return executor


@pytest.fixture(scope="module", params=EXECUTORS)
def kind(request: pytest.FixtureRequest) -> str:
    """The executor's kind."""
    return str(request.param)


@pytest.fixture(scope="module")
def kernel(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[flowlib.DataFlowKernel]:
    """A loaded kernel on one executor, shared by the tests of a module; retries are off."""
    run_dir = tmp_path_factory.mktemp("runinfo")
    with flowlib.load(Config(executors=[make_executor(kind)], run_dir=str(run_dir))) as dfk:
        yield dfk


@pytest.fixture(autouse=True)
def in_scratch(kernel: flowlib.DataFlowKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a directory of its own; files are named by absolute path, since workers have another cwd."""
    monkeypatch.chdir(tmp_path)
