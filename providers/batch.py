"""Blocks as jobs of a batch scheduler: what all schedulers have in common.

A scheduler is slow, shared, and answers late, wrongly or not at all.  So:

* Every command has a deadline, after which it is killed.
* A submission whose answer was lost may have made a job.  Its name is unique; it is looked for by that name, and
  submitted again only after the scheduler said twice that it has no such job.  Until then the block counts as alive.
* One query asks about all jobs.  A query that fails says nothing of any job.
* A job that left the queue is asked of the accounting, then of the exit code that its script wrote; if neither knows,
  it counts as alive for some minutes more.

What is particular to a scheduler is in its dialect, where it is run in the transport.
"""

from __future__ import annotations

import os
import secrets
import shlex
import tempfile
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowlib.errors import ConfigurationError, ExecutionProviderException, ScriptPathError, SubmitException
from flowlib.jobs.states import JobState, JobStatus
from flowlib.launchers import Launcher, check_launcher
from flowlib.providers.base import ExecutionProvider, RemoteSide, check_blocks, safe_name
from flowlib.providers.dialect import Dialect, Order, QueryFailed, Refusal, Reply, Seen
from flowlib.providers.transport import LocalTransport, Transport
from flowlib.providers.watched_init import NOTE_START, watched
from flowlib.representation import RepresentationMixin
from flowlib.units import parse_time

VANISHED_AFTER = 300.0
"""Seconds that a job is away from queue and accounting, without an exit code, before it counts as gone."""
LOOKUPS_AT_ONCE = 3
"""Most lost submissions that are looked for in one turn, since each may take a command's whole time."""
KEEP_ENDED = 1000
"""Ended jobs that are remembered."""


