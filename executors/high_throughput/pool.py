"""A manager's workers as processes: the template that forks them, their links, their deaths.

What happens is told to the manager by calls of its methods (``Owner``); which worker gets what is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

from flowlib.executors.high_throughput import node, processes, records, safe_path
from flowlib.executors.high_throughput import page as pages
from flowlib.executors.high_throughput.deaths import Death, Fault, Verdict
from flowlib.executors.high_throughput.link import Frames, Link, LinkClosed
from flowlib.executors.high_throughput.records import Kind, Record

log = logging.getLogger("flowlib.manager")

TEMPLATE = "flowlib.executors.high_throughput.template"
START_PATIENCE = 90.0
"""Seconds for a template to import what it needs, from a slow file system perhaps."""
SPAWN_PATIENCE = 10.0
"""Seconds for a worker to be there."""
REPORT_PATIENCE = 0.5
"""Seconds after the end of a worker's link in which its own end should be told; then it is killed."""
END_PATIENCE = 1.5
LONGEST_ORPHAN_GRACE = SPAWN_PATIENCE / 2
"""Seconds for what dead workers leave: well within the time for which the template is waited for."""
_LONGEST_GRACE = 1e6
_UNTIL_KILLED = 0.3
_CLOSED = "its connection to the manager ended without a word (the task closed that descriptor, or it was killed)"
_READ = 64 * 1024


