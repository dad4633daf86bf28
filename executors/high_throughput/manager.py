"""The manager of a node: ``python -m flowlib.executors.high_throughput.manager BLOCKFILE``.

It stands between the interchange and the node's workers, so that one connection serves all of them, and so that
somebody is there to see a worker die.  One thread waits for everything: the interchange, the workers, the template,
signals, the driver's lifeline.  What to do with tasks is ``ManagerCore``'s to decide, what becomes of processes is
``Pool``'s to know; this file joins them.

It ends when it is told to, when its lease is over, or when there is no point in going on; it takes its workers with it.
"""

from __future__ import annotations

import logging
import os
import platform
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from flowlib.executors.high_throughput import far_logs, local, outbox, processes, relay, safe_path
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput import page as pages
from flowlib.executors.high_throughput.block import Block, read_block
from flowlib.executors.high_throughput.contact import Contact
from flowlib.executors.high_throughput.deaths import (
    Death,
    Fault,
    Verdict,
    describe,
    last_lines,
    manager_lost,
    out_of_memory,
    timed_out,
    worker_lost,
)
from flowlib.executors.high_throughput.facts import Facts
from flowlib.executors.high_throughput.local import LocalConnection
from flowlib.executors.high_throughput.manager_core import ManagerCore
from flowlib.executors.high_throughput.manager_orders import Batch, Cause, Collect, Look, Revoke, Terminate, Weigh
from flowlib.executors.high_throughput.node_objects import NodeObjects
from flowlib.executors.high_throughput.pool import Pool, WorkerProcess
from flowlib.executors.high_throughput.unconfirmed import Unconfirmed

if TYPE_CHECKING:
    from flowlib.executors.high_throughput.connection import Connection

log = logging.getLogger("flowlib.manager")

REJECTED = 3
UNREACHABLE = 4
NO_WORKERS = 5
LOST_CONTACT = 6
"""Exit codes, for whoever reads a batch system's accounting."""

LINGER = 1.0
"""Seconds for the last messages to leave."""
LOCAL_GRACE = 0.5
JOB_GRACE = 5.0
"""Seconds that running tasks have after a SIGTERM: on the driver's machine, and in a job that a scheduler ends."""
MOST_BAD_STARTS = 3
_FAULTS = {
    Cause.WALLTIME: (Fault.WALLTIME, "the task outlived its walltime"),
    Cause.MEMORY: (Fault.MEMORY, "it used more memory than it may, and was killed"),
    Cause.CANCEL: (Fault.CANCEL, "the task was cancelled while it ran"),
    Cause.END: (Fault.NODE, ""),
}
_MOST_MESSAGES = 100