class BatchProvider(RepresentationMixin, ExecutionProvider):
    """Base of the providers of batch schedulers; a subclass has the parameters, and says its dialect.

    Args:
        launcher: Spreads managers over the nodes of a job.
        nodes_per_block: Nodes of a job.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        walltime: Time limit of a job, in any usual spelling.
        scheduler_options: More lines for the scheduler, one option each.
        worker_init: Shell text that runs before the manager.
        cmd_timeout: Most seconds that a command of the scheduler may take.
        status_polling_interval: Seconds between queries.
        transport: Where commands are run; None for here.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.
    """

    def __init__(
        self,
        *,
        launcher: Launcher,
        nodes_per_block: int,
        init_blocks: int,
        min_blocks: int,
        max_blocks: int,
        parallelism: float,
        walltime: Any,
        scheduler_options: str,
        worker_init: str,
        cmd_timeout: float,
        status_polling_interval: float,
        transport: Transport | None,
    ) -> None:
        kind = type(self).__name__
        self.init_blocks = check_blocks(
            kind,
            nodes_per_block=nodes_per_block,
            init_blocks=init_blocks,
            min_blocks=min_blocks,
            max_blocks=max_blocks,
            parallelism=parallelism,
        )
        self.launcher = check_launcher(launcher)
        self.nodes_per_block = nodes_per_block
        self.min_blocks = min_blocks
        self.max_blocks = max_blocks
        self.parallelism = parallelism
        self.walltime = walltime
        try:
            self.walltime_s: float | None = parse_time(walltime, f"{kind}(walltime=...)")
        except (TypeError, ValueError) as e:
            raise ConfigurationError(str(e)) from e
        for name, value in (("scheduler_options", scheduler_options), ("worker_init", worker_init)):
            text: object = value
            if not isinstance(text, str):
                raise ConfigurationError(f"{kind}({name}={text!r}): give text, with a line for each option or command")
        self.scheduler_options = scheduler_options
        self.worker_init = worker_init
        self.cmd_timeout = _seconds(kind, "cmd_timeout", cmd_timeout)
        self._interval = _seconds(kind, "status_polling_interval", status_polling_interval)
        self.transport: Transport = transport if transport is not None else LocalTransport()
        self.script_dir: str | None = None
        self.cores_per_node: int | None = None
        self.mem_per_node: float | None = None
        self.vanished_after = VANISHED_AFTER
        self.status_batch_size = 200
        self._jobs: dict[str, _Job] = {}
        self._token = secrets.token_hex(3)
        self._count = 0
        self._own_script_dir: str | None = None

    @property
    @abstractmethod
    def dialect(self) -> Dialect:
        """What is particular to the scheduler, with this provider's options."""

    @property
    def label(self) -> str:
        """The scheduler's name."""
        return self.dialect.label

    @property
    def status_polling_interval(self) -> float:
        """Seconds between queries, each of which asks about all jobs."""
        return self._interval

    @property
    def resources(self) -> dict[str, dict[str, object]]:
        """By the id that ``submit`` returned: the scheduler's own id, the job's name, and the last known status."""
        return {
            handle: {"job_id": job.id, "job_name": job.order.name, "status": job.status}
            for handle, job in self._jobs.items()
        }

    def record(self) -> dict[str, Any]:
        """What is needed to find and end this provider's jobs when this process is gone, as plain values.

        Jobs are found by their names, which the scripts hold; ``flowlib cancel`` reads this.
        """
        return {
            "scheduler": self.label,
            "clusters": getattr(self.dialect, "clusters", None),
            "script_dir": self.script_dir,
            "token": self._token,
            "login_node": None if isinstance(self.transport, LocalTransport) else repr(self.transport),
        }

    # ------------------------------------------------------------------------------------------------- scripts

    def render_script(self, command: str, tasks_per_node: int = 1, job_name: str = "flowlib.auto") -> str:
        """The script of a job, but for the number in its name; see ``ExecutionProvider.render_script``."""
        files = self._render(self._order(job_name, tasks_per_node, number=0, ask=False), command)
        return "\n".join(files.values())

    def _order(self, job_name: str, tasks_per_node: int, number: int, ask: bool = True) -> Order:
        name = self.dialect.job_name(safe_name(job_name), f"{self._token}{number}")
        directory = os.path.abspath(self.script_dir or self._own_script_dir or tempfile.gettempdir())
        path = os.path.join(self.transport.place(directory, ask), f"{safe_name(job_name)}.{self._token}{number}.sh")
        return Order(name, self.nodes_per_block, tasks_per_node, self.walltime_s or 0.0, path)

    def _render(self, order: Order, command: str) -> dict[str, str]:
        # With a trap, bash lets the running command end before it acts on a SIGTERM to the whole job.
        body = [
            "",
            f"flowlib_exit_file={shlex.quote(order.exit_file)}",
            'rm -f "$flowlib_exit_file"',
            """trap 'echo "$?" >"$flowlib_exit_file"' EXIT""",
            "trap 'exit 143' TERM",
            f"export JOBNAME={shlex.quote(order.name)}",
            *self.dialect.environment(order),
            NOTE_START,
            *watched(self.worker_init),
            "",
            self.launcher(command, order.tasks_per_node, order.nodes),
        ]
        return self.dialect.files(order, body)

    # ------------------------------------------------------------------------------------- another machine's

    @property
    def tunnel(self) -> bool:
        """Whether managers come home through a connection that begins on this machine."""
        return self.transport.tunnel

    def deliver(self, files: Mapping[str, bytes], job_name: str = "block") -> str:
        """See ``ExecutionProvider.deliver``."""
        return self.transport.deliver(files, job_name) or super().deliver(files, job_name)

    def remote_side(self, home: tuple[str, int], python: str | None, logdir: str) -> RemoteSide | None:
        """See ``ExecutionProvider.remote_side``."""
        return self.transport.remote_side(home, python, logdir)

    # -------------------------------------------------------------------------------------------------- submit

    def submit(self, command: str, tasks_per_node: int, job_name: str = "flowlib.auto") -> str:
        """Queue a job.

        Args:
            command: Shell command line that starts one manager.
            tasks_per_node: How many times to run it on each node.
            job_name: The start of its name.

        Returns:
            The scheduler's id; or the job's name, if the scheduler's answer was lost and the job may exist.

        Raises:
            ScriptPathError: The script cannot be written.
            SubmitException: It was refused. ``retryable`` says whether asking again can help.
        """
        if self.script_dir is None and self._own_script_dir is None:
            self._own_script_dir = tempfile.mkdtemp(prefix="flowlib-")
        order = self._order(job_name, tasks_per_node, self._count)
        self._count += 1
        try:
            self.transport.put(self._render(order, command))
        except OSError as e:
            raise ScriptPathError(order.script, str(e)) from e
        job = _Job(order, JobStatus(JobState.PENDING, None, None, order.stdout, order.stderr, order.script))
        refusal, reply = self._submit(job)
        if refusal is not None:
            if not refusal.unsure:
                raise self._refused(job, refusal, reply)
            job.doubt = f"{refusal.why}, so it is not known whether there is a job {order.name!r}: {reply.said}"
            self._find(job)
        self._forget_old()
        handle = job.id or order.name
        self._jobs[handle] = job
        return handle

    def _submit(self, job: _Job) -> tuple[Refusal | None, Reply]:
        """Run the submit command; the refusal if there is one."""
        dialect = self.dialect
        reply = self.transport.run(
            dialect.submit(job.order), input=dialect.submit_input(job.order), timeout=self.cmd_timeout
        )
        outcome = dialect.read_submit(reply)
        if isinstance(outcome, Refusal):
            return outcome, reply
        self._found(job, outcome)
        return None, reply

    def _refused(self, job: _Job, refusal: Refusal, reply: Reply) -> SubmitException:
        asked = [
            f"{name}={value!r}"
            for name in ("account", "project", "bank", "partition", "queue", "qos", "nodes_per_block", "walltime")
            if (value := getattr(self, name, None)) not in (None, "")
        ]
        why = f"{refusal.why} (asked for {', '.join(asked)})"
        error = SubmitException(job.order.name, why, reply.stdout, reply.stderr, reply.code)
        error.retryable = refusal.retryable
        return error

    def _found(self, job: _Job, id_: str) -> None:
        job.id = id_
        job.doubt = ""
        job.absent = 0
        job.status = replace(job.status, message=None)
        try:
            # For those who look for jobs of a run whose script is gone.
            self.transport.put({f"{job.order.script}.{job.tries}.id": f"{id_}\n"}, 0o600)
        except OSError:
            pass  # a full disk, say; the job is there and is watched all the same
        job.tries += 1

    def _find(self, job: _Job) -> bool:
        """Look for a job by its name; whether the scheduler answered."""
        dialect = self.dialect
        try:
            ids = dialect.read_find(self._ask(dialect.find(job.order.name)), job.order.name)
        except QueryFailed:
            return False
        if ids:
            self._found(job, ids[0])
            for other in ids[1:]:
                self._run_cancel([other])
        return True

    def _resolve(self) -> None:
        """Find out about submissions whose answers were lost."""
        lost = [job for job in self._jobs.values() if job.id is None and not job.status.terminal]
        for job in lost[:LOOKUPS_AT_ONCE]:
            if not self._find(job):
                return  # the scheduler does not answer; no use in asking more
            if job.id is not None:
                if job.told:
                    self._run_cancel([job.id])
                continue
            job.absent += 1
            if job.absent < 2:
                continue
            if job.told:
                job.status = replace(job.status, state=JobState.CANCELLED, message="cancelled before it was queued")
                continue
            job.absent = 0
            refusal, reply = self._submit(job)
            if refusal is not None and not refusal.retryable:
                error = self._refused(job, refusal, reply)
                job.status = replace(job.status, state=JobState.FAILED, message=str(error))

    # -------------------------------------------------------------------------------------------------- status

    def status(self, job_ids: Sequence[object]) -> list[JobStatus]:
        """The state of jobs, by one query for all that are alive.

        Raises:
            ExecutionProviderException: No query was answered.
        """
        self._resolve()
        asked = [job for id_ in job_ids if (job := self._jobs.get(str(id_))) is not None]
        live = {job.id: job for job in asked if job.id is not None and not job.status.terminal}
        errors = []
        groups = list(_groups(list(live), self.status_batch_size))
        for ids in groups:
            try:
                seen = self.dialect.read_status(self._ask(self.dialect.status(ids)), ids)
            except QueryFailed as e:
                errors.append(str(e))
            else:
                self._take([live[id_] for id_ in ids], seen)
        if errors and len(errors) == len(groups):
            raise ExecutionProviderException(errors[0])
        found = []
        for id_ in job_ids:
            known = self._jobs.get(str(id_))
            if known is None:
                found.append(JobStatus(JobState.MISSING, f"this provider submitted no job {id_!r}"))
            elif known.id is None and not known.status.terminal:
                found.append(replace(known.status, state=JobState.UNKNOWN, message=known.doubt))
            else:
                found.append(known.status)
        return found

    def _ask(self, argv: Sequence[str]) -> Reply:
        return self.transport.run(argv, timeout=self.cmd_timeout, query=True)

    def _take(self, jobs: Sequence[_Job], seen: dict[str, Seen]) -> None:
        """Take over what a query told of these jobs."""
        past = self._past([job for job in jobs if not self._clear(job, seen.get(job.id or ""))])
        remove = []
        for job in jobs:
            id_ = job.id or ""
            told = _best(seen.get(id_), past.get(id_))
            if told is None:
                self._vanished(job)
                continue
            job.gone_since = None
            self._set(job, told)
            if told.remove and not job.told:
                remove.append(id_)
        if remove:
            self._run_cancel(remove)

    def _clear(self, job: _Job, seen: Seen | None) -> bool:
        """Whether there is nothing more to find out about a job now."""
        if seen is None:
            # Of another code than 0 the accounting may know the cause: the walltime, say.
            return self._written_code(job) == 0
        if not seen.state.terminal or seen.exit_code is not None or seen.remove:
            return True
        done = seen.state in (JobState.COMPLETED, JobState.CANCELLED) or job.told
        return done or self._written_code(job) is not None

    def _past(self, jobs: Sequence[_Job]) -> dict[str, Seen]:
        """What the accounting knows of these jobs; {} if it does not answer."""
        ids = [job.id for job in jobs if job.id is not None]
        found: dict[str, Seen] = {}
        for argv in self.dialect.history(ids) if ids else []:
            try:
                found.update(self.dialect.read_history(self._ask(argv), ids))
            except QueryFailed:
                break  # many sites have none, or one that is down; the exit code's file may tell
        return found

    def _vanished(self, job: _Job) -> None:
        """Neither queue nor accounting know the job."""
        now = time.monotonic()
        code = self._written_code(job)
        if code is not None and (code <= 128 or job.gone_since is not None):  # a kill's cause may come late
            self._set(job, Seen(JobState.FAILED if code else JobState.COMPLETED, "", code))
            return
        if job.gone_since is None:
            job.gone_since = now
        if job.told:
            self._set(job, Seen(JobState.CANCELLED))
        elif now - job.gone_since >= self.vanished_after:
            text = f"{self.label} does not know the job any more, and it left no exit code"
            job.status = replace(job.status, state=JobState.MISSING, message=text)
        else:
            text = f"{self.label} does not list the job, and it left no exit code; it counts as alive for a while"
            job.status = replace(job.status, state=JobState.UNKNOWN, message=text)

    def _set(self, job: _Job, seen: Seen) -> None:
        code = seen.exit_code
        state, message = seen.state, seen.reason or None
        if state.terminal:
            if code is None:
                code = self._written_code(job)
            if job.told:
                state, message = JobState.CANCELLED, "cancelled"
            elif state is JobState.COMPLETED and code:
                state = JobState.FAILED
            if message is None:
                message = "it ended by itself" if code == 0 else "its last command failed" if code else None
        job.status = replace(job.status, state=state, message=message, exit_code=code if state.terminal else None)
        if state.terminal:
            out, err = self.transport.bring(job.order.stdout), self.transport.bring(job.order.stderr)
            job.status = replace(job.status, stdout_path=out, stderr_path=err)

    def _written_code(self, job: _Job) -> int | None:
        text = self.transport.read(job.order.exit_file)
        return int(text) if text is not None and text.strip().isdigit() else None

    # -------------------------------------------------------------------------------------------------- cancel

    def cancel(self, job_ids: Sequence[object]) -> list[bool]:
        """End jobs, by one command for all.

        Returns:
            For each whether the scheduler took the order, or the job has ended before. A job of which it is not known
            whether it exists is ended once it is found.
        """
        ids: list[str] = []
        for id_ in job_ids:
            job = self._jobs.get(str(id_))
            if job is None or job.status.terminal:
                continue
            if job.id is None:
                self._find(job)
            job.told = True
            if job.id is not None:
                ids.append(job.id)
        accepted: dict[str, bool] = {}
        for group in _groups(ids, self.status_batch_size):
            accepted.update(zip(group, self._run_cancel(group), strict=True))
        answers = []
        for id_ in job_ids:
            known = self._jobs.get(str(id_))
            answers.append(known is not None and (known.status.terminal or accepted.get(known.id or "", False)))
        if all(job.told or job.status.terminal for job in self._jobs.values()):
            self.transport.rest()
        return answers

    def _run_cancel(self, ids: Sequence[str]) -> list[bool]:
        reply = self.transport.run(self.dialect.cancel(ids), timeout=self.cmd_timeout, query=True)
        return self.dialect.read_cancel(reply, ids)

    def _forget_old(self) -> None:
        """Keep the memory of a run with very many jobs bounded."""
        ended = [handle for handle, job in self._jobs.items() if job.status.terminal]
        for handle in ended[: max(0, len(ended) - KEEP_ENDED)]:
            del self._jobs[handle]


