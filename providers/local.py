"""Blocks on this machine: each is a bash process in a session of its own.

A job looks like this; all of it but the workers' own sessions is one process group::

    driver ── bash (guard) ── bash <job>.sh ── what the launcher starts
                  └── bash (watches the lifeline)

* The guard runs the script, writes its exit code to ``<job>.sh.ec``, and ends what the script left in the background.
* The *lifeline* is a pipe whose only write end is in the driver.  Its end-of-file is the driver's death, however that
  came.  Managers watch it themselves (``FLOWLIB_LIFELINE`` names the descriptor); for everything else there is the
  watcher, which then ends the whole group.
* A second pipe, held by the guard alone, tells the driver at once that the job ended.
"""

from __future__ import annotations

import math
import os
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.errors import ConfigurationError, ScriptPathError, SubmitException
from flowlib.jobs.states import JobState, JobStatus
from flowlib.launchers import Launcher, SingleNodeLauncher, check_launcher
from flowlib.providers import trees
from flowlib.providers.base import ExecutionProvider, check_blocks, safe_name
from flowlib.providers.watched_init import NOTE_START, watched
from flowlib.representation import RepresentationMixin
from flowlib.units import parse_time

TERM_WAITS = (0.05, 0.2, 0.75)
"""When a job is cancelled, seconds after each SIGTERM; then follows SIGKILL.

More than one, since bash can miss a signal that comes while it starts a command.
"""
ORPHAN_GRACE = 2
"""The same when it is ended because its driver is gone."""

# Arguments: bash, script. The guard traps SIGTERM so as to stay until the script ended; `trap ''` in the watcher makes
# it survive the signal that it sends.
_GUARD = """\
{{
    read -r {limit}-u {lifeline}
    trap '' TERM
    kill -TERM -- -$$
    sleep {grace}
    kill -KILL -- -$$
}} {alive}>&- >/dev/null 2>&1 &
disown
trap : TERM INT HUP
"$1" --noprofile --norc "$2" {alive}>&-
code=$?
echo $code >"$2.ec"
trap '' TERM
kill -TERM -- -$$
exit $code
"""