class Manager:
    """The loop.

    Args:
        block: What the driver wants.
        facts: What there is.
        lifeline: Descriptor whose end-of-file means that the driver is gone, or None.
    """

    def __init__(self, block: Block, facts: Facts, lifeline: int | None = None) -> None:
        self._block = block
        self._facts = facts
        self._lifeline = lifeline
        self._core = ManagerCore(block.kill_grace, facts.share)
        self._selector = selectors.DefaultSelector()
        self._bodies: dict[int, m.Function] = {}
        self._results: list[m.Result] = []
        self._unconfirmed = Unconfirmed()
        self._bad_starts = 0
        self._exit: int | None = None
        self._reason = ""
        self._now = now = time.monotonic()
        self._contact = Contact(block, now)
        self._drain_at = None if block.drain_period is None else now + block.drain_period
        self._stop_at = now + (facts.stop_at - time.time()) if facts.stop_at else None
        self._leave_at: float | None = None
        self._terminated = False
        self._watch_signals()
        if lifeline is not None:
            self.watch(lifeline, self._on_lifeline)
        # The template's imports run beside the search for an address.
        self._pool = Pool(self, facts.slots, block.kill_grace if block.mpi_launcher else 0.0)
        self._connection = self._connect()
        self._objects = NodeObjects(
            self._connection.send, facts.name, facts.host, facts.object_memory, facts.object_directory
        )
        self._from_interchange: dict[type, Callable[[Any], None]] = {
            m.Registered: self._on_registered,
            m.Rejected: lambda message: self._end(REJECTED, f"the interchange refuses this manager: {message.reason}"),
            m.Cancel: self._on_cancel,
            m.Drain: lambda message: self._drain(message.reason or "the interchange asked for it"),
            m.Shutdown: lambda message: self._end(0, message.reason or "the interchange asked for it"),
            m.Forget: self._on_forget,
            m.Heartbeat: lambda message: None,
            m.Confirmed: lambda message: self._unconfirmed.confirm(message.number),
        }

    def _connect(self) -> Connection | LocalConnection:
        sock = local.call(self._block.local)
        if sock is not None:
            return LocalConnection(sock, self._block.local, self.watch, self.unwatch, self._on_up, self._on_down)
        # Late, because its import takes as long as the template's start.
        from flowlib.executors.high_throughput.connection import Connection

        return Connection(self._block, self._facts.name, self.watch, self.unwatch, self._on_up, self._on_down)

    # ----------------------------------------------------------------------------------------------------------- loop

    def run(self) -> int:
        """Work until there is a reason to end.

        Returns:
            Exit code.
        """
        try:
            for rank in range(self._facts.slots):
                self._spawn(rank)
            # Its descriptors tell of changes only.
            self._connection.follow()
            while self._exit is None:
                self._turn()
        finally:
            self._finish()
        return self._exit

    def _turn(self) -> None:
        """Wait for something, and do all that follows from it."""
        connection, core, pool, contact = self._connection, self._core, self._pool, self._contact
        asleep_from = time.monotonic()
        objects_at = self._objects.wake_at()
        due = (
            contact.check_at,
            core.wake_at(),
            core.tell_at,
            pool.wake_at(),
            self._leave_at,
            self._drain_at,
            self._stop_at,
        )
        wake_at = min(at for at in (*due, objects_at) if at is not None)
        timeout = 0.0 if connection.readable() else max(0.0, wake_at - asleep_from)
        events = self._selector.select(timeout)
        now = self._now = time.monotonic()
        contact.stood_still(now - max(asleep_from, wake_at))
        for key, _ in events:
            key.data()
        if self._exit is None:
            self._hear_interchange()
        if now >= wake_at:
            self._tick(now)
        self._carry_out()
        for batch in core.assign(now):
            self._hand_out(batch)
        self._tell_results()
        if core.draining and not len(core) and self._objects.may_end(now):
            self._end(0, self._reason)

    def watch(self, fd: int, call: Callable[[], None], writing: bool = False) -> None:
        """Call when the descriptor is readable, or writable too."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        try:
            self._selector.register(fd, events, call)
        except KeyError:
            self._selector.modify(fd, events, call)

    def unwatch(self, fd: int) -> None:
        """Stop that."""
        self._selector.unregister(fd)

    def now(self) -> float:
        """When this turn began."""
        return self._now

    def _tick(self, now: float) -> None:
        """Do what is due by now."""
        contact = self._contact
        if now >= contact.check_at:
            self._connection.follow()
            if contact.beat_is_due(now):
                self._tell(m.Heartbeat(time.time()))
            if contact.never_reached(now):
                self._end(UNREACHABLE, self._unreachable())
            elif reason := contact.given_up(now):
                self._end(LOST_CONTACT, reason)
        if self._leave_at is not None and now >= self._leave_at:
            self._end(0, self._reason)
        if self._drain_at is not None and now >= self._drain_at:
            self._drain_at = None
            self._drain(f"its drain_period of {self._block.drain_period:g} s is over")
        if self._stop_at is not None and now >= self._stop_at:
            self._stop_at = None
            self._stop()
        self._pool.tick(now, contact.threshold)
        self._objects.tick(now)
        self._core.tick(now)
        if self._core.tell_at is not None and now >= self._core.tell_at:
            begun = self._core.begun(self._started, now)
            if begun:
                self._tell(m.Begun(begun))

    def _started(self, rank: int) -> int:
        """The number of the task that a worker began last."""
        return self._pool.page.cells[rank * pages.CELLS + pages.STARTED]

    def _unreachable(self) -> str:
        patience = self._block.address_probe_timeout
        if self._connection.address:
            return f"the interchange at {self._connection.address} did not answer within {patience:g} s"
        return (
            f"none of the interchange's addresses answered within {patience:g} s (address_probe_timeout):\n"
            f"{self._connection.explain()}\n"
            "name an address of the submitting machine that this node can reach as the executor's `address`"
        )

    # ---------------------------------------------------------------------------------------------------- how it ends

    def _end(self, code: int, reason: str) -> None:
        """Leave the loop."""
        if self._exit is None:
            self._exit = code
            self._reason = reason
            (log.error if code else log.info)("ends: %s", reason)
            if code:
                print(
                    f"flowlib manager {self._facts.name} on {self._facts.host}: {reason}", file=sys.stderr, flush=True
                )

    def _drain(self, reason: str) -> None:
        if not self._core.draining:
            log.info("takes no more tasks: %s", reason)
            self._reason = reason
            self._core.drain(self._now)
            self._withdraw(self._objects.waiting())
            self._tell(m.Drain(reason))

    def _stop(self) -> None:
        """The job is about to end: end what runs, before the scheduler does and nobody hears of it."""
        end = self._facts.end
        assert end is not None
        spare = end.at - self._facts.stop_at
        self._leave_at = self._now + 0.75 * spare
        at = time.strftime("%H:%M:%S", time.localtime(end.at))
        self._drain(f"its job ends at {at} by {end.source}")
        self._reason = f"its job ends at {at} by {end.source}"
        self._core.end_all(self._now, min(JOB_GRACE, 0.5 * spare))

    def _finish(self) -> None:
        """Kill what runs, say what is lost and goodbye."""
        broken = self._exit is None
        if broken:
            # An exception leaves the loop; it must not leave processes.
            self._exit, self._reason = 1, "an error in the manager; its log says which"
        self._pool.end()
        if not broken:
            for rank in range(self._facts.slots):
                self._collect(rank)
        lost, unstarted = self._core.abandon(self._started)
        unstarted = unstarted + self._objects.withdraw(self._objects.waiting())
        self._pool.page.close()
        if broken:
            # One of these may be what it cannot stand, and must not go on to the next manager for ever.
            lost, unstarted = lost + unstarted, []
        if lost:
            facts = self._facts
            payload = manager_lost(facts.name, facts.host, self._reason, facts.log)
            self._results += [m.Result(task, attempt, m.Status.LOST, payload) for task, attempt in lost]
        self._results += [m.Result(task, attempt, m.Status.WITHDRAWN) for task, attempt in unstarted]
        self._tell_answers()
        self._tell_results()
        self._tell(m.Goodbye(self._reason))
        self._objects.close()
        self._connection.close(0 if self._contact.connection_lost else LINGER)
        self._selector.close()
        self._wake.close()
        self._alarm.close()

    def _watch_signals(self) -> None:
        self._wake, self._alarm = socket.socketpair()
        self._wake.setblocking(False)
        self._alarm.setblocking(False)
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, _do_nothing)
        # An interrupt at the terminal is the driver's to handle.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.watch(self._wake.fileno(), self._on_signal)

    def _on_signal(self) -> None:
        numbers = self._wake.recv(4096)
        if signal.SIGTERM not in numbers:
            return
        if self._terminated or not len(self._core):
            self._terminated = True
            self._end(0, "terminated by SIGTERM")
            return
        self._terminated = True
        self._leave_at = self._now + (JOB_GRACE if self._lifeline is None else LOCAL_GRACE)
        self._drain("terminated by SIGTERM, as schedulers do at the end of a job")

    def _on_lifeline(self) -> None:
        assert self._lifeline is not None
        if not os.read(self._lifeline, 1):
            self.unwatch(self._lifeline)
            self._end(0, "the driver is gone")

    # ------------------------------------------------------------------------------------------------ the interchange

    def _tell(self, message: m.Message) -> None:
        self._connection.send([m.encode(message)])

    def _on_up(self) -> None:
        """There is a connection, the first or a new one."""
        log.info("connected to %s", self._connection.address)
        self._contact.connected(self._now)
        # What may not have arrived counts as still here, and arrives now.
        keys = [*self._core.keys(), *self._objects.waiting(), *self._unconfirmed.keys()]
        self._tell(self._facts.registration(keys, self._core.needs()))
        for frames in self._unconfirmed.frames():
            self._connection.send(frames)
        self._core.tell_again(self._now)
        self._objects.connected(self._now)
        if self._core.draining:
            self._tell(m.Drain(self._reason))

    def _on_down(self) -> None:
        if self._contact.disconnected(self._now):
            address, lease = self._connection.address, self._block.lease
            log.warning("the connection to %s is lost; trying again for %g s", address, lease)

    def _on_registered(self, message: m.Registered) -> None:
        if self._contact.accepted(message.heartbeat_period, message.heartbeat_threshold, self._now):
            log.info("registered")

    def _hear_interchange(self) -> None:
        connection = self._connection
        for _ in range(_MOST_MESSAGES):
            frames = connection.receive()
            if frames is None:
                return
            self._contact.heard(self._now)
            message = m.decode(frames[0])
            if isinstance(message, m.Tasks):
                self._take(message, frames)
            elif type(message) in self._from_interchange:
                self._from_interchange[type(message)](message)
            elif type(message) in relay.KINDS:
                self._objects.hear(message, frames, self._now)
                self._take_ready()
            else:
                log.error("the interchange sent a %s, which is none for a manager", type(message).__name__)

    def _take(self, message: m.Tasks, frames: Sequence[Any]) -> None:
        self._unconfirmed.confirm(message.confirmed)
        for function in message.functions:
            self._bodies[function.function] = function
        if len(frames) > 1:
            for task in message.tasks:
                if type(task.payload) is int:
                    task.payload = frames[task.payload + 1]
        tasks = message.tasks
        using = [task for task in tasks if task.needs is not None and task.needs.objects]
        if using and not self._core.draining:
            self._objects.take(using, self._now)
            self._take_ready()
            tasks = [task for task in tasks if task.needs is None or not task.needs.objects]
        self._core.add(tasks)

    def _take_ready(self) -> None:
        """Take in the tasks whose objects are here now, or cannot be had."""
        objects = self._objects
        if objects.ready:
            ready, objects.ready = objects.ready, []
            self._core.add(ready)
        if objects.failed:
            self._results += objects.failed
            objects.failed = []

    def _on_cancel(self, message: m.Cancel) -> None:
        gone = self._withdraw(message.tasks)
        keys = [key for key in message.tasks if key not in gone] if gone else message.tasks
        self._core.cancel(keys, self._now, message.grace)

    def _withdraw(self, keys: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Give back those of these tasks that wait for objects; which those are."""
        gone = self._objects.withdraw(keys)
        self._results += [m.Result(task, attempt, m.Status.WITHDRAWN) for task, attempt in gone]
        return gone

    def _on_forget(self, message: m.Forget) -> None:
        for function in message.functions:
            self._bodies.pop(function, None)
        self._core.forget_functions(message.functions)
        for worker in self._pool.workers.values():
            if worker.ready:
                self._pool.send(worker, [m.encode(message)])

    def _tell_results(self) -> None:
        if self._core.has_answers():
            self._tell_answers()
        if not self._results:
            return
        results, self._results = self._results, []
        if self._objects.busy:
            self._objects.answered(results)
        frames: list[Any] = [b""]
        for result in results:
            payload: Any = result.payload
            if len(payload) > m.INLINE_LIMIT:
                result.payload = len(frames) - 1
                frames.append(payload)
        number = self._unconfirmed.next()
        frames[0] = m.encode(m.Results(results, "", number))
        self._unconfirmed.add(number, results, frames)
        self._connection.send(frames)

    def _tell_answers(self) -> None:
        answers = self._core.take_answers()
        self._results += [m.Result(task, attempt, m.Status.WITHDRAWN) for task, attempt in answers.withdrawn]
        if answers.running:
            self._tell(m.NotCancelled(answers.running))

    # --------------------------------------------------------------------------------------------------- the workers

    def _spawn(self, rank: int) -> None:
        self._pool.spawn(rank, m.encode(self._facts.worker_setup(rank)))

    def on_message(self, worker: WorkerProcess, frames: list[bytes]) -> None:
        """A worker said something."""
        message = m.decode(frames[0])
        if isinstance(message, m.Results):
            if len(frames) > 1:
                for result in message.results:
                    if type(result.payload) is int:
                        result.payload = frames[result.payload + 1]
            self._results += self._core.finish(worker.rank, message.results, self._now)
        elif isinstance(message, m.Note):
            self._connection.send(frames)
        elif isinstance(message, m.Reserve):
            self._pool.send(worker, [m.encode(self._objects.reserve(worker.rank, message.size))])
        elif isinstance(message, m.Ready):
            worker.ready = True
            worker.due_at = None
            worker.pid = message.pid
            self._bad_starts = 0
            self._core.ready(worker.rank, self._now)
        elif isinstance(message, m.Retiring):
            log.info("worker %d (process %d) retires: %s", worker.rank, worker.pid, message.reason)
            worker.retiring = message.reason
            self._core.retire(worker.rank)
        else:
            log.error("worker %d sent a %s, which is none for a manager", worker.rank, type(message).__name__)

    def _collect(self, rank: int) -> None:
        """Take the results that a worker has not sent yet; when it sends them they are dropped."""
        count, results = self._pool.page.read_outbox(rank)
        if count:
            message = m.decode(outbox.message(count, results))
            assert isinstance(message, m.Results)
            self._results += self._core.finish(rank, message.results, self._now)

    def on_death(self, worker: WorkerProcess, death: Death) -> None:
        """A worker is gone: its task gets its answer, and another worker its place."""
        rank = worker.rank
        if not worker.ready:
            self._on_bad_start(worker, death)
        self._collect(rank)
        for task in self._core.died(rank, self._started(rank)):
            status, payload = self._judge(worker, death)
            began = self._pool.page.cells[rank * pages.CELLS + pages.BEGAN] / 1e6
            self._results.append(m.Result(task.task, task.attempt, status, payload, began, time.time(), rank))
            log.warning(
                "worker %d (process %d) ended with task %d, try %d: %s",
                *(rank, worker.pid, task.task, task.attempt, worker.verdict or describe(death)),
            )
        if self._objects.busy:
            self._objects.answered(self._results)
            self._objects.worker_gone(rank)
        if self._exit is None:
            self._spawn_again(rank)

    def _spawn_again(self, rank: int) -> None:
        if rank not in self._pool.workers and not (self._core.draining and not self._core.waiting):
            self._spawn(rank)

    def _judge(self, worker: WorkerProcess, death: Death) -> tuple[m.Status, bytes]:
        """What a task is told whose worker ended under it."""
        facts, rank, verdict = self._facts, worker.rank, worker.verdict
        signalled = death.status is not None and os.WIFSIGNALED(death.status)
        if verdict is None and self._terminated and signalled:
            # The scheduler ends the job, and signals everybody in it.
            verdict = Verdict(Fault.NODE, self._reason)
        worker_log, since = facts.worker_log(rank), self._pool.page.cells[rank * pages.CELLS + pages.LOG]
        if verdict is None and death.out_of_memory and death.status == signal.SIGKILL:
            lost = out_of_memory(rank, facts.host, 0, death.memory, describe(death), worker_log, since)
            return m.Status.WORKER_LOST, lost
        if verdict is None:
            return m.Status.WORKER_LOST, worker_lost(rank, facts.host, describe(death), worker_log, since)
        if verdict.fault is Fault.WALLTIME:
            return m.Status.RAISED, timed_out(rank, facts.host, verdict.limit, worker_log, since)
        if verdict.fault is Fault.MEMORY:
            peak = max(verdict.used, death.memory)
            # The task's own doing, like a walltime: it says nothing against the node.
            lost = out_of_memory(rank, facts.host, int(verdict.limit), peak, verdict.reason, worker_log, since)
            return m.Status.RAISED, lost
        if verdict.fault is Fault.NODE:
            return m.Status.LOST, manager_lost(facts.name, facts.host, verdict.reason, facts.log)
        return m.Status.WORKER_LOST, worker_lost(rank, facts.host, verdict.reason, worker_log, since)

    def _on_bad_start(self, worker: WorkerProcess, death: Death) -> None:
        self._bad_starts += 1
        reason = worker.retiring or (worker.verdict.reason if worker.verdict else describe(death))
        log.error("worker %d did not come up: %s", worker.rank, reason)
        if self._bad_starts >= MOST_BAD_STARTS:
            tail = "".join(f"\n  {line}" for line in last_lines(self._facts.worker_log(worker.rank)))
            self._end(
                NO_WORKERS, f"{self._bad_starts} workers in a row did not come up, the last because: {reason}{tail}"
            )

    def on_template_lost(self, reason: str) -> None:
        """All workers are gone and told; their successors are on their way."""

    # --------------------------------------------------------------------------------------------- the core's orders

    def _carry_out(self) -> None:
        core, pool = self._core, self._pool
        cells = pool.page.cells
        while orders := core.take_orders():
            for order in orders:
                worker = pool.workers.get(order.rank)
                if isinstance(order, Revoke):
                    number = pages.NEVER if order.number is None else order.number
                    cells[order.rank * pages.CELLS + pages.REVOKED] = number
                elif isinstance(order, Collect):
                    self._collect(order.rank)
                elif isinstance(order, Look):
                    self._collect(order.rank)
                    core.looked(order.rank, self._started(order.rank), self._now)
                elif worker is None:
                    # It died meanwhile, which is being told.
                    continue
                elif isinstance(order, Weigh):
                    core.weighed(order.rank, processes.memory_of(worker.pid, order.limit), order.limit, self._now)
                elif isinstance(order, Terminate):
                    fault, reason = _FAULTS[order.cause]
                    pool.terminate(worker, Verdict(fault, reason or self._reason, order.limit, order.used), order.grace)
                else:
                    pool.kill(worker, Verdict(Fault.CANCEL, "its task was ended"))

    def _hand_out(self, batch: Batch) -> None:
        tasks = batch.tasks
        frames: list[Any] = [b""]
        bound = self._facts.bound
        for i, task in enumerate(tasks):
            # The core keeps the task as it is, in case it comes back.
            if bound and task.needs is not None and (task.needs.resources or task.needs.slots > 1):
                needs = self._facts.with_cpus(task.needs, self._core.shares((task.task, task.attempt)))
                tasks[i] = task = m.Task(task.task, task.attempt, task.function, task.payload, needs)
            payload: Any = task.payload
            if len(payload) > m.INLINE_LIMIT:
                tasks[i] = m.Task(task.task, task.attempt, task.function, len(frames) - 1, task.needs)
                frames.append(payload)
        bodies = self._bodies
        sent = m.Tasks(tasks, [bodies[number] for number in batch.functions if number in bodies])
        if self._objects.pins:
            sent.places = self._objects.places(tasks)
        frames[0] = m.encode(sent)
        self._pool.send(self._pool.workers[batch.rank], frames)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def _lifeline(environment: dict[str, str]) -> int | None:
    """The descriptor that the driver's provider left open for this process, if any."""
    text = environment.pop("FLOWLIB_LIFELINE", "")
    if not text:
        return None
    try:
        fd = int(text)
        os.set_inheritable(fd, False)
    except (ValueError, OSError) as e:
        sys.exit(f"flowlib manager: FLOWLIB_LIFELINE is {text!r}, which is no descriptor of this process: {e}")
    return fd


def main(arguments: Sequence[str]) -> int:
    """Run a manager.

    Returns:
        Exit code.
    """
    if len(arguments) != 1:
        sys.exit("usage: python -m flowlib.executors.high_throughput.manager BLOCKFILE")
    safe_path.forget(os.environ)
    lifeline = _lifeline(os.environ)  # type: ignore[arg-type]
    try:
        block = read_block(arguments[0])
        if block.once:
            from flowlib.executors.high_throughput.exchange import exchange

            exchange(block)
        if block.cwd:
            os.chdir(block.cwd)
        os.environ.update(block.environment)
        facts = Facts(block)
        os.makedirs(facts.directory, mode=0o700, exist_ok=True)
    except (OSError, ValueError) as e:
        sys.exit(f"flowlib manager on {platform.node()}: {e}")
    far_logs.start(block.log_config, facts.log, block.debug)
    log.info(
        "manager %s, process %d, %d workers, Python %s", facts.name, os.getpid(), facts.slots, sys.version.split()[0]
    )
    try:
        return Manager(block, facts, lifeline).run()
    except Exception:
        # The log is where its block's messages send people; the interpreter prints it to the job's output as well.
        log.exception("the manager fails")
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
