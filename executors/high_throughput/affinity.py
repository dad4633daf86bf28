"""Which CPUs and accelerators each worker of a node gets: pure arithmetic on lists.

Workers that share a node's cores by chance disturb each other, and numerical libraries start as many threads as the
node has cores, once per worker.  Binding a worker to its share cures both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_BIT = 1e-9
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
FORMS = ("none", "block", "block-reverse", "alternating", "list:<cores of worker 0>:<cores of worker 1>:...")


def worker_cores(affinity: str, cores: Sequence[int], workers: int) -> list[list[int]]:
    """The CPUs of each worker.

    Args:
        affinity: One of ``FORMS``: ``block`` gives neighbouring CPUs to a worker, ``block-reverse`` does so from the
            last one down, ``alternating`` deals them out like cards, ``list:0-3,8:4-7`` names them.
        cores: The CPUs that may be used.
        workers: How many workers there are.

    Returns:
        One list for each worker; empty lists mean no binding.

    Raises:
        ValueError: The text is none of these forms, or there are not enough CPUs.

    Example:
        >>> worker_cores("block", [0, 1, 2, 3], 2)
        [[0, 1], [2, 3]]
        >>> worker_cores("alternating", [0, 1, 2, 3], 2)
        [[0, 2], [1, 3]]
        >>> worker_cores("list:0,2-3:1", [0, 1, 2, 3], 2)
        [[0, 2, 3], [1]]
    """
    if affinity == "none":
        return [[] for _ in range(workers)]
    if affinity.startswith("list:"):
        return _listed(affinity, cores, workers)
    if affinity not in FORMS:
        raise ValueError(f"cpu_affinity is {affinity!r}, it must be one of {', '.join(FORMS)}")
    share = len(cores) // workers
    if not share:
        raise ValueError(
            f"cpu_affinity {affinity!r} gives each worker CPUs of its own, but there are {workers} workers and only "
            f"{len(cores)} CPUs; lower max_workers_per_node, raise cores_per_worker, or use cpu_affinity='none'"
        )
    ordered = sorted(cores, reverse=affinity == "block-reverse")
    if affinity == "alternating":
        return [ordered[rank : workers * share : workers] for rank in range(workers)]
    return [ordered[rank * share : (rank + 1) * share] for rank in range(workers)]


def _listed(affinity: str, cores: Sequence[int], workers: int) -> list[list[int]]:
    parts = affinity.split(":")[1:]
    if len(parts) != workers:
        raise ValueError(f"cpu_affinity {affinity!r} lists the CPUs of {len(parts)} workers, but there are {workers}")
    listed = [parse_cpus(part) for part in parts]
    missing = sorted({cpu for part in listed for cpu in part} - set(cores))
    if missing:
        raise ValueError(
            f"cpu_affinity {affinity!r} names the CPUs {missing}, but this process may use only {sorted(cores)}"
        )
    return listed


def parse_cpus(text: str) -> list[int]:
    """Read a list of CPUs.

    Raises:
        ValueError: It is none.

    Example:
        >>> parse_cpus("0-2,5")
        [0, 1, 2, 5]
    """
    cpus: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        try:
            first = int(low)
            last = int(high) if dash else first
        except ValueError:
            raise ValueError(f"{text!r} is no list of CPUs; write for example 0-3,8") from None
        if first > last:
            raise ValueError(f"{part!r} in the list of CPUs {text!r} runs backwards")
        cpus.extend(range(first, last + 1))
    return cpus


def task_cpus(shares: Sequence[Sequence[int]], cores: float | None) -> list[int]:
    """The CPUs of a task.

    Args:
        shares: The CPUs of the workers whose share it has.
        cores: How many it asks for; None if it asks for other things. Less than one is a part of what its worker has.

    Example:
        >>> task_cpus([[4, 5], [0, 1]], 3), task_cpus([[4, 5]], 1), task_cpus([[4, 5]], 0.5)
        ([4, 5, 0], [4], [4, 5])
    """
    # Those of workers may overlap, where the user has listed them.
    cpus = [*dict.fromkeys(cpu for share in shares for cpu in share)]
    return cpus if cores is None or cores < 1 else cpus[: math.ceil(cores - _BIT)]


def thread_environment(cores: Sequence[int]) -> dict[str, str]:
    """Variables that make numerical libraries start one thread for each CPU of the worker.

    Example:
        >>> thread_environment([4, 5])["OMP_NUM_THREADS"]
        '2'
    """
    if not cores:
        return {}
    return {"OMP_NUM_THREADS": str(len(cores)), **thread_places(cores)}


def thread_places(cores: Iterable[int]) -> dict[str, str]:
    """Variables that tell numerical libraries on which CPUs their threads may run.

    Example:
        >>> thread_places([4, 5])["GOMP_CPU_AFFINITY"]
        '4 5'
    """
    names = [str(core) for core in sorted(cores)]
    return {
        "GOMP_CPU_AFFINITY": " ".join(names),
        "KMP_AFFINITY": f"explicit,proclist=[{','.join(names)}]",
    }


def task_threads(cores: float) -> dict[str, str]:
    """Variables that make numerical libraries start as many threads as a task has asked cores for.

    Example:
        >>> task_threads(2.5)["OPENBLAS_NUM_THREADS"]
        '2'
    """
    return dict.fromkeys(_THREADS, str(max(1, int(cores))))


def accelerator_environment(accelerator: str) -> dict[str, str]:
    """Variables that let a worker see one accelerator only, whoever made it.

    Example:
        >>> accelerator_environment("1")["CUDA_VISIBLE_DEVICES"]
        '1'
    """
    return {
        "CUDA_VISIBLE_DEVICES": accelerator,
        "ROCR_VISIBLE_DEVICES": accelerator,
        "HIP_VISIBLE_DEVICES": accelerator,
        "ZE_AFFINITY_MASK": accelerator,
        "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1",
    }