class LocalProvider(RepresentationMixin, ExecutionProvider):
    """Runs blocks on this machine.

    Args:
        nodes_per_block: Managers of a block, all on this machine; for tests of several nodes.
        launcher: Turns a command into one command per node.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time. None for as many as ``init_blocks`` or ``min_blocks``, at least 1.
        worker_init: Shell text that runs before the manager: ``module load``, ``conda activate`` ... It goes on when a
            command in it fails, unless it says ``set -e``; if no manager comes up, the report names these commands.
        cmd_timeout: Most seconds to wait for a cancelled job to be gone.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        walltime: Time limit of a block: "01:30:00", "2h", or seconds; None for no limit. It is ended then, as a
            scheduler would do; its workers know, and end in good order before.

    Raises:
        ConfigurationError: A number makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = LocalProvider(max_blocks=2)
        >>> print(provider.render_script("manager block-0.json", 1, "job"))
        #!/usr/bin/env bash
        export JOBNAME=job
        trap 'exit 143' TERM
        export CORES=$(getconf _NPROCESSORS_ONLN)
        manager block-0.json
        <BLANKLINE>
    """

    def __init__(
        self,
        nodes_per_block: int = 1,
        launcher: Launcher | None = None,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int | None = None,
        worker_init: str = "",
        cmd_timeout: float = 30,
        parallelism: float = 1,
        walltime: Any = None,
    ) -> None:
        if max_blocks is None:
            # Numbers of a wrong type are for the check below.
            given: tuple[Any, ...] = (init_blocks, min_blocks)
            max_blocks = max(1, *(n for n in given if isinstance(n, int)))
        self.init_blocks = check_blocks(
            "LocalProvider",
            nodes_per_block=nodes_per_block,
            init_blocks=init_blocks,
            min_blocks=min_blocks,
            max_blocks=max_blocks,
            parallelism=parallelism,
        )
        self.nodes_per_block = nodes_per_block
        self.launcher = check_launcher(launcher if launcher is not None else SingleNodeLauncher())
        self.min_blocks = min_blocks
        self.max_blocks = max_blocks
        self.worker_init = worker_init
        self.cmd_timeout = cmd_timeout
        self.parallelism = parallelism
        self.walltime = walltime
        try:
            self.walltime_s = None if walltime is None else parse_time(walltime, "LocalProvider(walltime=...)")
        except (TypeError, ValueError) as e:
            raise ConfigurationError(str(e)) from e
        self.script_dir: str | None = None
        self.cores_per_node: int | None = None
        self.mem_per_node: float | None = None
        self._jobs: dict[str, _Job] = {}
        self._own_script_dir: str | None = None

    @property
    def label(self) -> str:
        """``local``."""
        return "local"

    @property
    def status_polling_interval(self) -> float:
        """Five seconds; the end of a job is noticed at once all the same, by ``descriptors``."""
        return 5

    @property
    def resources(self) -> dict[str, dict[str, object]]:
        """Job id and last known status of each job, by job id."""
        return {id_: {"job_id": id_, "status": job.status} for id_, job in self._jobs.items()}

    def render_script(self, command: str, tasks_per_node: int = 1, job_name: str = "flowlib.auto") -> str:
        """The script of a job; see ``ExecutionProvider.render_script``."""
        # With a trap, bash lets the running command end before it acts on a SIGTERM to the whole group.
        lines = ["#!/usr/bin/env bash", f"export JOBNAME={shlex.quote(job_name)}", "trap 'exit 143' TERM"]
        if self.walltime_s is not None:
            lines.append(NOTE_START)
        lines += watched(self.worker_init)
        lines.append(self.launcher(command, tasks_per_node, self.nodes_per_block))
        return "\n".join(lines) + "\n"

    def submit(self, command: str, tasks_per_node: int, job_name: str = "flowlib.auto") -> str:
        """Start a job.

        Args:
            command: Shell command line.
            tasks_per_node: How many copies of it per node.
            job_name: Name of the job and, where possible, of its files in ``script_dir``.

        Returns:
            Its process id, as text.

        Raises:
            ScriptPathError: The script cannot be written.
            SubmitException: The process cannot be started.
        """
        script = self._write_script(self.render_script(command, tasks_per_node, job_name), job_name)
        bash = shutil.which("bash") or "/bin/bash"
        lifeline = _lifeline.hold()
        alive_read, alive_write = os.pipe()
        try:
            limit = "" if self.walltime_s is None else f"-t {math.ceil(self.walltime_s)} "
            guard = _GUARD.format(lifeline=lifeline, alive=alive_write, grace=ORPHAN_GRACE, limit=limit)
            with open(f"{script}.out", "wb") as out, open(f"{script}.err", "wb") as err:
                process = subprocess.Popen(
                    [bash, "--noprofile", "--norc", "-c", guard, "flowlib-block", bash, script],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, "FLOWLIB_LIFELINE": str(lifeline)},
                    pass_fds=(lifeline, alive_write),
                    start_new_session=True,
                )
        except OSError as e:
            os.close(alive_read)
            _lifeline.release()
            raise SubmitException(job_name, f"cannot start {bash}: {e}") from e
        finally:
            os.close(alive_write)
        status = JobStatus(JobState.RUNNING, None, None, f"{script}.out", f"{script}.err", script)
        over = math.inf if self.walltime_s is None else time.monotonic() + math.ceil(self.walltime_s)
        self._jobs[str(process.pid)] = _Job(process, script, alive_read, status, over)
        return str(process.pid)

    def status(self, job_ids: Sequence[object]) -> list[JobStatus]:
        """The state of jobs; those that this provider did not start are ``MISSING``."""
        jobs = [self._jobs.get(str(id_)) for id_ in job_ids]
        live = {job.alive: job for job in jobs if job is not None and job.alive >= 0}
        for fd in _readable(list(live), 0):
            live[fd].reap()
        return [
            JobStatus(JobState.MISSING, f"this provider started no job {id_!r}") if job is None else job.status
            for id_, job in zip(job_ids, jobs, strict=True)
        ]

    def cancel(self, job_ids: Sequence[object]) -> list[bool]:
        """End jobs with all their processes: SIGTERM, after a second SIGKILL.

        Returns:
            For each whether it is gone; also True for those that ended before. False for jobs of others, and for those
            that could not be killed within ``cmd_timeout``.
        """
        jobs = [self._jobs.get(str(id_)) for id_ in job_ids]
        live = [job for job in jobs if job is not None and not job.ended()]
        if live:
            for job in live:
                job.cancelled = True
            _end(live, max(1.0, float(self.cmd_timeout)))
        return [job is not None and job.ended() for job in jobs]

    def descriptors(self) -> list[int]:
        """The pipes that close when a job ends."""
        return [job.alive for job in list(self._jobs.values()) if job.alive >= 0]

    def _write_script(self, text: str, job_name: str) -> str:
        """Write a script under a name that no other job has."""
        directory = self.script_dir
        if directory is None:
            self._own_script_dir = self._own_script_dir or tempfile.mkdtemp(prefix="flowlib-")
            directory = self._own_script_dir
        stem = os.path.abspath(os.path.join(directory, safe_name(job_name)))
        path, number = f"{stem}.sh", 0
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            while True:
                try:
                    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
                except FileExistsError:
                    number += 1
                    path = f"{stem}.{number}.sh"
                    continue
                with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(text)
                return path
        except OSError as e:
            raise ScriptPathError(path, str(e)) from e


