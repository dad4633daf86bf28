"""What the nodes of an executor will have, as far as that is known before the first of them is there.

A task that asks for more than any block can ever have should be refused where it is submitted.  The executor's own
parameters bound some amounts (accelerators, labels, workers), its provider may tell others, and blocks that are plain
processes of this machine have what this machine has.  What nobody tells counts as unlimited here; the first node that
registers settles it.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from flowlib.executors.high_throughput import node
from flowlib.executors.high_throughput.messages import Register
from flowlib.launchers import SimpleLauncher, SingleNodeLauncher

if TYPE_CHECKING:
    from flowlib.executors.high_throughput.executor import HighThroughputExecutor

UNKNOWN = 1 << 62
"""Stands for an amount that nobody tells."""


def expected_node(executor: HighThroughputExecutor) -> Register:
    """A registration as a node of this executor could send it at most.

    Args:
        executor: Its parameters and its provider are looked at.

    Raises:
        ValueError: ``FLOWLIB_CORES`` or ``FLOWLIB_MEMORY_GB`` is set for this machine, and is no positive number.

    Example:
        >>> from flowlib.executors import HighThroughputExecutor
        >>> expected_node(HighThroughputExecutor(cores_per_worker=1, max_workers_per_node=2)).cores <= 2
        True
    """
    provider = executor.provider
    cores = int(getattr(provider, "cores_per_node", None) or UNKNOWN)
    in_gb = getattr(provider, "mem_per_node", None)
    memory = UNKNOWN if in_gb is None else int(in_gb * node.GB)
    if _is_this_machine(executor):
        cores = min(cores, node.count_cores(os.environ, node.usable_cpus()))
        memory = min(memory, node.count_memory(os.environ))
    return Register(
        0,
        "",
        "",
        "",
        "",
        "",
        0,
        slots=_count_slots(executor, cores, memory),
        cores=node.shared_cores(cores, executor.cores_per_worker, executor.max_workers_per_node),
        memory=memory,
        gpus=executor.available_accelerators,
        share=(executor.mem_per_worker or 0) * node.GB,
        disk=UNKNOWN if executor.disk_per_node is None else executor.disk_per_node,
        labels=executor.labels,
        shared_gpus=executor.shared_accelerators,
    )


def _count_slots(executor: HighThroughputExecutor, cores: float, memory: int) -> int:
    accelerators = 0 if executor.shared_accelerators else len(executor.available_accelerators)
    most = math.inf if executor.max_workers_per_node is None else executor.max_workers_per_node
    return min(
        UNKNOWN,
        node.count_workers(
            cores, memory, executor.cores_per_worker, executor.mem_per_worker, min(most, UNKNOWN), accelerators
        ),
    )


def _is_this_machine(executor: HighThroughputExecutor) -> bool:
    """Whether managers are plain processes here, that nothing given by the user may have put elsewhere."""
    provider = executor.provider
    init = getattr(provider, "worker_init", "") or ""
    return (
        getattr(provider, "label", "") == "local"
        and isinstance(getattr(provider, "launcher", None), (SimpleLauncher, SingleNodeLauncher))
        and executor.launch_cmd is None
        and "FLOWLIB_" not in init
        and "taskset" not in init
    )
