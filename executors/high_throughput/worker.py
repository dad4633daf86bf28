"""A worker: one process that runs one task after the other and is put right after each.

It is forked by the template, reads from one socket, and tells of every result at once, so that a later death loses
nothing that was finished.  User code has the process to itself while it runs; nothing here trusts the state that it
leaves.
"""

from __future__ import annotations

import contextvars
import gc
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic, time
from types import FrameType
from typing import Any, NoReturn

import msgspec

from flowlib import context as task_context
from flowlib.errors import AppTimeout, InternalConsistencyError
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput import page
from flowlib.executors.high_throughput.affinity import accelerator_environment, task_threads, thread_environment
from flowlib.executors.high_throughput.hygiene import Hygiene
from flowlib.executors.high_throughput.link import Frames, Link, LinkClosed
from flowlib.executors.high_throughput.node import usable_cpus
from flowlib.executors.high_throughput.outbox import LARGEST, Outbox, message
from flowlib.executors.high_throughput.processes import resident
from flowlib.executors.high_throughput.wear import Wear
from flowlib.serialize.execute import execute, report, results_apart, set_place
from flowlib.serialize.functions import decode_function
from flowlib.serialize.values import Packed
from flowlib.store import shelf
from flowlib.store.packing import pack
from flowlib.store.segments import Segment

SETUP_PATIENCE = 30.0
"""Seconds in which the manager must say what this worker is to be."""
_SLICE_MS = 60_000
_AGAIN = 0.01
HOLD = 0.001
"""Seconds for which small results of short tasks may wait for each other."""

_encode = msgspec.msgpack.Encoder().encode
_OK = int(m.Status.OK)
_RAISED = int(m.Status.RAISED)
_STORED = int(m.Status.STORED)
_WITHDRAWN = int(m.Status.WITHDRAWN)


