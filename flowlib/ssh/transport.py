"""Commands and files on a login node: what a batch system's provider needs of a machine that is not this one.

Batch providers run their scheduler's commands by a transport.  With this one a laptop submits to a cluster::

    SlurmProvider("debug", transport=SSHTransport("login.example.org"))

The workers' way home leads through the login node too: its SSH server forwards a port of its loopback to this machine,
and since compute nodes cannot reach that, a relay on the login node listens for them and passes their bytes on.  What
travels is encrypted from end to end (CURVE), so a relay that others can reach shows and grants nothing.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flowlib.errors import FlowlibError, HostUnusable
from flowlib.providers.base import RemoteSide
from flowlib.providers.dialect import NOT_FOUND, Reply
from flowlib.representation import RepresentationMixin
from flowlib.ssh import relay, scripts
from flowlib.ssh.connection import Connection
from flowlib.ssh.login import read_config
from flowlib.ssh.problems import Problem, problem
from flowlib.ssh.targets import Login, parse, route
from flowlib.ssh.tunnel import end_channel

if TYPE_CHECKING:
    import paramiko

logger = logging.getLogger(__name__)

KEEP_EVERY = 5.0
"""Seconds between looks at the way home."""
_STEP = 30.0
_TAIL = 64 * 1024
_TIMED_OUT = 124
"""Exit code of ``timeout``."""
_PLAIN = [
    "unset ${!SQUEUE_@} ${!SACCT_@} ${!SINFO_@} ${!BJOBS_@} ${!LSB_BJOBS_@} ${!FLUX_JOBS_@}",
    "export LC_ALL=C.UTF-8",
]
"""For queries: no format and no language of the user's."""


