"""Executors: what runs tasks. Each is imported when its name is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.executors.base import FlowlibExecutor as FlowlibExecutor
    from flowlib.executors.high_throughput.executor import HighThroughputExecutor as HighThroughputExecutor
    from flowlib.executors.high_throughput.mpi_executor import MPIExecutor as MPIExecutor
    from flowlib.executors.inline import InlineExecutor as InlineExecutor
    from flowlib.executors.threads import ThreadPoolExecutor as ThreadPoolExecutor

_WHERE = {
    "FlowlibExecutor": "flowlib.executors.base",
    "HighThroughputExecutor": "flowlib.executors.high_throughput.executor",
    "InlineExecutor": "flowlib.executors.inline",
    "MPIExecutor": "flowlib.executors.high_throughput.mpi_executor",
    "ThreadPoolExecutor": "flowlib.executors.threads",
}

__all__ = ["FlowlibExecutor", "HighThroughputExecutor", "InlineExecutor", "MPIExecutor", "ThreadPoolExecutor"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    from flowlib._aliases import refuse_unoffered, submodules

    refuse_unoffered(name)
    return submodules(__name__)(name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_WHERE))
