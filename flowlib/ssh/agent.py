"""One thread per host: it connects, starts the host's share of a block, sees it end, reconnects, ends it.

All of a host's network traffic waits in its own thread, so that a host that hangs delays no other.  The provider puts
orders into the inbox; what happens is told by ``Listener``, in the agent's thread.
"""

from __future__ import annotations

import logging
import queue
import secrets
import shlex
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowlib.errors import FlowlibError, HostUnusable
from flowlib.jobs.states import JobState
from flowlib.ssh import scripts
from flowlib.ssh.connection import Connection
from flowlib.ssh.places import Listener, Place, Work
from flowlib.ssh.problems import Problem, problem
from flowlib.ssh.targets import Target
from flowlib.ssh.tunnel import end_channel

if TYPE_CHECKING:
    import paramiko

logger = logging.getLogger(__name__)

PING_EVERY = 5.0
PING_PATIENCE = 12.0
"""Seconds between looks at the connection, and for the answer; together less than a manager's lease."""
_RETRY = (0.0, 0.5, 1.0, 2.0, 3.0)
_TAIL = 64 * 1024
_STEP = 30.0
"""Seconds for each small command on the host."""


@dataclass
class _Running:
    """What is on the host."""

    place: Place
    directory: str
    pid: int
    port: int = 0
    channel: paramiko.Channel | None = None
    lost_since: float | None = None
    failures: int = 0