@dataclass(slots=True, eq=False)
class _Job:
    """A job, or a submission that may have become one.

    Attributes:
        order: What was ordered.
        status: What is known.
        id: The scheduler's id; None as long as it is not known whether there is one.
        doubt: Why that is so.
        absent: How often the scheduler said in a row that there is none of its name.
        told: Whether it was told to end.
        gone_since: When it was first missed in queue and accounting.
        tries: How often an id was learnt.
    """

    order: Order
    status: JobStatus
    id: str | None = None
    doubt: str = ""
    absent: int = 0
    told: bool = False
    gone_since: float | None = None
    tries: int = 0


def _best(now: Seen | None, past: Seen | None) -> Seen | None:
    """What to believe of what queue and accounting say: the accounting knows more of what ended."""
    if now is None or past is None:
        return now or past
    if now.state.terminal and past.state.terminal:
        return replace(past, reason=past.reason or now.reason)
    return now


def _groups(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    return (list(ids[start : start + size]) for start in range(0, len(ids), size))


def _seconds(provider: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigurationError(f"{provider}({name}={value!r}): give seconds, more than 0")
    return value


def whole(provider: str, name: str, value: object, *, least: int = 1) -> int | None:
    """A whole number, or None.

    Raises:
        ConfigurationError: It is something else, or too small.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{provider}({name}={value!r}): give a whole number, {least} or more, or None")
    return value
