"""The manager's helper that forks workers: ``python -m ...template CONTROL PAGE WORKERS``.

Starting a Python process with everything that a worker needs takes a good part of a second; forking one that has it
all takes a millisecond, and its memory is shared.  Forking is safe only in a process with one thread, so this one
imports nothing that starts any, and looks before each fork.  It is also the workers' parent: it waits for them, tells
how each ended, and kills what they leave behind.  At end-of-file from its manager it kills them all and ends.
"""

from __future__ import annotations

import errno
import gc
import math
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from flowlib.executors.high_throughput import processes, records
from flowlib.executors.high_throughput.page import Page
from flowlib.executors.high_throughput.records import Kind, Record

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SLICE_MS = 60_000
_END_PATIENCE = 1.5


class ManagerGone(Exception):
    """The manager has closed its end, or died."""


class Ending:
    """A worker that was asked to end, or one that died and whose children were asked.

    Attributes:
        until: When it is killed, by ``time.monotonic()``.
        tree: What it had started when it was asked.
        report: What the manager will be told when all of them are gone; None while the worker lives.
    """

    def __init__(self, until: float, tree: frozenset[int], report: Record | None = None) -> None:
        self.until = until
        self.tree = tree
        self.report = report


class Template:
    """The loop.

    Args:
        control: To the manager.
        page: The memory that it shares with workers.
        grace: Seconds that what a dead worker leaves has to end by itself; 0 to kill it at once.
    """

    def __init__(self, control: socket.socket, page: Page, grace: float = 0.0) -> None:
        self._control = control
        self._page = page
        self._grace = grace
        self._buffer = b""
        self._descriptors: list[int] = []
        self._workers: dict[int, int] = {}
        self._ending: dict[int, Ending] = {}
        self._pid = os.getpid()
        self._wake, self._alarm = socket.socketpair()
        for end in (self._wake, self._alarm):
            end.setblocking(False)

    def run(self) -> None:
        """Fork and wait until the manager is gone."""
        processes.adopt_orphans()
        for number in _IGNORED:
            # A scheduler that ends a job signals everybody; the manager decides.
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _do_nothing)
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        preload()
        gc.collect()
        gc.freeze()
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            self._tell(Record(Kind.HELLO))
            while True:
                ready = [fd for fd, _ in poll.poll(self._slice())]
                if self._wake.fileno() in ready:
                    self._wait_for_children()
                if self._control.fileno() in ready:
                    self._obey()
                if self._ending:
                    self._settle()
        except ManagerGone:
            self._end()

    def _end(self) -> None:
        for pid in self._workers:
            processes.kill(pid)
        processes.kill_children(spare=(), patience=_END_PATIENCE)

    def _tell(self, record: Record) -> None:
        try:
            self._control.sendall(records.pack(record))
        except OSError as e:
            raise ManagerGone from e

    def _obey(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, records.SIZE - len(self._buffer), 1)
        except OSError as e:
            raise ManagerGone from e
        if not data:
            raise ManagerGone
        self._descriptors += descriptors
        self._buffer += data
        if len(self._buffer) < records.SIZE:
            return
        (record,) = records.unpack(self._buffer)
        self._buffer = b""
        if record.kind == Kind.SPAWN:
            self._spawn(record.rank, self._descriptors.pop())
        elif record.kind == Kind.TERMINATE and record.pid in self._workers:
            tree = processes.descendants(record.pid)
            self._ending[record.pid] = Ending(time.monotonic() + record.status / 1000, frozenset(tree))
            processes.terminate([record.pid, *tree])
        elif record.kind == Kind.KILL and record.pid in self._ending:
            self._ending[record.pid].until = 0.0
        elif record.kind == Kind.KILL and record.pid in self._workers:
            processes.kill(record.pid)

    def _slice(self) -> int:
        """Milliseconds until something is due."""
        if not self._ending:
            return _SLICE_MS
        left = min(ending.until for ending in self._ending.values()) - time.monotonic()
        return min(_SLICE_MS, max(0, math.ceil(min(left, _SLICE_MS) * 1000)))

    def _settle(self) -> None:
        """Kill workers whose time to end is over, and tell of those that are gone with all that they had started."""
        now = time.monotonic()
        for pid, ending in [*self._ending.items()]:
            left = ending.tree.intersection(processes.children())
            report = ending.report
            if report is None:
                if now >= ending.until:
                    for child in (pid, *left):
                        processes.kill(child)
                    # Nothing that it leaves is spared any more. Its own end comes as SIGCHLD.
                    ending.tree = frozenset()
                    ending.until = math.inf
            elif not left or now >= ending.until:
                del self._ending[pid]
                processes.kill(pid)
                self._kill_orphans()
                self._tell(report)

    # --------------------------------------------------------------------------------------------------- the children

    def _spawn(self, rank: int, link: int) -> None:
        try:
            if threading.active_count() > 1 or processes.count_threads() > 1:
                raise OSError(errno.EDEADLK, "this process has more than one thread")
            pid = os.fork()
        except OSError as e:
            os.close(link)
            self._tell(Record(Kind.FAILED, rank, status=e.errno or 0))
            return
        if not pid:
            self._become_worker(rank, link)
        os.close(link)
        self._workers[pid] = rank
        self._tell(Record(Kind.SPAWNED, rank, pid))

    def _become_worker(self, rank: int, link: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            for number in (*_IGNORED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            processes.adopt_orphans()
            processes.die_with_parent(self._pid)
            for end in (self._control, self._wake, self._alarm):
                end.close()
            from flowlib.executors.high_throughput.worker import Worker

            Worker(socket.socket(fileno=link), self._page, rank).run()
        except BaseException:  # noqa: BLE001  # whatever it is, a worker must never come back into the template's loop
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)

    def _wait_for_children(self) -> None:
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            pass
        ended = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                break
            if not pid:
                break
            rank = self._workers.get(pid, -1)
            if os.WIFSTOPPED(status):
                self._tell(Record(Kind.STOPPED, rank, pid, os.WSTOPSIG(status)))
            elif os.WIFCONTINUED(status):
                self._tell(Record(Kind.CONTINUED, rank, pid))
            else:
                ended = True
                if self._workers.pop(pid, None) is not None:
                    report = Record(Kind.ENDED, rank, pid, status, usage.ru_maxrss * _RSS_UNIT)
                    ending = self._ending.get(pid)
                    if ending is not None:
                        # What it had started was asked as well, and has its time.
                        ending.report = report
                        continue
                    if self._grace and self._ask_orphans(pid, report):
                        continue
                    processes.kill(pid)
                    self._kill_orphans()
                    self._tell(report)
        if ended:
            self._kill_orphans()

    def _ask_orphans(self, worker: int, report: Record) -> bool:
        """Ask what a dead worker has left to end by itself; whether there is anything.

        A launcher of an MPI program that is killed cannot end the program's processes on other nodes.
        """
        spared = {pid for ending in self._ending.values() for pid in ending.tree}
        orphans = [pid for pid in processes.children() if pid not in self._workers and pid not in spared]
        if not orphans:
            return False
        tree = frozenset(orphans).union(*(processes.descendants(pid) for pid in orphans))
        self._ending[worker] = Ending(time.monotonic() + self._grace, tree, report)
        processes.terminate([*tree])
        return True

    def _kill_orphans(self) -> None:
        """Kill what dead workers have left to this process; the next SIGCHLD tells of their children in turn."""
        spared = {pid for ending in self._ending.values() for pid in ending.tree}
        for pid in processes.children():
            if pid not in self._workers and pid not in spared:
                processes.kill(pid)


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def preload() -> None:
    """Import what every worker needs, so that none of them has to."""
    import flowlib.executors.high_throughput.worker  # noqa: F401


def main(arguments: Sequence[str]) -> None:
    """Run the template on inherited descriptors."""
    control, memory, workers, grace = map(int, arguments)
    page = Page(memory, workers)
    # The mapping has a descriptor of its own. Neither is for the programs that tasks start.
    os.close(memory)
    os.set_inheritable(control, False)
    Template(socket.socket(fileno=control), page, grace / 1000).run()


if __name__ == "__main__":
    main(sys.argv[1:])