class Agent:
    """A host's.

    Args:
        name: The host, as the user gave it.
        route: Gives the way there; called in the agent's thread, as it reads the ssh_config.
        connect_timeout: Seconds for each machine on the way.
        reconnect_timeout: Seconds after which a block whose host cannot be reached any more counts as gone.
        listener: Is told.
    """

    def __init__(
        self,
        name: str,
        route: Callable[[], Sequence[Target]],
        connect_timeout: float,
        reconnect_timeout: float,
        listener: Listener,
    ) -> None:
        self.name = name
        self._route = route
        self._connect_timeout = connect_timeout
        self._reconnect_timeout = reconnect_timeout
        self._listener = listener
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._session = 0
        self._facts: dict[str, str] = {}
        self._running: _Running | None = None
        self._fit = False
        self._litter: list[tuple[str, int]] = []

    # ----------------------------------------------------------------------------------------------------- any thread

    def start(self, place: Place) -> None:
        """Start a place; the listener is told how that went."""
        self._order(lambda: self._start(place))

    def cancel(self, place: Place) -> None:
        """End a place; ``place.ended`` is set when that is done or given up."""
        place.cancelled.set()
        self._order(lambda: self._cancel(place))

    def give_up(self, place: Place) -> None:
        """Stop starting a place, as soon as possible; if it runs in spite of that, it is ended."""
        place.cancelled.set()
        connection = self._connection
        if connection is not None and self._running is None:
            connection.close()

    def fitness(self) -> str:
        """That the host can be used, and with what; "" as long as that is not known."""
        facts = self._facts
        if not self._fit:
            return ""
        return f"usable, with Python {facts['version']} ({facts['executable']}) and flowlib {facts['flowlib']}"

    def _order(self, call: Callable[[], None]) -> None:
        with self._lock:
            self._inbox.put(call)
            if self._thread is None:
                # A daemon: a host that hangs must not keep the script from ending. The lease ends what is left there.
                self._thread = threading.Thread(target=self._serve, name=f"flowlib-ssh-{self.name}", daemon=True)
                self._thread.start()

    # ---------------------------------------------------------------------------------------------------- its thread

    def _serve(self) -> None:
        """Carry out orders; end when there is nothing left to look after."""
        while True:
            try:
                call = self._inbox.get(timeout=self._pause() if self._running is not None else 0.05)
            except queue.Empty:
                if self._running is not None:
                    self._guarded(self._look_after)
                    continue
                self._disconnect()
                with self._lock:
                    if not self._inbox.empty():
                        continue
                    self._thread = None
                    return
            else:
                self._guarded(call)

    def _guarded(self, call: Callable[[], None]) -> None:
        """No fault of ours may leave a block without somebody who looks after it, or a caller waiting."""
        try:
            call()
        except Exception as e:
            logger.exception("the agent of SSH host %s failed", self.name)
            running = self._running
            if running is not None:
                self._over(running.place, JobState.FAILED, f"an error in flowlib: {type(e).__name__}: {e}")

    def _pause(self) -> float:
        running = self._running
        if running is not None and running.lost_since is not None:
            return _RETRY[min(running.failures, len(_RETRY) - 1)]
        return PING_EVERY

    # ------------------------------------------------------------------------------------------------------- starting

    def _start(self, place: Place) -> None:
        if place.cancelled.is_set():
            return
        try:
            running = self._begin(place)
        except HostUnusable as e:
            self._disconnect()
            if not place.cancelled.is_set():
                self._listener.on_unusable(place, e)
            return
        except FlowlibError as e:
            # No paramiko, a wrong ssh_config: it concerns all hosts alike, but it is told in the same way.
            error = HostUnusable(self.name, "configuration", str(e), "this is on the submitting machine")
            error.retryable = False
            self._listener.on_unusable(place, error)
            return
        except Exception as e:
            # Other people's code under us. Whatever it is, the place must go on to another host, or end.
            logger.exception("SSH host %s: unexpected", self.name)
            self._disconnect()
            self._listener.on_unusable(
                place, problem(self.name, Problem.PROTOCOL, f"unexpected {type(e).__name__}: {e}", "see the log")
            )
            return
        self._running = running
        self._fit = True
        if not self._listener.on_started(place):
            self._end(running, "cancelled while it started")

    def _begin(self, place: Place) -> _Running:
        """Connect, prepare, start."""
        work = place.work
        connection = self._connect()
        name = f"flowlib-{secrets.token_hex(12)}"
        done = connection.run(scripts.SHELL, scripts.prepare(work.base, name, work.shared), _STEP)
        found = scripts.answers(done.out)
        scripts.judge_place(self.name, found, work.base)
        directory = found["directory"]
        try:
            self._facts.update(found)
            shared = found.get("shared") == "yes"
            files = {**place.files, "guard.sh": scripts.GUARD}
            if "executable" not in self._facts:
                files["probe.sh"] = scripts.probe(
                    work.worker_init, work.pythons, work.root, work.workdir or "", work.version
                )
            connection.put(directory, files, _STEP)
            if "probe.sh" in files:
                self._probe(connection, work, directory)
            environment = {
                "FLOWLIB_PYTHON": self._facts["executable"],
                "FLOWLIB_SSH_HOST": self.name,
                "FLOWLIB_WORKDIR": work.here if shared and work.here else f"{directory}/work",
                "FLOWLIB_LOGDIR": work.logdir if shared and work.logdir else f"{directory}/logs",
            }
            port = 0
            if work.home is not None:
                port = connection.forward(0, work.home)
                environment["FLOWLIB_HOME_PORT"] = str(port)
            return self._launch(connection, place, directory, port, environment)
        except BaseException:
            self._leave_no(directory)
            raise

    def _probe(self, connection: Connection, work: Work, directory: str) -> None:
        command = f"{scripts.LOGIN} {shlex.quote(directory)}/probe.sh"
        try:
            done = connection.run(command, b"", work.probe_timeout)
        except HostUnusable as e:
            if not connection.active:
                raise
            what = f"worker_init and the search for Python took longer than {work.probe_timeout:g} s"
            raise problem(self.name, Problem.SHELL, what, "try the lines of worker_init by hand there") from e
        found = scripts.answers(done.out)
        scripts.judge_python(
            self.name,
            found,
            version=work.version,
            protocol=work.protocol,
            release=work.release,
            error=done.err.decode(errors="replace"),
        )
        self._facts.update(found)

    def _launch(
        self, connection: Connection, place: Place, directory: str, port: int, environment: Mapping[str, str]
    ) -> _Running:
        channel = connection.follow(scripts.BASH, scripts.start(directory, environment), _STEP)
        pid = connection.first_answers(channel, "pid", _STEP).get("pid", "")
        if not pid.isdecimal():
            end_channel(channel)
            raise problem(
                self.name, Problem.SHELL, "the block's script could not be started", "see the sshd's log there"
            )
        running = _Running(place, directory, int(pid), port, channel)
        self._follow(running, channel)
        return running

    # ------------------------------------------------------------------------------------------------------- watching

    def _follow(self, running: _Running, channel: paramiko.Channel) -> None:
        """Have a thread wait for the channel to end."""

        def wait() -> None:
            output = b""
            while True:
                try:
                    data = channel.recv(4096)
                except (OSError, EOFError):
                    break
                if not data:
                    break
                output += data
            if running.channel is not channel:
                return  # it was closed on purpose
            code = scripts.answers(output).get("code", "")
            self._order(lambda: self._on_channel_end(running, channel, code))

        threading.Thread(target=wait, name=f"flowlib-ssh-{self.name}-watch", daemon=True).start()

    def _on_channel_end(self, running: _Running, channel: paramiko.Channel, code: str) -> None:
        end_channel(channel)
        if running is not self._running or running.channel is not channel:
            return
        running.channel = None
        if code.isdecimal():
            self._ended_by_itself(running, int(code))
        else:
            self._look_after()

    def _look_after(self) -> None:
        """See whether the connection and the block are there; mend what is not."""
        running = self._running
        if running is None:
            return
        connection = self._connection
        if (
            connection is not None
            and connection.active
            and running.channel is not None
            and connection.ping(PING_PATIENCE)
        ):
            return
        now = time.monotonic()
        if running.lost_since is None:
            running.lost_since = now
            running.place.message = f"the connection to {self.name} is lost; trying again"
            logger.warning("the connection to SSH host %s is lost; trying again", self.name)
        try:
            self._reconnect(running)
        except HostUnusable as e:
            self._disconnect()
            running.failures += 1
            if time.monotonic() - running.lost_since > self._reconnect_timeout:
                why = f"the connection to {self.name} was lost and not back within {self._reconnect_timeout:g} s: {e}"
                self._litter.append((running.directory, running.pid))
                self._over(running.place, JobState.FAILED, f"{why}; its manager ends by itself when its lease is over")

    def _reconnect(self, running: _Running) -> None:
        """Connect again, see whether the block is still there, and give its manager its way home back."""
        stale = self._session
        self._disconnect()
        connection = self._connect()
        done = connection.run(scripts.BASH, scripts.look(running.directory, running.pid), _STEP)
        found = scripts.answers(done.out)
        if "alive" not in found:
            raise problem(self.name, Problem.SHELL, "it does not tell whether the block is alive", "see its sshd's log")
        if found["alive"] != "yes":
            code = found.get("code", "")
            self._ended_by_itself(running, int(code) if code.isdecimal() else None)
            return
        if running.port and running.place.work.home is not None:
            if stale and stale != self._session:
                # It may not have noticed yet, and holds the port.
                connection.run(scripts.BASH, scripts.end_session(stale), _STEP)
            connection.forward(running.port, running.place.work.home)
        channel = connection.follow(scripts.BASH, scripts.watch(running.directory, running.pid), _STEP)
        running.channel, running.lost_since, running.failures = channel, None, 0
        running.place.message = f"on {self.name}"
        self._follow(running, channel)
        logger.warning("the connection to SSH host %s is back", self.name)

    # --------------------------------------------------------------------------------------------------------- ending

    def _ended_by_itself(self, running: _Running, code: int | None) -> None:
        place = running.place
        place.code = code
        state, message = _meaning(code)
        # Its guard may have been killed, and the rest live on.
        self._finish(running)
        self._over(place, state, f"on {self.name}: {message}")

    def _cancel(self, place: Place) -> None:
        running = self._running
        if running is not None and running.place is place and not place.ended.is_set():
            self._end(running, "cancelled")

    def _end(self, running: _Running, why: str) -> None:
        in_the_way = self._finish(running)
        if in_the_way:
            why = f"{why}, but {in_the_way}; its manager ends by itself when its lease is over"
        self._over(running.place, JobState.CANCELLED, why)

    def _finish(self, running: _Running) -> str:
        """End what is left of a block, fetch its last words, remove its directory; what was in the way of that."""
        place, directory = running.place, running.directory
        script = scripts.end(directory, running.pid) + scripts.collect(directory, _TAIL)
        try:
            done = self._connect().run(scripts.BASH, script, _STEP)
        except HostUnusable as e:
            self._litter.append((directory, running.pid))
            place.err = f"(the block's output could not be fetched: {e})".encode()
            return str(e)
        if "ended" not in scripts.answers(done.out):
            logger.warning("SSH host %s: ending a block printed %r", self.name, done.err[-500:])
        found = scripts.parts(done.out)
        place.out, place.err = found.pop("out", b""), found.pop("err", b"")
        place.logs = {name.removeprefix("logs/"): content for name, content in found.items()}
        self._leave_no(directory)
        return ""

    def _over(self, place: Place, state: JobState, message: str) -> None:
        if self._running is not None and self._running.place is place:
            channel, self._running.channel = self._running.channel, None
            self._running = None
            if channel is not None:
                end_channel(channel)
        place.end(state, message)
        self._listener.on_ended(place)

    def _leave_no(self, directory: str, pid: int = 0) -> None:
        """Remove a block's directory, now or when the host is reached again; with a process, end that first."""
        connection = self._connection
        try:
            if connection is None or not connection.active:
                raise problem(self.name, Problem.LOST, "there is no connection", "it is tried again by itself")
            ending = scripts.end(directory, pid) if pid else b""
            connection.run(scripts.BASH, ending + scripts.remove(directory), _STEP)
        except HostUnusable as e:
            logger.debug("SSH host %s: %s cannot be removed yet: %s", self.name, directory, e)
            self._litter.append((directory, pid))

    # --------------------------------------------------------------------------------------------------- connections

    def _connect(self) -> Connection:
        """The connection, made if need be."""
        if self._connection is not None and self._connection.active:
            return self._connection
        self._disconnect()
        connection = Connection(self._route(), self._connect_timeout)
        self._connection = connection  # so that others can close it meanwhile
        connection.open()
        done = connection.run(scripts.SHELL, scripts.SESSION, _STEP)
        session = scripts.answers(done.out).get("session", "")
        self._session = int(session) if session.isdecimal() else 0
        litter, self._litter = self._litter, []
        for directory, pid in litter:
            self._leave_no(directory, pid)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _meaning(code: int | None) -> tuple[JobState, str]:
    if code is None:
        return JobState.FAILED, "killed by somebody else, or the host was started anew"
    if code == 0:
        return JobState.COMPLETED, "it ended by itself"
    if code > 128 and code - 128 in signal.valid_signals():
        return JobState.FAILED, f"ended by {signal.Signals(code - 128).name}"
    return JobState.FAILED, "its last command failed"
