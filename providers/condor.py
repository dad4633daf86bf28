"""HTCondor: ``condor_submit``, ``condor_q``, ``condor_rm``, and ``condor_history`` for jobs that left the queue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.jobs.states import JobState
from flowlib.launchers import Launcher, SingleNodeLauncher
from flowlib.providers.batch import BatchProvider, whole
from flowlib.providers.dialect import Dialect, Order, QueryFailed, Reply, Seen, failed, option_lines

_STATES = {
    "1": JobState.PENDING,
    "2": JobState.RUNNING,
    "3": JobState.CANCELLED,
    "4": JobState.COMPLETED,
    "5": JobState.HELD,
    "6": JobState.RUNNING,  # its output is on its way
    "7": JobState.HELD,
}
_FIELDS = ("ClusterId", "ProcId", "JobStatus", "ExitBySignal", "ExitCode", "ExitSignal", "HoldReason", "RemoveReason")
KEEP_ENDED_S = 600
"""Seconds that an ended job stays in the queue, where its exit code is cheap to ask for."""


@dataclass(frozen=True, slots=True)
class CondorDialect(Dialect):
    """HTCondor's commands and answers; the attributes are parameters of ``CondorProvider``."""

    cores_per_slot: int | None = None
    mem_per_slot: float | None = None
    environment_variables: tuple[tuple[str, str], ...] = ()
    project: str = ""
    transfer_input_files: tuple[str, ...] = ()
    requirements: str = ""
    scheduler_options: str = ""

    label = "condor"
    directive = "#"
    unsure = re.compile(r"(?i)timed? ?out|connection reset|broken pipe|failed to commit|transaction")
    transient = re.compile(
        r"(?i)failed to connect|can't (find|connect to) (address|schedd|queue)|connection refused|temporarily|try again"
        r"|maximum total number|max_jobs|submission limit|disk.*full"
    )
    permanent = re.compile(
        r"(?i)invalid|parse error|syntax error|can't open|no such file|unknown|not authorized|denied"
    )

    def header(self, order: Order) -> list[str]:
        """None: what HTCondor must know is in a file of its own."""
        return []

    def files(self, order: Order, body: Sequence[str]) -> dict[str, str]:
        """The script and its submit description."""
        return {**Dialect.files(self, order, body), f"{order.script}.sub": "\n".join(self.description(order)) + "\n"}

    def description(self, order: Order) -> list[str]:
        """Lines of the submit description."""
        lines = [
            f"universe = {'vanilla' if order.nodes == 1 else 'parallel'}",
            f"executable = {_value(order.script)}",
            f"batch_name = {order.name}",
            f"output = {_value(order.stdout)}",
            f"error = {_value(order.stderr)}",
            f"log = {_value(order.script)}.log",
            "should_transfer_files = IF_NEEDED",
            "when_to_transfer_output = ON_EXIT_OR_EVICT",
            f"periodic_remove = JobStatus == 2 && time() - EnteredCurrentStatus > {int(order.walltime_s)}",
            f"leave_in_queue = JobStatus == 4 && time() - CompletionDate < {KEEP_ENDED_S}",
        ]
        chosen = {
            "transfer_input_files": ", ".join(self.transfer_input_files),
            "request_cpus": self.cores_per_slot,
            "request_memory": None if self.mem_per_slot is None else f"{int(self.mem_per_slot * 1024)}",
            "requirements": self.requirements,
            "environment": _environment(self.environment_variables),
            "+ProjectName": f'"{self.project}"' if self.project else "",
        }
        lines += [f"{name} = {value}" for name, value in chosen.items() if value not in ("", None)]
        lines += [f"machine_count = {order.nodes}"] if order.nodes > 1 else []
        return [*lines, *option_lines(self.scheduler_options, ""), "queue"]

    def submit(self, order: Order) -> list[str]:
        """``condor_submit -terse FILE``."""
        return ["condor_submit", "-terse", f"{order.script}.sub"]

    def read_id(self, reply: Reply) -> str | None:
        """The first id in "12.0 - 12.0", or the number in "1 job(s) submitted to cluster 12."."""
        match = re.search(r"(?m)^(\d+\.\d+)\b|submitted to cluster (\d+)", reply.stdout)
        return (match[1] or f"{match[2]}.0") if match else None

    def status(self, ids: Sequence[str]) -> list[str]:
        """``condor_q`` for these jobs."""
        return ["condor_q", *ids, "-af:t", *_FIELDS]

    def read_status(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """The states of the listed jobs."""
        if reply.code != 0:
            raise failed(reply, "condor_q")
        return _rows(reply.stdout, ids, "condor_q")

    def history(self, ids: Sequence[str]) -> list[list[str]]:
        """``condor_history`` for these jobs, no further back than it must look."""
        return [["condor_history", *ids, "-limit", str(len(ids)), "-af:t", *_FIELDS]]

    def read_history(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """How the jobs ended."""
        if reply.code != 0:
            raise failed(reply, "condor_history")
        return _rows(reply.stdout, ids, "condor_history")

    def find(self, name: str) -> list[str]:
        """``condor_q`` for this name."""
        return ["condor_q", "-constraint", f'JobBatchName == "{name}"', "-af:t", "ClusterId", "ProcId", "JobBatchName"]

    def read_find(self, reply: Reply, name: str) -> list[str]:
        """Ids of jobs of this name."""
        if reply.code != 0:
            raise failed(reply, "condor_q")
        rows = (line.strip().split("\t") for line in reply.stdout.splitlines())
        return [f"{row[0]}.{row[1]}" for row in rows if len(row) == 3 and row[2] == name]

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """``condor_rm`` for these jobs."""
        return ["condor_rm", *ids]

    def read_cancel(self, reply: Reply, ids: Sequence[str]) -> list[bool]:
        """What it says of each job; one that is not there needs no end."""
        if reply.code == 0:
            return [True] * len(ids)
        good = r"marked for removal|not found|already"
        lines = [line for line in reply.said.splitlines() if re.search(good, line)]
        return [any(re.search(rf"\b{re.escape(id_)}\b", line) for line in lines) for id_ in ids]


def _rows(text: str, ids: Sequence[str], command: str) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for line in text.splitlines():
        row = line.split("\t")
        if len(row) != len(_FIELDS):
            if line.strip():
                raise QueryFailed(f"{command} printed what cannot be read: {line[:200]!r}")
            continue
        id_ = f"{row[0].strip()}.{row[1].strip()}"
        if id_ in ids:
            found[id_] = _seen(*(value.strip() for value in row[2:]))
    return found


def _seen(status: str, by_signal: str, code: str, number: str, hold: str, remove: str) -> Seen:
    state = _STATES.get(status, JobState.UNKNOWN)
    if state is JobState.HELD:
        return Seen(state, "" if hold == "undefined" else hold)
    if state is JobState.CANCELLED:
        why = "" if remove == "undefined" else remove
        if "PeriodicRemove" in why or "periodic" in why:
            return Seen(JobState.TIMEOUT, f"it was ended at its walltime: {why}")
        return Seen(state, why)
    if state is JobState.COMPLETED:
        if by_signal == "true" and number.isdigit():
            return Seen(JobState.FAILED, "", 128 + int(number))
        exit_code = int(code) if code.isdigit() else None
        return Seen(JobState.FAILED if exit_code else state, "", exit_code)
    return Seen(state, "" if state is not JobState.UNKNOWN else f"JobStatus {status}")


def _value(path: str) -> str:
    """A path in a submit description, where $ begins a macro."""
    return path.replace("$", "$(DOLLAR)")


def _environment(variables: Sequence[tuple[str, str]]) -> str:
    """Variables as a submit description has them: quotes are doubled, values with spaces stand in single ones."""
    if not variables:
        return ""
    pairs = []
    for name, value in variables:
        text = value.replace('"', '""').replace("'", "''")
        pairs.append(f"{name}='{text}'" if re.search(r"[\s']", text) else f"{name}={text}")
    return f'"{" ".join(pairs)}"'


class CondorProvider(BatchProvider):
    """Blocks as jobs of HTCondor.

    The run directory must be on a file system that the pool's machines share.

    Args:
        nodes_per_block: Machines of a job; more than one needs HTCondor's parallel universe.
        cores_per_slot: CPUs to ask for.
        mem_per_slot: Memory in GB to ask for.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time, whatever happens.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        environment: Variables of the job.
        project: Project that the job is for.
        scheduler_options: More lines of the submit description.
        transfer_input_files: Files to copy to the machine.
        walltime: Time after which a running job is removed: "01:30:00", "2h", or seconds.
        worker_init: Shell text that runs before the manager.
        launcher: Spreads managers over the machines.
        requirements: HTCondor's expression that machines must fulfil.
        cmd_timeout: Most seconds that a command of HTCondor may take.
        cmd_chunk_size: Most jobs in one command.
        status_polling_interval: Seconds between queries.
        transport: Where the commands are run; None for here.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = CondorProvider(cores_per_slot=4, walltime="30m")
        >>> "request_cpus = 4" in provider.render_script("manager")
        True
    """

    def __init__(
        self,
        nodes_per_block: int = 1,
        cores_per_slot: int | None = None,
        mem_per_slot: float | None = None,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int = 1,
        parallelism: float = 1,
        environment: Mapping[str, str] | None = None,
        project: str = "",
        scheduler_options: str = "",
        transfer_input_files: Sequence[str] = (),
        walltime: Any = "00:10:00",
        worker_init: str = "",
        launcher: Launcher | None = None,
        requirements: str = "",
        cmd_timeout: float = 60,
        cmd_chunk_size: int = 100,
        *,
        status_polling_interval: float = 30,
        transport: Any = None,
    ) -> None:
        super().__init__(
            launcher=launcher if launcher is not None else SingleNodeLauncher(),
            nodes_per_block=nodes_per_block,
            init_blocks=init_blocks,
            min_blocks=min_blocks,
            max_blocks=max_blocks,
            parallelism=parallelism,
            walltime=walltime,
            scheduler_options=scheduler_options,
            worker_init=worker_init,
            cmd_timeout=cmd_timeout,
            status_polling_interval=status_polling_interval,
            transport=transport,
        )
        self.cores_per_slot = whole("CondorProvider", "cores_per_slot", cores_per_slot)
        self.mem_per_slot = mem_per_slot
        self.cores_per_node = self.cores_per_slot
        self.mem_per_node = mem_per_slot
        self.environment = dict(environment or {})
        self.project = project
        self.transfer_input_files = list(transfer_input_files)
        self.requirements = requirements
        self.cmd_chunk_size = whole("CondorProvider", "cmd_chunk_size", cmd_chunk_size) or 100
        self.status_batch_size = self.cmd_chunk_size

    @property
    def dialect(self) -> CondorDialect:
        """What is particular to HTCondor."""
        return CondorDialect(
            self.cores_per_slot, self.mem_per_slot, tuple((k, str(v)) for k, v in self.environment.items()),
            self.project, tuple(self.transfer_input_files), self.requirements, self.scheduler_options,
        )  # fmt: skip
