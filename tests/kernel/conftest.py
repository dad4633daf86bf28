"""Kernels for tests: on threads or inline, in a directory of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.config import Config
from flowlib.dataflow.kernel import DataFlowKernel
from flowlib.executors import InlineExecutor, ThreadPoolExecutor

MakeKernel = Callable[..., DataFlowKernel]


@pytest.fixture
def make_kernel(tmp_path: Path) -> Iterator[MakeKernel]:
    """Makes kernels with given options of ``Config``; they are cleaned up at the end."""
    made: list[DataFlowKernel] = []

    def make(**options: Any) -> DataFlowKernel:
        options.setdefault("executors", [ThreadPoolExecutor(max_threads=4)])
        options.setdefault("run_dir", str(tmp_path / "runinfo"))
        kernel = DataFlowKernel(Config(**options))
        made.append(kernel)
        return kernel

    yield make
    for kernel in made:
        if not kernel.cleaned_up:
            kernel.cleanup()


@pytest.fixture(params=["inline", "threads"])
def kernel(request: pytest.FixtureRequest, make_kernel: MakeKernel) -> DataFlowKernel:
    """A kernel on each of the executors of this process."""
    return make_kernel(executors=[InlineExecutor("main") if request.param == "inline" else ThreadPoolExecutor("main")])
