"""Blocks on a list of hosts that are reached by SSH: machines of a lab, a pile of workstations, cloud machines.

A block is a host, or several.  Nothing needs to be installed beyond Python with flowlib, and hosts need no way back to
this machine: their managers come home through the SSH connection.  What is done on hosts is in ``flowlib.ssh``: an
agent with a thread of its own for each host (``agent``), the choice of hosts (``roster``), the scripts (``scripts``).
"""

from __future__ import annotations

import inspect
import logging
import os
import secrets
import select
import shlex
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowlib.errors import ConfigurationError, HostUnusable
from flowlib.jobs.states import JobState, JobStatus
from flowlib.launchers import Launcher, SingleNodeLauncher, check_launcher
from flowlib.providers.base import ExecutionProvider, RemoteSide, check_blocks, safe_name
from flowlib.providers.watched_init import watched
from flowlib.representation import RepresentationMixin
from flowlib.ssh import scripts
from flowlib.ssh.agent import Agent
from flowlib.ssh.jobs import Bell, Job, write
from flowlib.ssh.places import Place, Work
from flowlib.ssh.roster import Roster
from flowlib.ssh.targets import Login, Target, parse, route

logger = logging.getLogger(__name__)

ASIDE = 60.0
"""Seconds after which a host is tried again that could not be reached."""
PROBE_TIMEOUT = 120.0
"""Seconds for worker_init and the search for a Python on a host."""


