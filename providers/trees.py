"""Finding all processes of a job, so that none of them survives it.

A job's processes can leave its process group and its session; they stay its descendants until a parent on the way
dies.  So its tree is taken down before anything is signalled, and each process is remembered with its start time:
an id that was given to somebody else meanwhile is left alone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from typing import NamedTuple

_LINUX = sys.platform.startswith("linux")


class Process(NamedTuple):
    """One process, told from later ones with the same id by its start."""

    pid: int
    started: float

    def kill(self) -> bool:
        """Send SIGKILL if it still exists; whether it did."""
        if _start(self.pid) != self.started:
            return False
        try:
            os.kill(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def descendants(roots: Iterable[int]) -> set[Process]:
    """All processes below these, without them."""
    children = _children_linux if _LINUX else _children_by_table()
    found: set[Process] = set()
    pending = list(roots)
    seen = set(pending)
    while pending:
        for child in children(pending.pop()):
            started = _start(child)
            if child not in seen and started is not None:
                seen.add(child)
                pending.append(child)
                found.add(Process(child, started))
    return found


def members(sessions: Iterable[int]) -> set[Process]:
    """All processes of these sessions, leaders included."""
    wanted = set(sessions)
    found: set[Process] = set()
    for pid in _all_pids():
        try:
            if os.getsid(pid) not in wanted:
                continue
        except (ProcessLookupError, PermissionError):
            continue
        started = _start(pid)
        if started is not None:
            found.add(Process(pid, started))
    return found


def _children_linux(pid: int) -> list[int]:
    try:
        found: list[int] = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


class _children_by_table:  # noqa: N801
    """Children by the table of all processes, read once."""

    def __init__(self) -> None:
        import psutil

        self._table: dict[int, list[int]] = {}
        for process in psutil.process_iter(["ppid"]):
            self._table.setdefault(process.info["ppid"], []).append(process.pid)

    def __call__(self, pid: int) -> list[int]:
        return self._table.get(pid, [])


def _all_pids() -> list[int]:
    if _LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    import psutil

    return list(psutil.pids())


def _start(pid: int) -> float | None:
    """When a process started, on some clock; None if there is none."""
    if not _LINUX:
        import psutil

        try:
            return float(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return float(stat[stat.rindex(b")") + 2 :].split()[19])
