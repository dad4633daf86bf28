"""The driver's end of an interchange: the process, the thread that talks to it, and the attempts that are out.

Any thread launches: it puts a task into a queue.  While little is out it sends what is queued itself, which saves the
time to wake another thread; otherwise it wakes the I/O thread if that is asleep, and batches form by themselves.

An attempt is in ``_pending`` from its launch to its outcome.  Whoever takes it out tells how it ended, so each is told
once, also when the interchange dies at the same moment.  Once ``error`` is set the table only empties.

An interchange that dies or hangs is replaced by one with the same keys and port.  Managers come back to it by
themselves with what they have and with the results that may not have arrived.  What none of them has after a while was
lost on the way, and is reported as such, to be launched again.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

import msgspec

from flowlib.dataflow.outcomes import Blame, Failed
from flowlib.dataflow.shield import SHIELD
from flowlib.errors import BadStateException, ExecutorError, InterchangeLost, InternalConsistencyError, TaskLost
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput import relay
from flowlib.executors.high_throughput.hooks import Ended, Hooks, Outcome
from flowlib.executors.high_throughput.link import Link, LinkClosed
from flowlib.executors.high_throughput.outcomes import Pickled, RemoteFailed
from flowlib.executors.high_throughput.recovery import Recovery
from flowlib.executors.high_throughput.tail import tail_of
from flowlib.executors.high_throughput.wake import Wake

BATCH = 512
"""Most tasks in one message."""
FEW = 8
"""Attempts that are out up to which the launching thread sends."""
PATIENCE = 60.0
"""Seconds in which an interchange must be up."""
_WINDOW = 60.0
"""Seconds within which only so many interchanges are started."""

Key = tuple[int, int]

_OK = int(m.Status.OK)
_STORED = int(m.Status.STORED)
_WITHDRAWN = int(m.Status.WITHDRAWN)
_INLINE = m.INLINE_LIMIT


class _Hung(Exception):
    """The interchange did not answer and was killed; the argument says why."""


class _Answer:
    """A reply that a thread waits for."""

    __slots__ = ("event", "value")

    def __init__(self) -> None:
        self.event = threading.Event()
        self.value: Any = None

    def give(self, value: Any) -> None:
        self.value = value
        self.event.set()


class Client:
    """Starts an interchange and talks to it; see ``start``.

    Args:
        label: The executor's label.
        command: Command line of the interchange, without the descriptor.
        environment: Its environment.
        log: File for what it prints.
        setup: Makes its first message; called in the I/O thread, because making keys takes a while.
        heartbeat_period: Seconds between signs of life.
        heartbeat_threshold: Seconds of silence after which it counts as hung.
        restarts: How often within a minute an interchange may be replaced.
        hooks: Where news goes.

    Attributes:
        error: What broke it; None while it works.
    """

    def __init__(
        self,
        *,
        label: str,
        command: Sequence[str],
        environment: dict[str, str],
        log: str,
        setup: Callable[[], m.Setup],
        heartbeat_period: float,
        heartbeat_threshold: float,
        restarts: int,
        hooks: Hooks,
    ) -> None:
        self.label = label
        self.error: BaseException | None = None
        self._log = log
        self._make_setup = setup
        self._period = heartbeat_period
        self._threshold = heartbeat_threshold
        self._hooks = hooks
        self._pending: dict[Key, Any] = {}
        self._outgoing: deque[Any] = deque()
        self._cancelling: dict[Key, _Answer] = {}
        # Whoever removes a name tells what became of it.
        self._doomed: set[Key] = set()
        self._replies: dict[int, _Answer] = {}
        self._numbers = iter(range(1, sys.maxsize))
        self._bound = _Answer()
        self._lock = threading.Lock()
        # Held while something goes into the link.
        self._sending = threading.Lock()
        self._closing = False
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes]
        self._link: Link
        self._thread: threading.Thread
        self._wake = Wake()
        # True: whoever queues something need not wake the thread.
        self._awake = True
        self._pressed_above = 0
        self._emptied = True
        self._most_restarts = restarts
        self._restarts: list[float] = []
        self._settings: m.Setup | None = None
        self._up = False
        self._recovery = Recovery()

    # ---------------------------------------------------------------------------------------------------- any thread

    def start(self) -> None:
        """Start the interchange and the thread. Waits for nothing.

        Raises:
            ExecutorError: The process cannot be started.
        """
        try:
            self._process, ours = _start(self.label, self._command, self._environment, self._log)
        except ExecutorError:
            self._wake.close()
            raise
        self._link = Link(ours)
        _clients.add(self)
        self._thread = threading.Thread(target=self._run, name=f"flowlib-io-{self.label}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The interchange's process."""
        return self._process.pid

    @property
    def outstanding(self) -> int:
        """Attempts that are out."""
        return len(self._pending)

    def launch(self, owner: Any, task: m.Task) -> None:
        """Send a task; how it ends is reported with ``owner``.

        Raises:
            BadStateException: The interchange is gone.
        """
        key = (task.task, task.attempt)
        with SHIELD:
            self._pending[key] = owner
            self._outgoing.append(task)
            # After the entry is made: whoever breaks the client either finds it, or has set `error` before this line.
            if self.error is not None and self._pending.pop(key, None) is not None:
                raise BadStateException(self.label, self.error)
            if not self._awake and (len(self._pending) > FEW or not self._transmit_here()):
                self._awake = True
                self._wake.call()

    def _transmit_here(self) -> bool:
        """Send what is queued in this thread; whether there is nothing left for the I/O thread to do."""
        if self._sending.locked():
            return False
        with self._sending:
            queued = list(self._outgoing)
            try:
                self._transmit()
            except LinkClosed:
                # The I/O thread will find it closed as well, and knows what to do about it.
                return False
            except BaseException as e:
                # A handler of a signal other than Ctrl-C raised: the others' messages must not be lost with this one.
                self._put_back(queued, e)
                raise
            return not (self._outgoing or self._link.unsent)

    def _put_back(self, queued: Sequence[Any], cause: BaseException) -> None:
        """Sending was interrupted: leave to the I/O thread what was not sent; the other end drops what comes twice."""
        if self._link.unsent:
            error = ExecutorError(
                self.label, f"sending to the interchange was interrupted within a message: {type(cause).__name__}"
            )
            error.__cause__ = cause
            self.fail(error)
            return
        left = set(map(id, self._outgoing))
        self._outgoing.extendleft([item for item in reversed(queued) if id(item) not in left])
        self._awake = True
        self._wake.call()

    def send(self, message: Any) -> None:
        """Send a message or a function body in the order of the calls."""
        self._outgoing.append(message)
        if not self._awake:
            self._awake = True
            self._wake.call()

    def port(self, timeout: float) -> int:
        """The port that the interchange listens on.

        Raises:
            BadStateException: It does not come up.
        """
        self._bound.event.wait(timeout)
        if self.error is not None:
            raise BadStateException(self.label, self.error)
        if self._bound.value is None:
            raise ExecutorError(self.label, f"the interchange did not come up within {timeout:g} s; log: {self._log}")
        port: int = self._bound.value
        return port

    def cancel(self, key: Key, timeout: float = 1.0) -> bool:
        """Withdraw an attempt that no worker has begun; whether that is certain."""
        if key not in self._pending or threading.current_thread() is self._thread:
            return False
        with self._lock:
            answer = self._cancelling.get(key)
            if answer is None:
                answer = self._cancelling[key] = _Answer()
        self.send(m.Cancel([key]))
        if self.error is None:
            answer.event.wait(timeout)
        with self._lock:
            # From here on a late answer finds nobody waiting, and is reported instead.
            self._cancelling.pop(key, None)
        return answer.value is True

    def kill(self, key: Key, grace: float) -> bool:
        """End an attempt, running or not: whatever becomes of it now is reported as its being cancelled.

        Args:
            key: The attempt.
            grace: Seconds between SIGTERM and SIGKILL.

        Returns:
            False if it has ended. Does not wait.
        """
        self._doomed.add(key)
        if key not in self._pending:
            try:
                self._doomed.remove(key)
            except KeyError:
                # Whoever told how it ended did so in these words.
                return True
            return False
        self.send(m.Cancel([key], grace))
        return True

    def _told(self, key: Key, outcome: Outcome) -> Outcome:
        """What is reported of an attempt that came to ``outcome``."""
        if self._doomed:
            try:
                self._doomed.remove(key)
            except KeyError:
                return outcome
            return Failed(CancelledError("the task was cancelled while it ran, and killed"), Blame.REFUSED)
        return outcome

    def ask(self, name: str, arguments: Sequence[Any] = (), timeout: float = 5.0) -> Any:
        """Put a command to the interchange and wait for the reply.

        Raises:
            BadStateException: The interchange is gone.
            ExecutorError: No reply in time.
        """
        answer = _Answer()
        number = next(self._numbers)
        self._replies[number] = answer
        self.send(m.Command(number, name, list(arguments)))
        if self.error is None:
            answer.event.wait(timeout)
        self._replies.pop(number, None)
        if answer.event.is_set():
            return answer.value
        if self.error is not None:
            raise BadStateException(self.label, self.error)
        raise ExecutorError(self.label, f"the interchange did not answer {name!r} within {timeout:g} s")

    def ask_later(self, name: str, arguments: Sequence[Any], take: Callable[[Any], None]) -> None:
        """Put a command to the interchange; ``take`` gets the reply, in the I/O thread, unless that never comes."""
        answer = _Later(take)
        number = next(self._numbers)
        self._replies[number] = answer
        self.send(m.Command(number, name, list(arguments)))

    def end(self) -> None:
        """Tell the interchange to end its managers and itself. Does not wait."""
        self._closing = True
        self.send(m.Shutdown("the executor was shut down"))

    def close(self, deadline: float) -> list[tuple[Any, int]]:
        """See the interchange end, or end it; close everything.

        Args:
            deadline: ``time.monotonic()`` at which patience ends.

        Returns:
            ``(owner, attempt)`` of what was still out.
        """
        if not self._closing:
            self.end()
        if threading.current_thread() is not self._thread:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._end_process(max(0.0, deadline - time.monotonic()))
        if threading.current_thread() is not self._thread:
            # The link is at its end now, whatever the interchange did.
            self._thread.join(5.0)
        self._wake.close()
        _clients.discard(self)
        if self.error is None:
            self.error = ExecutorError(self.label, "was shut down")
        self._release()
        return [(owner, key[1]) for key, owner in self._drain()]

    def fail(self, error: BaseException) -> None:
        """Give up: everything that is out fails with ``BadStateException`` because of ``error``."""
        with self._lock:
            if self.error is not None:
                return
            self.error = error
        self._process.kill()
        self._hooks.broken(error)
        batch: list[Ended] = []
        for key, owner in self._drain():
            outcome = self._told(key, Failed(BadStateException(self.label, error), Blame.REFUSED))
            batch.append((owner, key[1], outcome))
        self._release()
        if batch:
            self._hooks.report(batch)

    def _drain(self) -> list[tuple[Key, Any]]:
        drained: list[tuple[Key, Any]] = []
        while self._pending:
            try:
                drained.append(self._pending.popitem())
            except KeyError:
                break
        return drained

    def _release(self) -> None:
        """Let go of the threads that wait for an answer."""
        self._bound.event.set()
        for answer in [*self._cancelling.values(), *self._replies.values()]:
            answer.event.set()

    def _end_process(self, patience: float) -> None:
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def in_child(self) -> None:
        """After a fork: the child must not hold the link open, or the interchange would outlive this process."""
        self._link.close()

    # ---------------------------------------------------------------------------------------------------- I/O thread

    def _run(self) -> None:
        try:
            while True:
                cause: InterchangeLost
                try:
                    if self._settings is None:
                        self._settings = self._make_setup()
                        self._link.send([m.encode(self._settings)])
                    self._loop()
                    break
                except LinkClosed:
                    if self._closing:
                        break
                    cause = self._lost("it ended")
                except _Hung as e:
                    cause = e.args[0]
                if not self._replace(cause):
                    self.fail(cause)
                    break
        except BaseException as e:  # noqa: BLE001
            # Whatever it is: without this thread no task ever ends, so all of them fail, with the cause.
            error = InternalConsistencyError(f"the I/O thread of {self.label} failed: {type(e).__name__}: {e}")
            error.__cause__ = e
            self.fail(error)
        finally:
            with self._sending:
                self._link.close()
            if self.error is not None:
                self._end_process(1.0)

    def _replace(self, cause: InterchangeLost) -> bool:
        """Put another interchange into the place of the one that is gone; whether that was possible."""
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _WINDOW]
        port = self._bound.value
        if self._closing or self.error is not None or port is None or len(self._restarts) >= self._most_restarts:
            return False
        self._restarts.append(now)
        assert self._settings is not None
        try:
            process, ours = _start(self.label, self._command, self._environment, self._log)
        except ExecutorError:
            return False
        with self._sending:
            self._link.close()
            self._link, self._process, self._up = Link(ours), process, False
            sent = {(item.task, item.attempt) for item in list(self._outgoing) if type(item) is m.Task}
            self._recovery.begin(self._pending.keys() - sent, now)
            setup = msgspec.structs.replace(self._settings, ports=(port, port), recovering=True)
            for message in (setup, *self._hooks.replaced(cause)):
                self._link.send([m.encode(message)])
        for answer in list(self._cancelling.values()):
            # Nobody knows any more whether it was withdrawn.
            answer.event.set()
        self._replies = {number: one for number, one in self._replies.items() if type(one) is not _Later}
        return True

    def _end_recovery(self) -> None:
        """The managers that live are back: ask what is there, so that what is nowhere can be launched again."""
        for change in self._recovery.end():
            self._hooks.manager_changed(change)
        self.ask_later("held", [], self._give_up_lost)

    def _give_up_lost(self, held: list[Any]) -> None:
        """Report what was lost with the former interchange."""
        ended: list[m.Result] = []
        batch: list[Ended] = []
        for key in self._recovery.lost(held):
            owner = self._pending.pop(key, None)
            if owner is not None:
                error = TaskLost("the interchange died, and the task with it")
                ended.append(m.Result(*key, m.Status.LOST, b""))
                batch.append((owner, key[1], self._told(key, Failed(error, Blame.NOBODY))))
        if batch:
            self._hooks.ended("", ended)
            self._hooks.report(batch)

    def _lost(self, what: str) -> InterchangeLost:
        """The error that says how the interchange ended."""
        code: int | None = None
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            pass
        how = what if code is None else f"it was killed by signal {-code}" if code < 0 else f"it ended with code {code}"
        return InterchangeLost(self.label, f"the interchange is gone: {how}; log: {self._log}{tail_of(self._log)}")

    def _loop(self) -> None:
        link, wake, outgoing, recovery = self._link, self._wake, self._outgoing, self._recovery
        selector = selectors.DefaultSelector()
        selector.register(wake.fileno(), selectors.EVENT_READ, wake)
        link_key = selector.register(link.fileno(), selectors.EVENT_READ, link)
        try:
            clock = time.monotonic
            heard = started = woke = clock()
            beat_at = heard + self._period
            while self.error is None:
                if link.unsent != (link_key.events != selectors.EVENT_READ):
                    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.unsent else 0)
                    link_key = selector.modify(link.fileno(), events, link)
                now = clock()
                self._awake = False
                due = beat_at if recovery.until is None else min(beat_at, recovery.until)
                timeout = 0.0 if outgoing and not link.unsent else max(0.0, due - now)
                ready = selector.select(timeout)
                self._awake = True
                previous, woke = woke, clock()
                if woke - previous > timeout + self._period:
                    # This process, or this thread, stood still, so the silence means nothing.
                    heard += woke - previous
                for key, events in ready:
                    if key.data is wake:
                        wake.clear()
                    else:
                        if events & selectors.EVENT_WRITE:
                            with self._sending:
                                link.flush()
                        if events & selectors.EVENT_READ:
                            heard = woke
                            self._receive()
                if outgoing and not link.unsent:
                    with self._sending:
                        self._transmit()
                self._look_at_load()
                if self._up and recovery.due(woke):
                    self._end_recovery()
                if woke >= beat_at:
                    beat_at = woke + self._period
                    with self._sending:
                        link.send([m.encode(m.Heartbeat(time.time()))])
                    if woke - heard > self._threshold:
                        raise self._hung(f"nothing was heard from it for {self._threshold:g} s")
                    if not self._up and woke - started > PATIENCE:
                        raise self._hung(f"it did not come up within {PATIENCE:g} s")
        finally:
            selector.close()

    def _look_at_load(self) -> None:
        out = len(self._pending)
        if out > self._pressed_above or (not out and not self._emptied):
            self._emptied = not out
            self._pressed_above = self._hooks.pressed(out)
        elif out:
            self._emptied = False

    def _hung(self, what: str) -> _Hung:
        self._process.kill()
        self._process.wait(10)
        return _Hung(InterchangeLost(self.label, f"the interchange was killed, because {what}; log: {self._log}"))

    def _transmit(self) -> None:
        """Send what has gathered, as long as the socket takes it."""
        outgoing, link = self._outgoing, self._link
        tasks: list[m.Task] = []
        functions: list[m.Function] = []
        while outgoing and not link.unsent:
            item = outgoing.popleft()
            if type(item) is m.Task:
                tasks.append(item)
                if len(tasks) < BATCH:
                    continue
            elif type(item) is m.Function:
                functions.append(item)
                continue
            self._send_tasks(tasks, functions)
            tasks, functions = [], []
            if type(item) is not m.Task:
                link.send(item if type(item) is list else [m.encode(item)])
        self._send_tasks(tasks, functions)

    def _send_tasks(self, tasks: list[m.Task], functions: list[m.Function]) -> None:
        if not tasks and not functions:
            return
        attachments: list[Any] = []
        for i, task in enumerate(tasks):
            payload: Any = task.payload
            if len(payload) > _INLINE:
                # Not changed in place, in case it has to be sent later.
                tasks[i] = m.Task(task.task, task.attempt, task.function, len(attachments), task.needs, task.early)
                attachments.append(payload)
        self._link.send([m.encode(m.Tasks(tasks, functions)), *attachments])

    def _receive(self) -> None:
        batch: list[Ended] = []
        for frames in self._link.receive():
            message = m.decode(frames[0])
            if type(message) is m.Results:
                self._take(message, frames, batch)
            elif batch:
                # What a message says may rest on the results before it.
                self._hooks.report(batch)
                batch = []
                self._hear(message, frames)
            else:
                self._hear(message, frames)
        if batch:
            self._hooks.report(batch)

    def _take(self, message: m.Results, frames: list[bytes], batch: list[Ended]) -> None:
        pending = self._pending
        ended: list[m.Result] = []
        for result in message.results:
            key = (result.task, result.attempt)
            payload = result.payload
            if type(payload) is int:
                payload = result.payload = frames[payload + 1]
            status = result.status
            if status == _WITHDRAWN and self._confirm(key, True):
                pending.pop(key, None)
                self._doomed.discard(key)
                continue
            owner = pending.pop(key, None)
            if owner is None:
                if status == _STORED:
                    self._hooks.objects.unwanted(result)
                continue
            if self._cancelling:
                self._confirm(key, False)
            outcome: Outcome
            if status == _OK:
                outcome = Pickled(payload)  # type: ignore[arg-type]
            elif status == _STORED:
                outcome = self._hooks.objects.adopt(result)
                result.status = _OK
            elif status == _WITHDRAWN:
                outcome = Failed(TaskLost("the task was withdrawn too late to be cancelled"), Blame.NOBODY)
            else:
                outcome = RemoteFailed(payload, status, message.manager)  # type: ignore[arg-type]
            if self._doomed:
                outcome = self._told(key, outcome)
            batch.append((owner, result.attempt, outcome))
            ended.append(result)
        if ended:
            self._hooks.ended(message.manager, ended)

    def _confirm(self, key: Key, withdrawn: bool) -> bool:
        """Answer the thread that cancels an attempt; whether there is one."""
        with self._lock:
            answer = self._cancelling.pop(key, None)
            if answer is None:
                return False
            answer.give(withdrawn)
            return True

    def _hear(self, message: m.Message, frames: list[bytes]) -> None:
        if type(message) is m.NotCancelled:
            for task, attempt in message.tasks:
                self._confirm((task, attempt), False)
        elif type(message) is m.ManagerChanged:
            self._recovery.changed(message)
            self._hooks.manager_changed(message)
        elif type(message) is m.Note:
            self._hooks.noted(message)
        elif type(message) is m.Running:
            self._hooks.running(message)
        elif type(message) is m.Admit:
            self._hooks.exchanged(message)
        elif type(message) is m.Reply:
            answer = self._replies.pop(message.number, None)
            if answer is not None:
                answer.give(message.value)
        elif type(message) is m.Bound:
            if message.error:
                self.fail(ExecutorError(self.label, message.error))
            else:
                self._up = True
                self._bound.give(message.port)
        elif type(message) in relay.KINDS:
            self._hooks.objects.hear(message, frames)
        elif type(message) is not m.Heartbeat:
            raise InternalConsistencyError(f"the interchange sent a {type(message).__name__}")


class _Later(_Answer):
    """A reply that nobody waits for."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[Any], None]) -> None:
        super().__init__()
        self._take = take

    def give(self, value: Any) -> None:
        self._take(value)


def _start(
    label: str, command: Sequence[str], environment: dict[str, str], log: str
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    try:
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
    except OSError as e:
        ours.close()
        raise ExecutorError(label, f"cannot start the interchange ({' '.join(command)}): {e}") from e
    finally:
        theirs.close()
    return process, ours


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client.in_child()


os.register_at_fork(after_in_child=_after_fork)