class Worker:
    """The loop.

    Args:
        sock: To the manager.
        memory: The manager's page.
        rank: This worker's number.
    """

    def __init__(self, sock: socket.socket, memory: page.Page, rank: int) -> None:
        self._link = Link(sock)
        self._fd = sock.fileno()
        stat = os.fstat(self._fd)
        self._socket_id = (stat.st_dev, stat.st_ino)
        self._cells = cells = memory.cells
        self._outbox = Outbox(cells, rank * page.CELLS + page.OUTBOX, memory.outbox(rank))
        self._flushed = 0.0
        self._log_cell = rank * page.CELLS + page.LOG
        self._started_cell = rank * page.CELLS + page.STARTED
        self._began_cell = rank * page.CELLS + page.BEGAN
        self._revoked_cell = rank * page.CELLS + page.REVOKED
        self._words_cell = rank * page.CELLS + page.WORDS
        self._rank = rank
        self._pid = os.getpid()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        # A thread of the task may send a note while the main thread does.
        self._lock = threading.Lock()
        self._number = 0
        # What came while an answer was waited for.
        self._waiting: deque[Frames] = deque()
        self._manager = ""
        self._bodies: dict[int, m.Function] = {}
        self._functions: dict[int, tuple[Callable[..., Any], str]] = {}
        self._task = (-1, -1)
        self._armed = False
        self._walltime = 0.0
        # When the job's tasks are ended, by the monotonic clock.
        self._ends: float | None = None
        self._wear: Wear | None = None

    # ----------------------------------------------------------------------------------------------------------- life

    def run(self) -> NoReturn:
        """Work until the manager is gone, or this process cannot be cleaned."""
        setup = self._receive_setup()
        self._settle(setup)
        self._send([m.encode(m.Ready(self._pid))])
        gc.collect()
        gc.freeze()
        while True:
            for frames in self._receive():
                message = m.decode(frames[0])
                if isinstance(message, m.Tasks):
                    self._run_tasks(message, frames)
                elif isinstance(message, m.Forget):
                    for function in message.functions:
                        self._bodies.pop(function, None)
                        self._functions.pop(function, None)
                else:
                    self._end(page.STATE_LOST, f"a worker cannot do anything with a {type(message).__name__}")

    def _receive_setup(self) -> m.WorkerSetup:
        give_up_at = monotonic() + SETUP_PATIENCE
        while True:
            left = give_up_at - monotonic()
            if left <= 0:
                self._end(page.STATE_LOST, f"the manager said nothing for {SETUP_PATIENCE:g} s")
            if self._poll.poll(left * 1000):
                for frames in self._receive_some():
                    setup = m.decode(frames[0])
                    assert isinstance(setup, m.WorkerSetup)
                    return setup

    def _settle(self, setup: m.WorkerSetup) -> None:
        """Become what the manager says."""
        os.environ.update(setup.environment)
        if setup.ends:
            self._ends = monotonic() + setup.ends - time()
            os.environ["FLOWLIB_DEADLINE"] = f"{setup.ends:.3f}"
        known = set(sys.path)
        sys.path.extend(directory for directory in setup.sys_path if directory not in known)
        self._own_cpus = tuple(setup.cores) if hasattr(os, "sched_setaffinity") else ()
        if self._own_cpus:
            os.sched_setaffinity(0, self._own_cpus)
        self._cpus = self._own_cpus
        null = os.open(os.devnull, os.O_RDWR)
        try:
            log = os.open(setup.log, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as e:
            print(f"flowlib: worker {self._rank} has no log: {e}", file=sys.stderr)
            log = null
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.signal(signal.SIGINT, self._on_interrupt)
        self._host = socket.gethostname()
        set_place(self._host, self._rank, setup.log)
        self._label = setup.label
        self._setup = setup
        self._manager = setup.manager
        results_apart(setup.large or None)
        self._cores = len(setup.cores) or max(1, len(usable_cpus()) // max(1, setup.slots))
        self._gpus = tuple(setup.gpus)
        if setup.log_config:
            self._start_log(setup)
        self._hygiene = Hygiene(log, null)
        self._cells[self._log_cell] = self._hygiene.log_size
        if setup.most_tasks is not None or setup.most_memory is not None:
            self._wear = Wear(setup.most_tasks, setup.most_memory, lambda: resident(self._pid))

    def _start_log(self, setup: m.WorkerSetup) -> None:
        """Keep a log as the run's LogConfig says; without one, nothing here logs, nor imports what it takes."""
        import logging

        from flowlib.executors.high_throughput import far_logs

        far_logs.start(setup.log_config, setup.log, setup.debug)
        logging.getLogger("flowlib.worker").info("worker %d of manager %s", setup.rank, setup.manager)

    def _end(self, words: int, reason: str) -> NoReturn:
        self._cells[self._words_cell] = words
        try:
            os.write(2, f"flowlib: worker {self._rank} ends: {reason}\n".encode())
        except OSError:
            # The task closed it; the manager has the words.
            pass
        os._exit(1)

    # ----------------------------------------------------------------------------------------------------- the socket

    def _receive_some(self) -> list[Frames]:
        try:
            return self._link.receive()
        except LinkClosed:
            os._exit(0)

    def _receive(self) -> list[Frames]:
        if self._waiting:
            waiting, self._waiting = self._waiting, deque()
            return [*waiting]
        while True:
            if self._poll.poll(_SLICE_MS):
                messages = self._receive_some()
                if messages:
                    return messages

    def _check_link(self) -> None:
        """End if a task has closed or replaced the socket."""
        try:
            stat = os.fstat(self._fd)
        except OSError:
            self._end(page.LINK_BROKEN, "its connection to the manager was closed")
        if (stat.st_dev, stat.st_ino) != self._socket_id:
            self._end(page.LINK_BROKEN, "its connection to the manager was replaced")

    def _send(self, frames: Frames) -> None:
        """Send; returns when the kernel has it all."""
        self._check_link()
        with self._lock:
            try:
                if self._link.send(frames):
                    return
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                while not self._link.flush():
                    poll.poll(_SLICE_MS)
            except LinkClosed:
                os._exit(0)

    # ------------------------------------------------------------------------------------------------------- the work

    def _run_tasks(self, tasks: m.Tasks, frames: Frames) -> None:
        for function in tasks.functions:
            self._bodies[function.function] = function
        cells, started, revoked = self._cells, self._started_cell, self._revoked_cell
        skipped: list[m.Result] = []
        if tasks.places:
            shelf.learn(tasks.places)
        left = len(tasks.tasks)
        for task in tasks.tasks:
            left -= 1
            number = self._number = self._number + 1
            cells[started] = number
            if number >= cells[revoked]:
                skipped.append(m.Result(task.task, task.attempt, _WITHDRAWN))
                continue
            if skipped:
                self._send([m.encode(m.Results(skipped))])
                skipped = []
            payload = task.payload
            self._run_task(task, frames[payload + 1] if type(payload) is int else payload, left)  # type: ignore[arg-type]
        if skipped:
            self._flush()
            self._send([m.encode(m.Results(skipped))])
        if tasks.places:
            shelf.forget()

    def _flush(self) -> None:
        """Send what is in the outbox."""
        if self._outbox.count:
            # Emptied after sending: what is in it counts if the link turns out to be broken.
            self._send([message(*self._outbox.look())])
            self._outbox.empty()

    def _run_task(self, task: m.Task, payload: bytes, left: int) -> None:
        began = time()
        self._cells[self._began_cell] = int(began * 1e6)
        self._task = (task.task, task.attempt)
        value: bytes | Packed
        try:
            func, name = self._functions.get(task.function) or self._load(task.function)
        except Exception as e:  # noqa: BLE001  # rebuilding a function runs user code; it becomes the task's failure
            status, value = _RAISED, report(e)
        else:
            status, value = self._execute(task, func, name, payload, began)
        ended = time()
        retiring = self._tidy(self._hygiene.disarm)
        # A result that others are waiting for goes out before the rest is cleaned.
        hold = left and ended - self._flushed < HOLD
        if hold:
            retiring = retiring or self._clean()
        if not isinstance(value, bytes):
            status, value = self._store(value)
        large = len(value) > m.INLINE_LIMIT
        result = _encode(m.Result(task.task, task.attempt, status, 0 if large else value, began, ended, self._rank))
        outbox = self._outbox
        if hold and retiring is None and len(result) <= LARGEST:
            self._check_link()
            if outbox.put(result):
                return
        count, before = outbox.look()
        frames = [message(count + 1, before + result)]
        self._send([*frames, value] if large else frames)
        outbox.empty()
        self._flushed = ended
        if not hold:
            retiring = retiring or self._clean()
        if retiring is not None:
            self._retire(retiring)

    def _execute(
        self, task: m.Task, func: Callable[..., Any], name: str, payload: bytes, began: float
    ) -> tuple[int, bytes | Packed]:
        """Run a task's function as the task wants it."""
        needs = task.needs
        walltime = None if needs is None else needs.walltime
        deadline = self._ends
        if walltime is not None:
            deadline = monotonic() + walltime if deadline is None else min(deadline, monotonic() + walltime)
        rank, cores, gpus, memory = self._rank, self._cores, self._gpus, None
        if needs is not None and needs.resources:
            cores = needs.resources.get("cores", cores)
            memory = needs.resources.get("memory")
            gpus = gpus if needs.gpus is None else tuple(needs.gpus)
        context = task_context.TaskContext(
            *(task.task, task.attempt, name, self._label, rank, deadline, cores, gpus, self._note, memory)
        )
        context.cpus = self._own_cpus
        token = task_context.enter(context, True)
        try:
            if needs is not None:
                if needs.cpus and self._own_cpus:
                    context.cpus = tuple(needs.cpus)
                    self._bind(context.cpus)
                    os.environ.update(thread_environment(needs.cpus))
                _export(needs, began, self._ends)
                if needs.nodes and needs.ranks:
                    self._spread(context, needs.nodes, needs.ranks)
            # Of its own, so that context variables that the task sets are gone with it.
            variables = contextvars.copy_context()
            try:
                self._armed = True
                if walltime is not None:
                    self._walltime = walltime
                    signal.setitimer(signal.ITIMER_REAL, walltime)
                status, value = variables.run(execute, func, payload)
            finally:
                self._armed = False
        except BaseException as e:  # noqa: BLE001  # an alarm or interrupt that came just outside of execute
            status, value = _RAISED, report(e)
        if os.getpid() != self._pid:
            # The task has forked, and this is its child, which came back here; its parent speaks for both.
            os._exit(0)
        task_context.exit(context, token)
        if needs is not None:
            self._bind(self._own_cpus)
        return status, value

    def _clean(self) -> str | None:
        """What remains to be done after a task; why this worker has to end, if it has."""
        reason = self._tidy(self._hygiene.clean)
        return self._wear.after_task() if reason is None and self._wear is not None else reason

    def _spread(self, context: task_context.TaskContext, nodes: list[str], ranks: m.Ranks) -> None:
        """Tell a task which nodes it has, and how to start a program on them."""
        from flowlib.executors.high_throughput.mpi_prefixes import hostfile, task_environment

        context.spread = (tuple(nodes), ranks.total, ranks.per_node)
        setup = self._setup
        os.environ.update(
            task_environment(setup.launcher, setup.flavours, nodes, ranks.total, ranks.per_node, ranks.options)
        )
        path = context.tmpdir / "hosts"
        path.write_text(hostfile(nodes, ranks.total, ranks.per_node), encoding="utf-8")
        os.environ["FLOWLIB_MPI_HOSTFILE"] = str(path)

    def _bind(self, cpus: tuple[int, ...]) -> None:
        """Use these CPUs: those of this worker, or those that a task was given."""
        if cpus != self._cpus:
            self._cpus = cpus
            os.sched_setaffinity(0, cpus)

    def _store(self, value: Packed) -> tuple[int, bytes]:
        """Put a large result into memory of the node; status and payload that say where it is.

        Where there is no room for it, it travels with the message as small ones do.
        """
        parts = pack(value.body, value.buffers)
        size = sum(map(len, parts))
        self._send([m.encode(m.Reserve(size))])
        reserved = self._await_reserved()
        if reserved.key:
            try:
                Segment.open(reserved.path, reserved.key, size, writing=True).write(parts)
            except OSError as e:
                print(f"flowlib: a result of {size} bytes cannot be stored: {e}", file=sys.stderr)
            else:
                return _STORED, m.encode_stored(m.StoredResult(reserved.key, size, self._manager, self._host))
        return _OK, b"".join(parts)

    def _await_reserved(self) -> m.Reserved:
        # The manager answers as long as it lives, and ends this process when it does not.
        while True:
            if not self._poll.poll(_SLICE_MS):
                continue
            answer: m.Reserved | None = None
            for frames in self._receive_some():
                message = m.decode(frames[0])
                if isinstance(message, m.Reserved):
                    answer = message
                else:
                    self._waiting.append(frames)
            if answer is not None:
                return answer

    def _tidy(self, step: Callable[[], str | None]) -> str | None:
        """Do a part of the cleaning; why this worker has to end, if it has."""
        try:
            reason = step()
            self._cells[self._log_cell] = self._hygiene.log_size
        except BaseException as e:  # noqa: BLE001  # what the task left behind may raise anything; the worker ends
            return f"the task's traces cannot be removed: {type(e).__name__}: {e}"
        return reason

    def _retire(self, reason: str) -> NoReturn:
        self._send([m.encode(m.Retiring(reason))])
        os._exit(0)

    def _load(self, number: int) -> tuple[Callable[..., Any], str]:
        function = self._bodies.get(number)
        if function is None:
            raise InternalConsistencyError(f"function {number} was not sent to this worker; please report this")
        loaded = self._functions[number] = (decode_function(function.body), function.name)
        return loaded

    # ----------------------------------------------------------------------------------- called while user code runs

    def _note(self, kind: str, body: bytes) -> None:
        """Tell something about the running task; for ``flowlib.current()``, from any of the task's threads."""
        if os.getpid() == self._pid:
            self._send([m.encode(m.Note(*self._task, kind, body, time()))])

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        if self._lock.locked():
            # In the middle of a message: an exception here would garble it.
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
            return
        raise AppTimeout(
            f"the task ran longer than its walltime of {self._walltime:g} s on {self._host} and was stopped"
        )

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._armed and not self._lock.locked():
            raise KeyboardInterrupt


def _export(needs: m.Needs, began: float, ends: float | None) -> None:
    """Set the variables that a task asked for; they go when the worker is put right."""
    if needs.walltime is not None:
        deadline = began + needs.walltime
        if ends is not None:
            deadline = min(deadline, time() + ends - monotonic())
        os.environ["FLOWLIB_DEADLINE"] = f"{deadline:.3f}"
    if needs.resources:
        for name, amount in needs.resources.items():
            os.environ[f"FLOWLIB_{name.upper()}"] = str(amount)
        cores = needs.resources.get("cores")
        if cores:
            os.environ.update(task_threads(cores))
    if needs.gpus is not None:
        os.environ.update(accelerator_environment(",".join(needs.gpus)))
    if needs.environment:
        os.environ.update(needs.environment)
