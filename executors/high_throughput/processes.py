"""Finding and ending processes below this one, and the Linux calls by which none of them gets away.

A subreaper becomes the parent of its orphaned descendants, also of those that have daemonised, so that whoever kills
all its children, again and again until there are none, has killed the whole tree.  Where there are no subreapers
(macOS) a process group is all that can be killed.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    if _LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends; ends at once if that has happened already.

    Args:
        parent: Process id of the parent, taken before the fork.
    """
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def count_threads() -> int:
    """Threads of this process, also those that Python does not know."""
    if _LINUX:
        return len(os.listdir("/proc/self/task"))
    return 1


def children() -> list[int]:
    """Process ids of this process's children, the dead that nobody waited for included."""
    if not _LINUX:
        import psutil

        return [process.pid for process in psutil.Process().children()]
    found: list[int] = []
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
    except FileNotFoundError:
        # The kernel was built without that file, or a thread has just ended.
        found = list(_scan(os.getpid()))
    return found


def _scan(parent: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                # Gone meanwhile.
                continue
            if int(fields[1]) == parent:
                yield int(name)


def descendants(pid: int) -> list[int]:
    """Process ids of all below a process, parents before their children; those that vanish meanwhile may lack."""
    if not _LINUX:
        import psutil

        with suppress(psutil.Error):
            return [process.pid for process in psutil.Process(pid).children(recursive=True)]
        return []
    found: list[int] = []
    level = [pid]
    while level:
        below = [child for parent in level for child in _children_of(parent)]
        found += below
        level = below
    return found


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
    except OSError:
        # Gone, or a kernel without that file.
        found = [] if not os.path.exists(f"/proc/{pid}") else list(_scan(pid))
    return found


def terminate(pids: Collection[int]) -> None:
    """Ask processes to end, the first first: a shell whose child ends before itself would go on with its next line."""
    for pid in pids:
        # A stopped one would not hear it.
        for number in (signal.SIGTERM, signal.SIGCONT):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def memory_of(pid: int, limit: int) -> int:
    """Bytes that a process and all below it use; exact only where it may be more than ``limit``.

    Pages that several of them share count once.

    Args:
        pid: The process.
        limit: Bytes.
    """
    tree = [pid, *descendants(pid)]
    total = sum(map(resident, tree))
    return total if total <= limit else sum(map(_proportional, tree))


def resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        if _LINUX:
            return 0
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        # An older kernel, another system, or a process that has ended.
        pass
    return resident(pid)


def name_of(pid: int) -> str:
    """What a process is called, for messages."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def kill(pid: int) -> None:
    """Kill a child, and its process group where it leads one; the child must not have been waited for."""
    with suppress(ProcessLookupError, PermissionError):
        # Not its group yet if it was forked this moment.
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_children(spare: Collection[int], patience: float) -> list[int]:
    """Kill all children, and what those leave to this process, until there are none.

    Args:
        spare: Children to let live.
        patience: Seconds to try: a process that hangs in the kernel cannot be killed.

    Returns:
        Those that still live.
    """
    give_up_at = time.monotonic() + patience
    while True:
        found = [pid for pid in children() if pid not in spare]
        for pid in found:
            kill(pid)
        for pid in found:
            if not _reap(pid, give_up_at):
                return found
        if not found:
            return []


def _reap(pid: int, give_up_at: float) -> bool:
    """Wait for a child; whether it has ended in time."""
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        left = give_up_at - time.monotonic()
        if left <= 0:
            return False
        wait_for_end(pid, left)


def wait_for_end(pid: int, patience: float) -> None:
    """Return when a child has ended, or somewhat earlier; it is not waited for."""
    try:
        fd = os.pidfd_open(pid)  # type: ignore[attr-defined,unused-ignore]  # Linux only
    except (AttributeError, OSError):
        select.select([], [], [], min(patience, 0.005))
        return
    try:
        select.select([fd], [], [], patience)
    finally:
        os.close(fd)