class SSHProvider(RepresentationMixin, ExecutionProvider):
    """Runs blocks on hosts that are reached by SSH.

    Hosts that cannot be used are set aside, each with what is wrong and what to do (``verdicts``, the log); the others
    go on.  Blocks fail when no host is left.  Keys of hosts must be known, as for ``ssh`` itself.  Needs paramiko, the
    extra ``[ssh]``.

    Args:
        hosts: The hosts: ``"host"``, ``"user@host:port"``, or aliases of the ssh_config.
        ssh_config: The file; None for ``~/.ssh/config``, "" for none.
        user: Account on the hosts that name none; None for the ssh_config's, or the local one's name.
        key_filename: Private key or keys to try first; then come the agent's and the usual ones.
        jump: Jump hosts in order, separated by commas, as for ``ssh -J``; None for the ssh_config's, "none" for none.
        known_hosts: File or files of known host keys; None for the ssh_config's, or the usual ones.
        accept_new_host_keys: Whether a host that is not known yet is trusted and its key kept. A changed key never is.
        allow_agent: Whether to use the SSH agent.
        worker_init: Shell text that runs before the manager, in bash with its login files: ``conda activate`` ...
        workdir: Directory on the hosts in which apps work; ``~`` and variables are the host's. None for this process's
            own where the host shares its file system, else one in the block's private directory, which goes with it.
        private_dir: Directory on the hosts for the blocks' private directories (0700): keys, scripts, output. None for
            ``~/.cache/flowlib/ssh``.
        python: The Python on the hosts; None to look for one of this process's version.
        nodes_per_block: Hosts of each block.
        launcher: Turns a command into one command per manager.
        init_blocks: Blocks started at once. None for as many as the hosts are good for.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time. None for as many as the hosts are good for.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        tunnel: Whether managers come home through the SSH connection. Without it they connect to this machine's
            addresses, which is faster for large data and needs a route and an open port.
        connect_timeout: Seconds for each machine on the way to answer.
        reconnect_timeout: Seconds after which a block counts as gone whose host cannot be reached any more.
        cmd_timeout: Most seconds to wait for cancelled blocks to be gone.

    Raises:
        ConfigurationError: A number makes no sense, or a host is no host.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = SSHProvider(["node1", "ann@node2:2222"], worker_init="module load python")
        >>> provider.max_blocks
        2
    """

    def __init__(
        self,
        hosts: Sequence[str],
        ssh_config: str | None = None,
        user: str | None = None,
        key_filename: str | Sequence[str] | None = None,
        jump: str | None = None,
        known_hosts: str | Sequence[str] | None = None,
        accept_new_host_keys: bool = False,
        allow_agent: bool = True,
        worker_init: str = "",
        workdir: str | None = None,
        private_dir: str | None = None,
        python: str | None = None,
        nodes_per_block: int = 1,
        launcher: Launcher | None = None,
        init_blocks: int | None = None,
        min_blocks: int = 0,
        max_blocks: int | None = None,
        parallelism: float = 1,
        tunnel: bool = True,
        connect_timeout: float = 10,
        reconnect_timeout: float = 60,
        cmd_timeout: float = 30,
    ) -> None:
        self.hosts = _check_hosts(hosts)
        texts = {"ssh_config": ssh_config, "user": user, "jump": jump, "workdir": workdir, "python": python}
        for name, text in {**texts, "private_dir": private_dir, "worker_init": worker_init}.items():
            value: object = text
            if not isinstance(value, str) and (value is not None or name == "worker_init"):
                raise ConfigurationError(f"SSHProvider({name}={value!r}): give text")
        if jump is not None and jump.strip().lower() not in ("", "none"):
            for name in jump.split(","):
                parse(name.strip())
        for name, seconds in (
            ("connect_timeout", connect_timeout),
            ("reconnect_timeout", reconnect_timeout),
            ("cmd_timeout", cmd_timeout),
        ):
            given: object = seconds
            if isinstance(given, bool) or not isinstance(given, (int, float)) or given <= 0:
                raise ConfigurationError(f"SSHProvider({name}={given!r}): give a number of seconds above 0")
        # A number that makes no sense is for the check below.
        nodes: object = nodes_per_block
        enough = len(self.hosts) // nodes if isinstance(nodes, int) and nodes > 0 else 1
        self.max_blocks = enough if max_blocks is None else max_blocks
        most: object = self.max_blocks
        first = min(enough, most) if isinstance(most, int) else enough
        self.init_blocks = check_blocks(
            "SSHProvider",
            nodes_per_block=nodes_per_block,
            init_blocks=first if init_blocks is None else init_blocks,
            min_blocks=min_blocks,
            max_blocks=self.max_blocks,
            parallelism=parallelism,
        )
        if nodes_per_block > len(self.hosts) or self.max_blocks * nodes_per_block > len(self.hosts):
            raise ConfigurationError(
                f"SSHProvider(max_blocks={self.max_blocks}, nodes_per_block={nodes_per_block}) needs "
                f"{max(1, self.max_blocks) * nodes_per_block} hosts, but there are {len(self.hosts)}"
            )
        self.ssh_config = ssh_config
        self.user = user
        self.key_filename = key_filename
        self.jump = jump
        self.known_hosts = known_hosts
        self.accept_new_host_keys = accept_new_host_keys
        self.allow_agent = allow_agent
        self.worker_init = worker_init
        self.workdir = workdir
        self.private_dir = private_dir
        self.python = python
        self.nodes_per_block = nodes_per_block
        self.launcher = check_launcher(launcher if launcher is not None else SingleNodeLauncher())
        self.min_blocks = min_blocks
        self.parallelism = parallelism
        self.tunnel = tunnel
        self.connect_timeout = connect_timeout
        self.reconnect_timeout = reconnect_timeout
        self.cmd_timeout = cmd_timeout
        self.script_dir: str | None = None
        self._lock = threading.RLock()
        self._roster: Roster[Place] = Roster(self.hosts)
        self._agents: dict[str, Agent] = {}
        self._jobs: dict[str, Job] = {}
        self._delivered: dict[str, Mapping[str, bytes]] = {}
        self._side = _Home(None, None, "")
        self._bell = Bell()
        self._shared = ""
        self._run: str | None = None

    # --------------------------------------------------------------------------------------------- the provider's face

    @property
    def label(self) -> str:
        """``ssh``."""
        return "ssh"

    @property
    def status_polling_interval(self) -> float:
        """Five seconds; changes are told at once all the same, by ``descriptors``."""
        return 5

    @property
    def resources(self) -> dict[str, dict[str, object]]:
        """Job id, hosts and last known status of each job, by job id."""
        with self._lock:
            return {
                id_: {"job_id": id_, "hosts": [p.host for p in job.places], "status": job.status()}
                for id_, job in self._jobs.items()
            }

    def remote_side(self, home: tuple[str, int], python: str | None, logdir: str) -> RemoteSide:
        """What is different for managers on the hosts; see ``ExecutionProvider.remote_side``."""
        self._side = _Home(home if self.tunnel else None, python, logdir)
        addresses = ("tcp://127.0.0.1:${FLOWLIB_HOME_PORT}",) if self.tunnel else ()
        return RemoteSide(addresses=addresses, logdir="${FLOWLIB_LOGDIR}", python='"$FLOWLIB_PYTHON"')

    def deliver(self, files: Mapping[str, bytes], job_name: str = "block") -> str:
        """Keep files until it is known which host gets the job; then they are copied there by sftp, 0600."""
        for name in files:
            if os.path.basename(name) != name or not name:
                raise ValueError(f"deliver takes plain file names, not {name!r}")
        with self._lock:
            self._delivered[job_name] = dict(files)
        return "${FLOWLIB_BLOCK_DIR}"

    def render_script(self, command: str, tasks_per_node: int = 1, job_name: str = "flowlib.auto") -> str:
        """The script that runs on each host; see ``ExecutionProvider.render_script``."""
        lines = ["#!/usr/bin/env bash", f"export JOBNAME={shlex.quote(job_name)}", "trap 'exit 143' TERM"]
        lines += scripts.work_in(self.workdir if self.workdir is not None else "${FLOWLIB_WORKDIR}")
        lines += watched(self.worker_init)
        lines.append(self.launcher(command, tasks_per_node, 1))
        return "\n".join(lines) + "\n"

    def submit(self, command: str, tasks_per_node: int, job_name: str = "flowlib.auto") -> str:
        """Queue a job for the next free hosts; returns at once.

        Args:
            command: Shell command line.
            tasks_per_node: How many copies of it on each host.
            job_name: As for ``deliver``.

        Returns:
            Its id. What became of it tells ``status``.

        Raises:
            HostUnusable: No host is left that could be tried.
        """
        with self._lock:
            if self._run != self.script_dir and all(job.over for job in self._jobs.values()):
                # Another run of the same configuration; what was wrong with hosts may be mended.
                self._run, self._roster = self.script_dir, Roster(self.hosts)
            delivered = self._delivered.pop(job_name, {})
            work = self._work()
            files = {**delivered, "job.sh": self.render_script(command, tasks_per_node, job_name).encode()}
            id_ = f"ssh-{len(self._jobs)}"
            places = [Place(id_, number, files, work) for number in range(self.nodes_per_block)]
            self._jobs[id_] = Job(id_, job_name, places, self._write_script(job_name, files["job.sh"]))
            self._bell.hang()
            for place in places:
                self._roster.add(place)
            self._assign()
        return id_

    def status(self, job_ids: Sequence[object]) -> list[JobStatus]:
        """The state of jobs; those that this provider did not start are ``MISSING``."""
        with self._lock:
            self._bell.hush()
            self._assign()
            found = [self._jobs.get(str(id_)) for id_ in job_ids]
            waits = self._why_waiting()
            statuses = [
                JobStatus(JobState.MISSING, f"this provider started no job {id_!r}")
                if job is None
                else job.status(waits)
                for id_, job in zip(job_ids, found, strict=True)
            ]
            self._rest()
            return statuses

    def cancel(self, job_ids: Sequence[object]) -> list[bool]:
        """End jobs with all their processes: SIGTERM, after two seconds SIGKILL.

        Returns:
            For each whether it is gone. False for jobs of others, and for those on hosts that did not answer within
            ``cmd_timeout``: their managers end by themselves when their lease is over.
        """
        with self._lock:
            jobs = [self._jobs.get(str(id_)) for id_ in job_ids]
            running: list[Place] = []
            for job in jobs:
                for place in job.places if job is not None else ():
                    running += [place] if self._cancel(place) else []
        deadline = time.monotonic() + self.cmd_timeout
        for place in running:
            place.ended.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._rest()
            return [job is not None and all(place.ended.is_set() for place in job.places) for job in jobs]

    def descriptors(self) -> list[int]:
        """A pipe that is readable when the state of a job has changed."""
        return self._bell.descriptors()

    def verdicts(self) -> dict[str, str]:
        """What is known of each host that was tried: usable, and with what; or what is wrong, and what to do."""
        with self._lock:
            problems = self._roster.problems()
            tried = [host for host in self.hosts if host in self._agents]
            return {host: problems.get(host) or self._agents[host].fitness() or "being tried" for host in tried}

    def check(self, timeout: float = 60) -> dict[str, str]:
        """Try all hosts as a run would, and end at once; takes as long as the slowest of them.

        Args:
            timeout: Most seconds.

        Returns:
            As from ``verdicts``, for every host.

        Example:
            >>> SSHProvider(["no-such-host.invalid"], ssh_config="", connect_timeout=1).check()  # doctest: +SKIP
            {'no-such-host.invalid': "the name 'no-such-host.invalid' is unknown ..."}
        """
        given = {name: getattr(self, name) for name in inspect.signature(SSHProvider).parameters}
        each = {"nodes_per_block": 1, "init_blocks": 0, "min_blocks": 0, "max_blocks": len(self.hosts)}
        trial = SSHProvider(**{**given, **each})
        # Where a tunnel would lead does not matter here; that there can be one does.
        trial.remote_side(("127.0.0.1", 9), None, "")
        deadline = time.monotonic() + timeout
        jobs = [trial.submit("true", 1, f"check-{number}") for number in range(len(self.hosts))]
        try:
            while "being tried" in trial.verdicts().values() and time.monotonic() < deadline:
                select.select(trial.descriptors(), [], [], max(0.0, min(1.0, deadline - time.monotonic())))
                trial.status(jobs)
            return {host: trial.verdicts().get(host, "not tried") for host in self.hosts}
        finally:
            trial.cancel(jobs)

    # -------------------------------------------------------------------------------------- what agents tell (Listener)

    def on_started(self, place: Place) -> bool:
        """A place runs; called by its host's agent. Whether that is still wanted."""
        with self._lock:
            if place.cancelled.is_set():
                return False
            place.state, place.message = JobState.RUNNING, f"on {place.host}"
            if self._roster.problems().get(place.host):
                logger.warning("SSH host %s can be used again", place.host)
            self._roster.usable(place.host)
            self._bell.ring()
            return True

    def on_ended(self, place: Place) -> None:
        """A place ended; called by its host's agent."""
        with self._lock:
            self._roster.leave(place)
            job = self._jobs[place.job]
            if all(p.ended.is_set() for p in job.places):
                job.keep_output()
            self._assign()
            self._bell.ring()

    def on_unusable(self, place: Place, error: HostUnusable) -> None:
        """A place could not be started on a host; called by the host's agent."""
        with self._lock:
            if place.ended.is_set():
                return
            text = str(error).removeprefix(f"{place.host}: ")
            again = f"tried again in {ASIDE:g} s if needed" if error.retryable else "not tried again in this run"
            logger.warning("SSH host %s is set aside (%s): %s", place.host, again, text)
            self._roster.set_aside(place.host, text, time.monotonic() + ASIDE if error.retryable else None)
            place.host = ""
            self._assign()
            self._bell.ring()

    # -------------------------------------------------------------------------------------------------------- helpers

    def _work(self) -> Work:
        from flowlib.executors.high_throughput.launch import extra_path
        from flowlib.executors.high_throughput.messages import PROTOCOL
        from flowlib.version import VERSION

        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        python = self.python or self._side.python
        return Work(
            base=self.private_dir,
            workdir=self.workdir,
            logdir=self._side.logdir,
            here=_here(),
            shared=self._shared_mark(),
            worker_init=watched(self.worker_init),
            pythons=scripts.candidates(python, self.worker_init, sys.executable or "", version),
            root=extra_path(),
            version=version,
            protocol=PROTOCOL,
            release=VERSION,
            home=self._side.address,
            probe_timeout=PROBE_TIMEOUT,
        )

    def _shared_mark(self) -> str:
        """A file that only a host with this machine's file system can have."""
        if self._shared and os.path.exists(self._shared):
            return self._shared
        if self.script_dir is None:
            return ""
        path = os.path.join(os.path.abspath(self.script_dir), f".shared-{secrets.token_hex(8)}")
        try:
            with open(path, "xb"):
                self._shared = path
        except OSError as e:
            logger.debug("%s cannot be written: %s", path, e)
            return ""
        return path

    def _write_script(self, job_name: str, text: bytes) -> str | None:
        """Keep a copy of the script here, for reports."""
        directory = self.script_dir
        if directory is None:
            return None
        path = os.path.join(os.path.abspath(directory), f"{safe_name(job_name)}.sh")
        if any(job.script == path for job in self._jobs.values()):
            path = f"{path.removesuffix('.sh')}.{len(self._jobs)}.sh"  # names are the caller's, and may be given twice
        return path if write(path, text) else None

    def _assign(self) -> None:
        """Give hosts to places that wait; fail those that no host is left for."""
        now = time.monotonic()
        for place, host in self._roster.assign(now):
            place.host = host
            place.message = f"is being started on {host}"
            self._agent(host).start(place)
        stranded = self._roster.stranded(now)
        if stranded:
            problems = self._roster.problems()
            text = "no host can be used\n" + "\n".join(f"    {host}: {what}" for host, what in problems.items())
            for place in stranded:
                self._drop(place, JobState.FAILED, text)

    def _drop(self, place: Place, state: JobState, message: str) -> None:
        """End a place that is on no host."""
        self._roster.leave(place)
        place.end(state, message)

    def _cancel(self, place: Place) -> bool:
        """Begin to end a place; whether there is something to wait for."""
        if place.ended.is_set():
            return False
        place.cancelled.set()
        if place.state is JobState.RUNNING:
            self._agent(place.host).cancel(place)
            return True
        if place.host:
            self._agent(place.host).give_up(place)
        self._drop(place, JobState.CANCELLED, "cancelled before it started")
        return False

    def _agent(self, host: str) -> Agent:
        if host not in self._agents:
            self._agents[host] = Agent(
                host, lambda: self._route(host), self.connect_timeout, self.reconnect_timeout, self
            )
        return self._agents[host]

    def _route(self, host: str) -> tuple[Target, ...]:
        from flowlib.ssh.login import read_config

        login = Login(
            user=self.user,
            key_filename=_names(self.key_filename) or (),
            jump=self.jump,
            known_hosts=_names(self.known_hosts),
            accept_new=self.accept_new_host_keys,
            agent=self.allow_agent,
        )
        return route(host, login, read_config(self.ssh_config))

    def _why_waiting(self) -> str:
        problems = self._roster.problems()
        aside = "".join(f"; {host} is set aside: {what}" for host, what in problems.items())
        return f"waits for a free host{aside}"

    def _rest(self) -> None:
        """Keep nothing open that is not needed."""
        if all(job.over for job in self._jobs.values()):
            self._bell.take_down()


@dataclass(frozen=True)
class _Home:
    """What the executor told for its next block: see ``remote_side``."""

    address: tuple[str, int] | None
    python: str | None
    logdir: str


def _check_hosts(hosts: object) -> list[str]:
    if isinstance(hosts, str) or not isinstance(hosts, Sequence) or not hosts:
        raise ConfigurationError(f"SSHProvider(hosts={hosts!r}): give a list of hosts, such as ['node1', 'ann@node2']")
    for host in hosts:
        parse(host)
    names = [str(host) for host in hosts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"SSHProvider: {', '.join(twice)} stands twice in hosts; a host has one block at a time. For more managers "
            "on a host give it twice under two names of the ssh_config"
        )
    return names


def _names(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