class SSHTransport(RepresentationMixin):
    """Runs commands and keeps files on a host that is reached by SSH.

    It connects when it is first used, and again when the connection was lost.  Calls may come from any thread; they
    are carried out one after another.

    Args:
        host: The login node: ``"host"``, ``"user@host:port"``, or an alias of the ssh_config.
        ssh_config: The file; None for ``~/.ssh/config``, "" for none.
        user: Account; None for the ssh_config's, or the local one's name.
        key_filename: Private key or keys to try first.
        jump: Jump hosts in order, separated by commas, as for ``ssh -J``; None for the ssh_config's.
        known_hosts: File or files of known host keys; None for the ssh_config's, or the usual ones.
        accept_new_host_keys: Whether a host that is not known yet is trusted and its key kept.
        allow_agent: Whether to use the SSH agent.
        private_dir: Directory there for private files, on a file system that the compute nodes share. None for
            ``~/.cache/flowlib/ssh``.
        connect_timeout: Seconds for each machine on the way to answer.

    Raises:
        ConfigurationError: The host is no host.

    Example:
        >>> SSHTransport("ann@login1", connect_timeout=5).host
        'ann@login1'
    """

    def __init__(
        self,
        host: str,
        ssh_config: str | None = None,
        user: str | None = None,
        key_filename: str | Sequence[str] | None = None,
        jump: str | None = None,
        known_hosts: str | Sequence[str] | None = None,
        accept_new_host_keys: bool = False,
        allow_agent: bool = True,
        private_dir: str | None = None,
        connect_timeout: float = 10,
    ) -> None:
        parse(host)
        self.host = host
        self.ssh_config = ssh_config
        self.user = user
        self.key_filename = key_filename
        self.jump = jump
        self.known_hosts = known_hosts
        self.accept_new_host_keys = accept_new_host_keys
        self.allow_agent = allow_agent
        self.private_dir = private_dir
        self.connect_timeout = connect_timeout
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._relay: paramiko.Channel | None = None
        self._home: tuple[str, int] | None = None
        self._session = self._tunnel_port = self._relay_port = 0
        self._addresses: tuple[str, ...] = ()
        self._keeper: threading.Event | None = None
        self._places: dict[str, str] = {}
        self._delivered: list[str] = []

    # ----------------------------------------------------------------------------------- the face of a transport

    @property
    def tunnel(self) -> bool:
        """True: the way home begins here; see ``reach_home``."""
        return True

    def run(self, argv: Sequence[str], *, input: str | None = None, timeout: float, query: bool = False) -> Reply:
        """Run a command with the account's login files in force, and wait for its end.

        Args:
            argv: Program and arguments.
            input: Path there of a file to be its standard input; None for an empty one.
            timeout: Seconds, after which it is ended there too.
            query: Whether it only asks; see ``flowlib.providers.transport.Transport``.

        Returns:
            What came of it. Without an exit code if its time was over or the connection was lost: it may have done its
            work. Queries that could not be sent have none either.

        Raises:
            HostUnusable: A command that is no query could not be sent; ``retryable`` tells whether it may later.
        """
        words = " ".join(shlex.quote(word) for word in argv)
        # `timeout` is not everywhere; without it only our own side gives up.
        program = shlex.quote(argv[0])
        lines = [
            *(_PLAIN if query else []),
            f"exec <{shlex.quote(input or '/dev/null')}",
            f"command -v {program} >/dev/null || {{ echo {program}: not found there >&2; exit {NOT_FOUND}; }}",
            f"if command -v timeout >/dev/null; then exec timeout -k 2 {timeout:g} {words}; else exec {words}; fi",
        ]
        # As a word of a plain command, whatever the account's shell is.
        command = f"exec bash --login -c {shlex.quote('; '.join(lines))}"
        with self._lock:
            try:
                connection = self._connect()
            except HostUnusable as e:
                if not query:
                    raise
                return Reply(None, "", str(e))
            try:
                done = connection.run(command, b"", timeout + 5)
            except HostUnusable as e:
                return Reply(None, "", str(e))
        out, err = done.out.decode(errors="replace"), done.err.decode(errors="replace")
        return Reply(None if done.code in (_TIMED_OUT, -1) else done.code, out, err)

    def put(self, files: Mapping[str, str], mode: int = 0o700) -> None:
        """Write new files in directories that are made where needed.

        Args:
            files: Contents by path there.
            mode: Their permissions.

        Raises:
            HostUnusable: It could not be done.
        """
        with self._lock:
            connection = self._connect()
            for directory in dict.fromkeys(os.path.dirname(path) for path in files):
                connection.run(scripts.SHELL, scripts.make(directory), _STEP)
                inside = {
                    os.path.basename(path): text.encode("utf-8", "surrogateescape")
                    for path, text in files.items()
                    if os.path.dirname(path) == directory
                }
                connection.put(directory, inside, _STEP, mode)

    def read(self, path: str) -> str | None:
        """The end of a file there; None if it is not there, or the host cannot be reached."""
        try:
            with self._lock:
                data = self._connect().tail(path, _TAIL, _STEP)
        except HostUnusable as e:
            logger.warning("%s cannot be read: %s", path, e)
            return None
        return None if data is None else data.decode(errors="replace")

    def place(self, directory: str, ask: bool = True) -> str:
        """A private directory there that stands for one of this machine; made when it is first asked for.

        Raises:
            HostUnusable: It could not be made.
        """
        with self._lock:
            if directory not in self._places:
                unique = f"flowlib-{secrets.token_hex(8)}"
                if not ask:
                    return f"{self.private_dir or '~/.cache/flowlib/ssh'}/{unique}"
                self._places[directory] = self._make(unique)
            return self._places[directory]

    def bring(self, path: str) -> str:
        """Bring the end of a file there to the directory here for which its own stands; where it is."""
        near = {far: local for local, far in self._places.items()}.get(os.path.dirname(path))
        text = self.read(path) if near is not None else None
        if near is None or text is None:
            return path
        copy = os.path.join(near, os.path.basename(path))
        try:
            os.makedirs(near, mode=0o700, exist_ok=True)
            with open(copy, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as e:
            logger.warning("%s cannot be written: %s", copy, e)
            return path
        return copy

    def deliver(self, files: Mapping[str, bytes], job_name: str) -> str:
        """Put private files (0600) into a new private directory (0700), which is removed when no job is left.

        Raises:
            HostUnusable: It could not be done.
        """
        with self._lock:
            directory = self._make(f"flowlib-{job_name}-{secrets.token_hex(12)}")
            self._delivered.append(directory)
            self._connect().put(directory, files, _STEP)
            return directory

    def remote_side(self, home: tuple[str, int], python: str | None, directory: str) -> RemoteSide:
        """Managers come home through the login node, and have its Python.

        Args:
            home: Address and port of this machine.
            python: The executor's ``worker_python``; without it, ``python3`` as it is after worker_init.
            directory: For logs, of this machine.

        Raises:
            HostUnusable: There is no way home.
        """
        return RemoteSide(self.reach_home(home), self.place(directory), shlex.quote(python or "python3"))

    def rest(self) -> None:
        """There is no job any more: remove what was delivered for them, and end the connection."""
        with self._lock:
            delivered, self._delivered = self._delivered, []
            try:
                if delivered and self._connection is not None:
                    self._connection.run(scripts.BASH, b"".join(map(scripts.remove, delivered)), _STEP)
            except HostUnusable as e:
                logger.warning("%s cannot be removed: %s", ", ".join(delivered), e)
            self.close()

    # ------------------------------------------------------------------------------------------------- the way home

    def reach_home(self, home: tuple[str, int]) -> tuple[str, ...]:
        """Make a way from compute nodes to this machine, or mend it.

        Args:
            home: Address and port of this machine.

        Returns:
            Addresses such as ``tcp://10.0.0.1:4711`` at which compute nodes reach that; the same as long as it lives.

        Raises:
            HostUnusable: It could not be done; it needs a Python 3 and AllowTcpForwarding on the login node.
        """
        with self._lock:
            connection = self._connect()
            if self._home == home and self._relay is not None and not _ended(self._relay):
                return self._addresses
            again = self._home == home
            self._home = home
            self._tunnel_port = connection.forward(self._tunnel_port if again else 0, home)
            self._start_relay(connection, self._relay_port if again else 0)
            if self._keeper is None:
                self._keeper = threading.Event()
                name = f"flowlib-ssh-{self.host}-home"
                threading.Thread(target=self._keep, args=(self._keeper,), name=name, daemon=True).start()
            return self._addresses

    def close(self) -> None:
        """End the connection, and with it the way home."""
        with self._lock:
            if self._keeper is not None:
                self._keeper.set()
                self._keeper = None
            self._disconnect()
            self._home = None
            self._tunnel_port = self._relay_port = 0

    # -------------------------------------------------------------------------------------------------------- helpers

    def _keep(self, over: threading.Event) -> None:
        """Mend the way home when it is lost, sooner than the managers' leases are over."""
        failed = False
        while not over.wait(KEEP_EVERY):
            with self._lock:
                if over.is_set() or self._home is None:
                    return
                try:
                    self.reach_home(self._home)
                    failed = False
                except FlowlibError as e:
                    if not failed:
                        logger.warning("the workers' way home is lost, trying again: %s", e)
                    failed = True

    def _make(self, name: str) -> str:
        """Make a private directory of that name; where it is."""
        done = self._connect().run(scripts.SHELL, scripts.prepare(self.private_dir, name, ""), _STEP)
        found = scripts.answers(done.out)
        scripts.judge_place(self.host, found, self.private_dir)
        return found["directory"]

    def _start_relay(self, connection: Connection, port: int) -> None:
        done = connection.run(scripts.SHELL, scripts.FIND_PYTHON3, _STEP)
        python = scripts.answers(done.out).get("python3")
        if not python:
            what = "the login node has no python3, which the relay for workers needs"
            raise problem(self.host, Problem.PYTHON, what, "install one there, or put it on the PATH of ssh commands")
        command = f"exec {shlex.quote(python)} -c {shlex.quote(relay.STARTER)}"
        channel = connection.follow(command, relay.program(self._tunnel_port, port), _STEP, keep_open=True)
        answer = connection.first_answers(channel, "relay", _STEP)
        if "relay" not in answer:
            end_channel(channel)
            what = f"the relay for workers did not start ({answer.get('error', 'no answer')})"
            raise problem(
                self.host, Problem.FORWARDING, what, "it listens on a port of the login node; is that allowed?"
            )
        self._relay = channel
        self._relay_port = int(answer["relay"])
        hosts = answer.get("addresses", "").split()
        self._addresses = tuple(f"tcp://{host}:{self._relay_port}" for host in hosts)

    def _connect(self) -> Connection:
        # Whether it is still there is only known by asking, and a command must not be sent twice.
        if self._connection is not None and self._connection.ping(self.connect_timeout):
            return self._connection
        stale = self._session
        self._disconnect()
        login = Login(
            user=self.user,
            key_filename=_names(self.key_filename) or (),
            jump=self.jump,
            known_hosts=_names(self.known_hosts),
            accept_new=self.accept_new_host_keys,
            agent=self.allow_agent,
        )
        connection = Connection(route(self.host, login, read_config(self.ssh_config)), self.connect_timeout)
        connection.open()
        self._connection = connection
        done = connection.run(scripts.SHELL, scripts.SESSION, _STEP)
        session = scripts.answers(done.out).get("session", "")
        self._session = int(session) if session.isdecimal() else 0
        if stale and stale != self._session:
            # It may not have noticed its end yet, and holds the tunnel's port.
            connection.run(scripts.BASH, scripts.end_session(stale), _STEP)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        relay_, self._relay = self._relay, None
        if relay_ is not None:
            end_channel(relay_)
        if connection is not None:
            connection.close()


def _ended(channel: paramiko.Channel) -> bool:
    return bool(channel.closed or channel.eof_received)


def _names(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)
