"""What a manager finds on its node: CPUs, memory, installed packages; and how many workers that makes.

A batch job or container often may use less than the machine has, so limits count, not hardware.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flowlib.version import VERSION

GB = 1 << 30
_UNLIMITED = 1 << 60
_LEAST_CORES = 0.01


def usable_cpus() -> list[int]:
    """Numbers of the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def count_cores(environment: Mapping[str, str], cpus: Sequence[int]) -> int:
    """CPUs that may be used: ``FLOWLIB_CORES`` if set, otherwise what affinity and cgroup allow, at least 1.

    Args:
        environment: Where to look for the variable.
        cpus: CPUs that the process may run on.

    Raises:
        ValueError: The variable holds no positive number.
    """
    told = environment.get("FLOWLIB_CORES")
    if told:
        return int(_positive("FLOWLIB_CORES", told))
    quota = _cpu_quota()
    return len(cpus) if quota is None else max(1, min(len(cpus), int(quota)))


def count_memory(environment: Mapping[str, str]) -> int:
    """Bytes that may be used: ``FLOWLIB_MEMORY_GB`` if set, otherwise the machine's, or less where a cgroup says so.

    Args:
        environment: Where to look for the variable.

    Raises:
        ValueError: The variable holds no positive number.
    """
    told = environment.get("FLOWLIB_MEMORY_GB")
    if told:
        return int(_positive("FLOWLIB_MEMORY_GB", told) * GB)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [total]
    found = _cgroup_files("memory", ("memory.max", "memory.limit_in_bytes"))
    limits += [int(text) for text in found if text.isdigit() and int(text) < _UNLIMITED]
    return min(limits)


def count_disk() -> int:
    """Bytes that are free where temporary files go."""
    found = os.statvfs(os.environ.get("TMPDIR") or "/tmp")
    return found.f_bavail * found.f_frsize


def shared_cores(cores: int, cores_per_worker: float, max_workers_per_node: float | None) -> float:
    """CPUs that the workers of a node share: less than there are only where the user limits the workers.

    Example:
        >>> shared_cores(8, 1, 4), shared_cores(8, 1, None)
        (4, 8)
    """
    if max_workers_per_node is None or cores_per_worker < _LEAST_CORES:
        return cores
    return min(cores, max_workers_per_node * cores_per_worker)


def count_memory_kills() -> int | None:
    """How many processes the kernel has killed on this node for want of memory; None if it does not tell."""
    # The innermost group first: it counts its own processes, whoever had too much.
    for text in (*_cgroup_files("memory", ("memory.events",)), _read(Path("/proc/vmstat"))):
        count = _memory_kills(text)
        if count is not None:
            return count
    return None


def _memory_kills(text: str) -> int | None:
    for line in text.splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return None


def count_workers(
    cores: float,
    memory: int,
    cores_per_worker: float,
    mem_per_worker: float | None,
    max_workers_per_node: float | None,
    accelerators: int,
) -> int:
    """How many workers a node gets: as many as every limit allows, at least 1.

    Args:
        cores: CPUs that may be used.
        memory: Bytes that may be used.
        cores_per_worker: CPUs for each.
        mem_per_worker: GB for each; None if that does not matter.
        max_workers_per_node: The user's limit, if any.
        accelerators: Number of accelerators; 0 if there are none to share out.

    Example:
        >>> count_workers(8, 16 << 30, 1, 4, None, 0)
        4
    """
    counts = [cores / cores_per_worker] if cores_per_worker > 0 else []
    if mem_per_worker:
        counts.append(memory / (mem_per_worker * GB))
    if max_workers_per_node is not None:
        counts.append(max_workers_per_node)
    if accelerators:
        counts.append(accelerators)
    # Cores per worker of 1e-9 or so stand for "no matter": somebody must still say a number.
    return max(1, int(min(counts, default=cores)))


def installed_packages() -> dict[str, str]:
    """Versions of installed distributions by name, read off directory names alone: that takes no time."""
    found: dict[str, str] = {}
    for directory in sys.path:
        try:
            with os.scandir(directory or ".") as entries:
                names = [entry.name for entry in entries if entry.name.endswith(".dist-info")]
        except OSError:
            # An entry of sys.path need not exist, or be a directory.
            continue
        for name in names:
            package, dash, version = name.removesuffix(".dist-info").rpartition("-")
            if dash:
                found.setdefault(package, version)
    # Run from its sources, it is in none of those directories.
    found.setdefault("flowlib", VERSION)
    return found


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < _UNLIMITED:
        raise ValueError(
            f"the environment variable {name} is {text!r}, it must be a positive number; correct or unset it"
        )
    return value


# ------------------------------------------------------------------------------------------------------- control groups


def _cpu_quota() -> float | None:
    """CPUs' worth of time that the control groups allow; None for no limit."""
    found = []
    for text in _cgroup_files("cpu", ("cpu.max",)):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    quotas = _cgroup_files("cpu", ("cpu.cfs_quota_us",))
    for quota, period in zip(quotas, _cgroup_files("cpu", ("cpu.cfs_period_us",)), strict=False):
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _cgroup_files(controller: str, names: Sequence[str]) -> list[str]:
    return [
        text for directory in _cgroup_directories(controller) for name in names if (text := _read(directory / name))
    ]


def _cgroup_directories(controller: str) -> Iterator[Path]:
    """The process's group and those above it, in both versions of control groups."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            root = Path("/sys/fs/cgroup")
        elif controller in controllers.split(","):
            root = Path("/sys/fs/cgroup") / controllers
            root = root if root.is_dir() else Path("/sys/fs/cgroup") / controller
        else:
            continue
        here = root / path.lstrip("/")
        while True:
            yield here
            if here == root or root not in here.parents:
                break
            here = here.parent


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
