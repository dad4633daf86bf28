"""The programs that start copies of a command on the nodes of a job: ``srun``, ``mpiexec``, ``jsrun`` and their kin.

Each copy is a process of this machine that is told by ``FLOWLIB_FAKE_NODE`` on which node it is to believe itself, and
by the program's own variables which copy it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_WITH_VALUE = frozenset(
    {
        "-n", "-np", "-N", "-r", "-c", "-o", "-a", "-g", "-d", "-x", "-w", "-J", "-A", "-p", "-t", "-e", "-j",
        "--hostfile", "-hostfile", "-f", "--bind-to", "-bind-to", "--cpu-bind", "--map-by", "--nodes", "--ntasks",
        "--ntasks-per-node", "--ppn", "-ppn", "--depth",
    }
)  # fmt: skip
"""Options that are followed by their value, unless it is joined to them."""


@dataclass
class _Launch:
    copies: int
    hosts: list[str]
    command: list[str]


def _parse(args: Sequence[str], copies_by: Sequence[str]) -> _Launch:
    values: dict[str, str] = {}
    rest = list(args)
    while rest and rest[0].startswith("-"):
        name, joined, given = rest.pop(0).partition("=")
        values[name] = given if joined else rest.pop(0) if name in _WITH_VALUE else ""
    hosts = [name for name in os.environ.get("FLOWLIB_FAKE_HOSTS", "localhost").split(",") if name]
    hostfile = next((values[name] for name in ("--hostfile", "-hostfile", "-f") if name in values), None)
    if hostfile is not None:
        hosts = list(dict.fromkeys(line.split()[0] for line in Path(hostfile).read_text().splitlines() if line.split()))
    elif "--nodes" in values:
        hosts = hosts[: int(values["--nodes"])]
    copies = next((int(values[name]) for name in copies_by if name in values), 0)
    if not copies:
        copies = len(hosts) * int(values.get("--ntasks-per-node", "1"))
    return _Launch(copies, hosts, rest)


def _start(found: _Launch, rank: str, size: str) -> int:
    """Run the copies, and wait for all; the highest exit code."""
    per_node = -(-found.copies // len(found.hosts))
    running = []
    for i in range(found.copies):
        host = found.hosts[min(i // per_node, len(found.hosts) - 1)]
        environment = {**os.environ, "FLOWLIB_FAKE_NODE": host, rank: str(i), size: str(found.copies)}
        if rank == "SLURM_PROCID":
            environment["SLURMD_NODENAME"] = host
        running.append(subprocess.Popen(found.command, stdin=subprocess.DEVNULL, env=environment))
    codes = [process.wait() for process in running]
    return max((128 - code if code < 0 else code for code in codes), default=0)


def _program(rank: str, size: str, *copies_by: str) -> Callable[[list[str]], int]:
    def start(args: list[str]) -> int:
        found = _parse(args, copies_by)
        if not found.command:
            print("no command was given", file=sys.stderr)
            return 1
        return _start(found, rank, size)

    return start


PROGRAMS = {
    "srun": _program("SLURM_PROCID", "SLURM_NTASKS", "--ntasks", "-n"),
    "mpiexec": _program("PMI_RANK", "PMI_SIZE", "-n", "-np"),
    "mpirun": _program("PMI_RANK", "PMI_SIZE", "-np", "-n"),
    "aprun": _program("ALPS_APP_PE", "ALPS_APP_SIZE", "-n"),
    "jsrun": _program("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "-n"),
    "flux-run": _program("FLUX_TASK_RANK", "FLUX_JOB_SIZE", "--ntasks", "-n"),
}
"""By name."""