class Owner(Protocol):
    """Who is told."""

    def on_message(self, worker: WorkerProcess, frames: Frames) -> None:
        """It sent a message."""

    def on_death(self, worker: WorkerProcess, death: Death) -> None:
        """It is gone. Everything that it sent was told before."""

    def on_template_lost(self, reason: str) -> None:
        """All workers are gone, told one by one before; a new template is being started."""

    def watch(self, fd: int, call: Callable[[], None], writing: bool = False) -> None:
        """Call when the descriptor is readable (or writable)."""

    def unwatch(self, fd: int) -> None:
        """Stop that."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...


class WorkerProcess:
    """One worker.

    Attributes:
        rank: Its number on the node.
        link: To it.
        pid: Its process, 0 until it is known.
        ready: Whether it has said that it can run tasks.
        due_at: When something must have happened: it is ready, or how it ended is told. None for nothing.
        closed: Whether its link has ended.
        stopped_since: When it was stopped by a signal; None if it runs.
        retiring: Why it ends, in its own words.
        ends_by: When it and all that it has started must have ended, where they were given time for that; else 0.
        verdict: Why it is being killed, for those who had a task on it.
    """

    def __init__(self, rank: int, link: Link, due_at: float) -> None:
        self.rank = rank
        self.link = link
        self.pid = 0
        self.ready = False
        self.due_at: float | None = due_at
        self.closed = False
        self.stopped_since: float | None = None
        self.retiring = ""
        self.ends_by = 0.0
        self.verdict: Verdict | None = None


class Pool:
    """The template and its workers.

    Args:
        owner: Who is told.
        slots: How many workers there will be.
        grace: Seconds that what a dead worker leaves has between SIGTERM and SIGKILL; 0 for none.

    Attributes:
        page: Memory shared with the workers.
        workers: Those that exist or are about to, by rank.
    """

    def __init__(self, owner: Owner, slots: int, grace: float = 0.0) -> None:
        self._owner = owner
        self._grace = min(grace, LONGEST_ORPHAN_GRACE)
        self._slots = slots
        self.page = pages.Page.create(slots)
        self.workers: dict[int, WorkerProcess] = {}
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._buffer = b""
        self._hello_by: float | None = None
        # No deadline is earlier; so a turn looks at no worker for whom nothing is due.
        self._wake_at: float | None = None
        self._memory_kills = node.count_memory_kills()
        self._start_template()

    # -------------------------------------------------------------------------------------------------- the template

    def _start_template(self) -> None:
        processes.adopt_orphans()  # the workers', should the template die
        ours, theirs = socket.socketpair()
        with theirs:
            self._template = subprocess.Popen(
                [
                    sys.executable,
                    *safe_path.options(),
                    "-m",
                    TEMPLATE,
                    *map(str, (theirs.fileno(), self.page.fd, self._slots, int(self._grace * 1000))),
                ],
                pass_fds=(theirs.fileno(), self.page.fd),
                stdin=subprocess.DEVNULL,
                # So that whoever kills this process's group leaves somebody who kills the workers.
                start_new_session=True,
            )
        self._control = ours
        self._buffer = b""
        self._hello_by = self._due(self._owner.now() + START_PATIENCE)
        self._owner.watch(ours.fileno(), self._on_control)

    def _on_control(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(_READ, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose_template("it ended")
            return
        data = self._buffer + data
        whole = len(data) - len(data) % records.SIZE
        self._buffer = data[whole:]
        for record in records.unpack(data[:whole]):
            self._on_record(record)

    def _on_record(self, record: Record) -> None:
        now = self._owner.now()
        if record.kind == Kind.HELLO:
            self._hello_by = None
            for waiting in self.workers.values():
                waiting.due_at = self._due(now + SPAWN_PATIENCE)
            return
        worker = self.workers.get(record.rank)
        if worker is None or (record.kind not in (Kind.SPAWNED, Kind.FAILED) and worker.pid != record.pid):
            # Of a worker that was given up.
            return
        if record.kind == Kind.SPAWNED:
            worker.pid = record.pid
        elif record.kind == Kind.STOPPED:
            worker.stopped_since = now
        elif record.kind == Kind.CONTINUED:
            worker.stopped_since = None
        elif record.kind == Kind.ENDED:
            self._bury(worker, record.status, record.memory)
        elif record.kind == Kind.FAILED:
            log.error("no worker can be forked: %s", os.strerror(record.status))
            worker.retiring = f"it cannot be forked ({os.strerror(record.status)})"
            self._bury(worker, None)

    def _lose_template(self, reason: str) -> None:
        """Without the template nobody tells how workers end: all are killed, and a new one is started."""
        template = self._template
        assert template is not None
        if template.poll() is not None:
            reason += f" (exit code {template.returncode})"
        log.error("the template process %d is lost: %s", template.pid, reason)
        self._drop_template(0)
        processes.kill_children(spare=(), patience=END_PATIENCE)
        old = [*self.workers.values()]
        self._start_template()
        for worker in old:
            worker.verdict = worker.verdict or Verdict(Fault.NODE, f"the process that forks workers was lost: {reason}")
            self._bury(worker, None)
        self._owner.on_template_lost(reason)

    def _drop_template(self, patience: float) -> None:
        if self._control is not None:
            self._owner.unwatch(self._control.fileno())
            self._control.close()
            self._control = None
        if self._template is not None:
            try:
                self._template.wait(patience)
            except subprocess.TimeoutExpired:
                self._template.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._template.wait(_UNTIL_KILLED)
            self._template = None

    # --------------------------------------------------------------------------------------------------- the workers

    def spawn(self, rank: int, setup: bytes) -> None:
        """Ask for a worker.

        Args:
            rank: Its number.
            setup: The encoded ``WorkerSetup``, its first message.
        """
        assert rank not in self.workers
        assert self._control is not None
        self.page.reset(rank)
        ours, theirs = socket.socketpair()
        patience = SPAWN_PATIENCE if self._hello_by is None else START_PATIENCE + SPAWN_PATIENCE
        worker = self.workers[rank] = WorkerProcess(rank, Link(ours), self._due(self._owner.now() + patience))
        with theirs:
            # While the other end is still open here: the template may be gone.
            worker.link.send([setup])
            try:
                socket.send_fds(self._control, [records.pack(Record(Kind.SPAWN, rank))], [theirs.fileno()])
            except OSError:
                # The template is gone, and that will be noticed in a moment.
                pass
        self._owner.watch(ours.fileno(), lambda: self._on_link(worker))

    def send(self, worker: WorkerProcess, frames: Frames) -> None:
        """Send a message; what does not fit into the socket now leaves later."""
        if worker.closed:
            return
        try:
            if not worker.link.send(frames):
                self._owner.watch(worker.link.fileno(), lambda: self._on_link(worker), writing=True)
        except LinkClosed:
            # What it said before it ended is still to be read; the end comes after that.
            pass

    def _on_link(self, worker: WorkerProcess) -> None:
        if worker.closed:
            return
        try:
            if worker.link.unsent and worker.link.flush():
                self._owner.watch(worker.link.fileno(), lambda: self._on_link(worker))
        except LinkClosed:
            # It may have said something before it died.
            pass
        try:
            for frames in worker.link.receive():
                self._owner.on_message(worker, frames)
        except LinkClosed:
            self._close(worker)

    def _close(self, worker: WorkerProcess) -> None:
        """The link has ended: the template will tell how its worker did."""
        if not worker.closed:
            worker.closed = True
            # What it has started may live a while longer, and its end is told after theirs.
            worker.due_at = self._due(max(self._owner.now() + REPORT_PATIENCE + self._grace, worker.ends_by))
            self._owner.unwatch(worker.link.fileno())

    def kill(self, worker: WorkerProcess, verdict: Verdict) -> None:
        """Kill a worker with all that it has started.

        Args:
            worker: The worker.
            verdict: Why.
        """
        worker.verdict = worker.verdict or verdict
        worker.ends_by = 0.0
        worker.due_at = self._due(self._owner.now() + SPAWN_PATIENCE)
        if worker.pid and self._control is not None:
            try:
                self._control.send(records.pack(Record(Kind.KILL, worker.rank, worker.pid)), socket.MSG_DONTWAIT)
            except OSError:
                # Full because the template is stopped, or gone: the deadline sees to it.
                pass

    def terminate(self, worker: WorkerProcess, verdict: Verdict, grace: float) -> None:
        """Ask a worker and all that it has started to end, and kill what is left of them after a while.

        Args:
            worker: The worker.
            verdict: Why.
            grace: Seconds; with 0 they are killed at once.
        """
        milliseconds = int(min(grace, _LONGEST_GRACE) * 1000)
        if milliseconds <= 0 or not worker.pid or self._control is None:
            self.kill(worker, verdict)
            return
        worker.verdict = worker.verdict or verdict
        worker.ends_by = self._owner.now() + milliseconds / 1000 + SPAWN_PATIENCE
        worker.due_at = self._due(worker.ends_by)
        try:
            record = Record(Kind.TERMINATE, worker.rank, worker.pid, milliseconds)
            self._control.send(records.pack(record), socket.MSG_DONTWAIT)
        except OSError:
            # As in ``kill``.
            pass

    def _bury(self, worker: WorkerProcess, status: int | None, memory: int = 0) -> None:
        # A child of the task may still hold the other end, so that there is no end-of-file to wait for.
        while not worker.closed:
            try:
                messages = worker.link.receive()
            except LinkClosed:
                break
            if not messages:
                break
            for frames in messages:
                self._owner.on_message(worker, frames)
        if not worker.closed:
            worker.closed = True
            self._owner.unwatch(worker.link.fileno())
        worker.link.close()
        del self.workers[worker.rank]
        words = self.page.cells[worker.rank * pages.CELLS + pages.WORDS]
        self._owner.on_death(worker, Death(status, memory, words, self._was_out_of_memory()))

    def _was_out_of_memory(self) -> bool | None:
        before, self._memory_kills = self._memory_kills, node.count_memory_kills()
        if before is None or self._memory_kills is None:
            return None
        return self._memory_kills > before

    # ----------------------------------------------------------------------------------------------------------- time

    def wake_at(self) -> float | None:
        """When ``tick`` is due; None for not before something happens."""
        return self._wake_at

    def _due(self, at: float) -> float:
        self._wake_at = at if self._wake_at is None else min(self._wake_at, at)
        return at

    def tick(self, now: float, stopped_limit: float) -> None:
        """Time has passed.

        Args:
            now: Time.
            stopped_limit: Seconds for which a worker may be stopped by a signal.
        """
        if self._hello_by is not None and now >= self._hello_by:
            self._lose_template(f"it was not ready within {START_PATIENCE:g} s")
            return
        for worker in [*self.workers.values()]:
            if worker.stopped_since is not None and now - worker.stopped_since > stopped_limit:
                worker.stopped_since = None
                reason = f"it was stopped by a signal for more than {stopped_limit:g} s, and killed"
                self.kill(worker, Verdict(Fault.TASK, reason))
            elif worker.due_at is not None and now >= worker.due_at:
                if worker.verdict or not worker.pid:
                    # The template is the one who should have said something.
                    self._lose_template("it did not answer in time; perhaps it was stopped")
                    return
                if worker.closed:
                    self.kill(worker, Verdict(Fault.TASK, _CLOSED))
                else:
                    self.kill(worker, Verdict(Fault.NODE, f"it was not ready within {SPAWN_PATIENCE:g} s"))
        due = [] if self._hello_by is None else [self._hello_by]
        due.extend(worker.due_at for worker in self.workers.values() if worker.due_at is not None)
        self._wake_at = min(due, default=None)

    def end(self) -> None:
        """Kill everything. What is left then hangs in the kernel. The page tells how far the workers came."""
        for worker in [*self.workers.values()]:
            if not worker.closed:
                worker.closed = True
                self._owner.unwatch(worker.link.fileno())
            worker.link.close()
        self.workers.clear()
        self._drop_template(END_PATIENCE + _UNTIL_KILLED)
        processes.kill_children(spare=(), patience=END_PATIENCE)