@dataclass(slots=True, eq=False)
class _Job:
    """A job of this process.

    Attributes:
        process: The guard, leader of the job's session and process group.
        script: What it runs.
        alive: Read end of the pipe that closes when the guard ends; -1 once that was seen.
        status: What is known.
        over: When it is ended at its walltime.
        cancelled: Whether it was told to end.
    """

    process: subprocess.Popen[bytes]
    script: str
    alive: int
    status: JobStatus
    over: float = math.inf
    cancelled: bool = False

    def ended(self) -> bool:
        """Whether it ended, as seen now."""
        return self.status.terminal or bool(_readable([self.alive], 0))

    def reap(self) -> None:
        """Take the exit code of the guard, whose pipe has closed, and end what is left of its group."""
        # Before it is waited for: as long as it is a zombie, its id cannot belong to others.
        _signal_group(self.process.pid, signal.SIGKILL)
        code = _wait(self.process)
        if code is None:
            code = self._written_code()
        os.close(self.alive)
        self.alive = -1
        _lifeline.release()
        state, message = _meaning(code, self.cancelled)
        if state is JobState.FAILED and time.monotonic() >= self.over:
            state, message = JobState.TIMEOUT, "it was ended at its walltime"
        old = self.status
        self.status = JobStatus(state, message, code, old.stdout_path, old.stderr_path, old.script_path)

    def _written_code(self) -> int | None:
        """The exit code from the guard's file: for programs that wait for other people's children."""
        try:
            with open(f"{self.script}.ec", encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            return None


def _meaning(code: int | None, cancelled: bool) -> tuple[JobState, str]:
    if cancelled:
        return JobState.CANCELLED, "cancelled"
    if code is None:
        return JobState.CANCELLED, "killed by somebody else"
    if code == 0:
        return JobState.COMPLETED, "it ended by itself"
    if code > 128 and code - 128 in signal.valid_signals():
        return JobState.FAILED, f"ended by {signal.Signals(code - 128).name}"
    return JobState.FAILED, "its last command failed"


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """Exit code of a process that is ending, 128 + n for signal n; None if somebody else has waited for it."""
    deadline = time.monotonic() + 5
    pause = 0.0005
    while time.monotonic() < deadline:
        try:
            pid, status = os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            process.returncode = 0  # so that Popen does not look for it either
            return None
        if pid:
            code = os.waitstatus_to_exitcode(status)
            process.returncode = code
            return code if code >= 0 else 128 - code
        # Its pipe is closed, it is a few instructions from being a zombie.
        select.select([], [], [], pause)
        pause = min(0.05, pause * 2)
    return None


def _end(jobs: list[_Job], patience: float) -> None:
    """End jobs with everything below them and in their sessions; returns when they are gone or patience is over."""
    roots = {job.process.pid for job in jobs}
    family = trees.descendants(roots)
    for seconds in TERM_WAITS:
        for job in jobs:
            if not job.ended():
                _signal_group(job.process.pid, signal.SIGTERM)
        if _until_closed(jobs, seconds):
            break
    family |= trees.descendants(roots) | trees.members(roots)
    for process in family:
        if process.pid not in roots:
            process.kill()
    for job in jobs:
        # Not one whose pipe has closed: it may be waited for, and its id taken. Its group is ended by `reap`.
        if not job.ended():
            _signal_group(job.process.pid, signal.SIGKILL)
    _until_closed(jobs, patience)


def _until_closed(jobs: list[_Job], seconds: float) -> bool:
    """Wait until all jobs ended; whether they did within that time."""
    deadline = time.monotonic() + seconds
    waiting = {job.alive for job in jobs if job.alive >= 0}
    while waiting:
        left = deadline - time.monotonic()
        closed = _readable(list(waiting), max(0.0, left))
        if not closed:
            return False
        waiting -= set(closed)
    return True


def _readable(fds: list[int], seconds: float) -> list[int]:
    """Which of the descriptors are readable, or closed at the other end, within that time."""
    if not fds:
        return []
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN | select.POLLHUP)
    return [fd for fd, _ in poller.poll(int(seconds * 1000))]


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # nobody is left in it (macOS says the latter of a group of zombies)


class _Lifeline:
    """The pipe whose closing tells local blocks that this process is gone. It exists while there are jobs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read = self._write = -1
        self._users = 0
        os.register_at_fork(after_in_child=self._drop)

    def hold(self) -> int:
        """The read end, for one more job."""
        with self._lock:
            if self._read < 0:
                self._read, self._write = os.pipe()
            self._users += 1
            return self._read

    def release(self) -> None:
        """One job less."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                os.close(self._read)
                os.close(self._write)
                self._read = self._write = -1

    def _drop(self) -> None:
        """In a process that this one forked: its life does not keep blocks alive."""
        self._lock = threading.Lock()
        if self._write >= 0:
            os.close(self._write)
            self._write = -1


_lifeline = _Lifeline()
