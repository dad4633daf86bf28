"""What a test left behind: threads, processes, open files and shared memory, seen from outside flowlib.

Leaks show up long after the test that caused them, so every test is compared with the state before it. Things that
are on their way out get a moment to go: each wait ends as soon as they are gone, and at a deadline at the latest.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MARK = f"{uuid.uuid4().hex}-{os.getpid()}"
"""In the environment of every process that these tests start, so that orphans are found as well."""

_LINUX = sys.platform.startswith("linux")
_PAUSE = threading.Event()  # never set: waiting on it is a bounded pause


class State(NamedTuple):
    """What exists at one moment."""

    threads: frozenset[threading.Thread]
    children: frozenset[int]
    files: frozenset[tuple[int, str]]


def observe() -> State:
    """The threads, descendants and open files of this process now."""
    return State(frozenset(t for t in threading.enumerate() if t.is_alive()), frozenset(descendants()), open_files())


def descendants() -> set[int]:
    """Process ids of all descendants, zombies included."""
    if not _LINUX:
        import psutil

        return {p.pid for p in psutil.Process().children(recursive=True)}
    found: set[int] = set()
    pending = [os.getpid()]
    while pending:
        pid = pending.pop()
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
                fresh = {int(child) for child in children} - found
                found |= fresh
                pending += fresh
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def open_files() -> frozenset[tuple[int, str]]:
    """Descriptor numbers with what they lead to; without the directory handle of this very listing."""
    directory = "/proc/self/fd" if _LINUX else "/dev/fd"
    found = []
    for name in os.listdir(directory):
        try:
            target = os.readlink(f"{directory}/{name}") if _LINUX else ""
        except OSError:
            continue
        if target != f"/proc/{os.getpid()}/fd":
            found.append((int(name), target))
    return frozenset(found)


def new_threads(before: State, deadline: float) -> list[str]:
    """Threads that were not there before and do not end by the deadline."""
    fresh = [t for t in threading.enumerate() if t not in before.threads and t is not threading.current_thread()]
    for thread in fresh:
        if not isinstance(thread, threading._DummyThread):
            thread.join(max(0.0, deadline - time.monotonic()))
    return [f"thread {t.name!r}{' (daemon)' if t.daemon else ''}" for t in fresh if t.is_alive()]


def new_children(before: State, deadline: float) -> list[str]:
    """Processes that were not there before and are not gone, and waited for, by the deadline."""

    def fresh() -> set[int]:
        found = descendants() - before.children
        if found:
            subprocess._cleanup()  # type: ignore[attr-defined]  # reaps those whose Popen object is gone
        return found

    _until_empty(fresh, deadline)
    return [f"process {pid}: {_command(pid)}" for pid in sorted(fresh())]


def new_files(before: State, deadline: float) -> list[str]:
    """Descriptors that were not open before and are not closed by the deadline."""

    def fresh() -> frozenset[tuple[int, str]]:
        found = open_files() - before.files
        if found:
            gc.collect()
            found = open_files() - before.files
        return found

    _until_empty(fresh, deadline)
    return [f"descriptor {fd}: {target}" for fd, target in sorted(fresh())]


def marked_processes() -> list[int]:
    """Live processes, wherever they hang in the tree, that were started below this one."""
    if not _LINUX:
        return sorted(descendants())
    needle, found = f"FLOWLIB_TEST_MARK={MARK}".encode(), []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                if needle in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(int(entry))
            except OSError:  # gone, or another user's
                continue
    return sorted(found)


def orphans(before: frozenset[int], deadline: float) -> list[str]:
    """Processes started below this one that outlive the deadline. They are killed."""
    _until_empty(lambda: set(marked_processes()) - before, deadline, pause=0.05)
    left = []
    for pid in set(marked_processes()) - before:
        left.append(f"process {pid}: {_command(pid)}")
        kill(pid)
    return left


def shared_memory() -> frozenset[str]:
    """Names in /dev/shm that flowlib could have made."""
    try:
        return frozenset(name for name in os.listdir("/dev/shm") if "flowlib" in name)
    except FileNotFoundError:
        return frozenset()


def kill(pid: int) -> None:
    """End a process that a test left."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _until_empty(look: Callable[[], object], deadline: float, pause: float = 0.01) -> None:
    while look() and time.monotonic() < deadline:
        _PAUSE.wait(pause)


def _command(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return line or Path(f"/proc/{pid}/stat").read_text().split(" ", 3)[1] + " (zombie: nobody waited for it)"
    except OSError:
        return "(gone meanwhile)"
