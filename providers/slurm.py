"""Slurm: ``sbatch``, ``squeue``, ``scancel``, and ``sacct`` where there is a database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.errors import ConfigurationError
from flowlib.jobs.states import JobState
from flowlib.launchers import Launcher, SingleNodeLauncher
from flowlib.providers.batch import BatchProvider, whole
from flowlib.providers.dialect import (
    Dialect,
    Order,
    QueryFailed,
    Reply,
    Seen,
    clock,
    exports,
    failed,
    option_lines,
    quoted,
)

_STATES = {
    **dict.fromkeys(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED"), JobState.PENDING),
    **dict.fromkeys(
        ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "POWER_UP_NODE"), JobState.RUNNING
    ),
    **dict.fromkeys(("SUSPENDED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"), JobState.HELD),
    "CANCELLED": JobState.CANCELLED,
    "COMPLETED": JobState.COMPLETED,
    **dict.fromkeys(
        ("FAILED", "NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED", "OUT_OF_MEMORY"),
        JobState.FAILED,
    ),
    **dict.fromkeys(("TIMEOUT", "DEADLINE", "PREEMPTED"), JobState.TIMEOUT),
}
_NEVER = {
    "AccountNotAllowed", "AssocMaxWallDurationPerJobLimit", "BadConstraints", "DependencyNeverSatisfied",
    "InvalidAccount", "InvalidQOS", "PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit",
    "QOSMaxWallDurationPerJobLimit", "QOSNotAllowed",
}  # fmt: skip
"""Why a job waits that will never start unless somebody changes the cluster or the job."""
_NOT_LAUNCHED = 53
"""The "signal" of a job whose script never ran."""


@dataclass(frozen=True, slots=True)
class SlurmDialect(Dialect):
    """Slurm's commands and answers; the attributes are parameters of ``SlurmProvider``."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    clusters: str | None = None
    cores_per_node: int | None = None
    mem_per_node: int | None = None
    gpus_per_node: int | None = None
    gres: str | None = None
    scheduler_options: str = ""
    regex_job_id: str = r"Submitted batch job (?P<id>\S*)"
    exclusive: bool = True

    label = "slurm"
    directive = "#SBATCH"
    unsure = re.compile(r"(?i)socket timed out|send/recv|zero bytes were transmitted|connection reset|broken pipe")
    transient = re.compile(
        r"(?i)unable to contact|connect failure|connection refused|job submit ?limit|submit job limit"
        r"|MaxSubmitJob|submitted jobs|temporarily|try again|inactive or drain|limit reached|munge|authentication"
        r"|protocol authentication|resource.* unavailable"
    )
    permanent = re.compile(r"(?i)invalid (partition|account|qos|feature|generic|node)|unrecognized option")

    def header(self, order: Order) -> list[str]:
        """The ``#SBATCH`` options of a job."""
        cores = None if self.cores_per_node is None else max(1, self.cores_per_node // order.tasks_per_node)
        options = {
            "job-name": order.name,
            "output": order.stdout.replace("%", "%%"),
            "error": order.stderr.replace("%", "%%"),
            "nodes": order.nodes,
            "ntasks-per-node": order.tasks_per_node,
            "time": clock(order.walltime_s),
            # A lost block is replaced by another job. The same one again would come unasked for, also when the run
            # has ended; a controller that crashed has been seen to start one twice, and then to hold it for ever.
            "no-requeue": None,
        }
        chosen: dict[str, Any] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "clusters": self.clusters,
            "gpus-per-node": self.gpus_per_node,
            "gres": self.gres,
            "mem": None if self.mem_per_node is None else f"{self.mem_per_node}g",
            "cpus-per-task": cores,
        }
        lines = [f"--{name}" if value is None else f"--{name}={quoted(str(value))}" for name, value in options.items()]
        lines += option_lines(self.scheduler_options, self.directive)
        lines += ["--exclusive"] if self.exclusive else []
        return lines + [f"--{name}={quoted(str(value))}" for name, value in chosen.items() if value is not None]

    def environment(self, order: Order) -> list[str]:
        """What a manager may use of its node, where the user told."""
        tasks = order.tasks_per_node
        return exports(
            {
                "FLOWLIB_CORES": None if self.cores_per_node is None else max(1, self.cores_per_node // tasks),
                "FLOWLIB_MEMORY_GB": None if self.mem_per_node is None else f"{self.mem_per_node / tasks:g}",
            }
        )

    def submit(self, order: Order) -> list[str]:
        """``sbatch SCRIPT``."""
        return ["sbatch", order.script]

    def read_id(self, reply: Reply) -> str | None:
        """The id in "Submitted batch job N"."""
        # The second is what --parsable among the options makes of it.
        match = re.search(self.regex_job_id, reply.stdout) or re.search(r"(?m)^(?P<id>\d+)(;\S*)?$", reply.stdout)
        return match["id"] if match and match["id"] else None

    def _clusters(self) -> list[str]:
        return [f"--clusters={self.clusters}"] if self.clusters else []

    def status(self, ids: Sequence[str]) -> list[str]:
        """``squeue`` for these jobs, ended ones included."""
        return ["squeue", *self._clusters(), "-h", "-t", "all", "-o", "%i|%T|%r", "-j", ",".join(ids)]

    def read_status(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """States as ``squeue`` tells them; without exit codes, which it does not have."""
        if reply.code == 1 and re.search(r"(?i)invalid job id", reply.stderr):
            return {}
        if reply.code != 0:
            raise failed(reply, "squeue")
        found: dict[str, Seen] = {}
        for line in reply.stdout.splitlines():
            parts = line.strip().split("|")
            if len(parts) == 3 and parts[0] in ids:
                found[parts[0]] = _seen(parts[1], parts[2])
            elif len(parts) != 3 and line.strip() and not line.startswith("CLUSTER:"):
                raise QueryFailed(f"squeue printed what cannot be read: {line[:200]!r}")
        return found

    def history(self, ids: Sequence[str]) -> list[list[str]]:
        """``sacct`` for these jobs."""
        return [["sacct", *self._clusters(), "-X", "-n", "-P", "-o", "JobID,State,ExitCode", "-j", ",".join(ids)]]

    def read_history(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """States and exit codes as ``sacct`` tells them."""
        if reply.code != 0:
            raise failed(reply, "sacct")
        found: dict[str, Seen] = {}
        for line in reply.stdout.splitlines():
            parts = line.strip().split("|")
            if len(parts) >= 3 and parts[0] in ids:
                seen = _seen(parts[1], "")
                code, why = _exit_code(parts[2])
                if seen.state.terminal:
                    # A job whose node failed has the code 0 as well.
                    code = code if code or seen.state is JobState.COMPLETED else None
                    seen = Seen(seen.state, why or seen.reason, code)
                found[parts[0]] = seen
        return found

    def find(self, name: str) -> list[str]:
        """``squeue`` for this name, ended jobs included."""
        return ["squeue", *self._clusters(), "-h", "-t", "all", "-o", "%i|%j", "--name", name]

    def read_find(self, reply: Reply, name: str) -> list[str]:
        """Ids of jobs of this name."""
        if reply.code != 0:
            raise failed(reply, "squeue")
        rows = (line.strip().partition("|") for line in reply.stdout.splitlines())
        return [id_ for id_, _, found in rows if found == name]

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """``scancel`` for these jobs."""
        return ["scancel", *self._clusters(), *ids]


def _seen(word: str, reason: str) -> Seen:
    """A state with its reason: "CANCELLED by 1000" is a state, too."""
    reason = "" if reason in ("None", "") else reason
    name = word.split(maxsplit=1)[0].rstrip("+") if word.strip() else ""
    state = _STATES.get(name, JobState.UNKNOWN)
    if state is JobState.PENDING and reason.startswith("JobHeld"):
        state = JobState.HELD
    if state is JobState.PENDING and reason in _NEVER:
        return Seen(JobState.FAILED, f"it can never start: {reason}", remove=True)
    if state is JobState.UNKNOWN or state.terminal:
        # Only what the state and the exit code do not say already.
        words = "" if name in ("COMPLETED", "FAILED") else word.strip()
        reason = ", ".join(text for text in (words, reason) if text not in ("", "NonZeroExitCode"))
    return Seen(state, reason)


def _exit_code(text: str) -> tuple[int | None, str]:
    """Exit code and what else there is to say of ``code:signal``."""
    code, _, number = text.partition(":")
    if not code.isdigit() or not number.isdigit():
        return None, ""
    if int(number) == _NOT_LAUNCHED:
        return None, "its script never ran: working directory or output file cannot be used on the node (0:53)"
    return (128 + int(number) if int(number) else int(code)), ""


class SlurmProvider(BatchProvider):
    """Blocks as jobs of Slurm.

    Args:
        partition: Partition; None for the cluster's default.
        account: Account that pays.
        qos: Quality of service.
        constraint: Features that nodes must have, as ``sbatch --constraint`` takes them.
        clusters: Clusters of a federation.
        nodes_per_block: Nodes of a job.
        cores_per_node: CPUs to ask for on each node; None for what the partition gives.
        mem_per_node: Memory in GB to ask for on each node.
        gpus_per_node: GPUs to ask for on each node.
        gres: Other resources, as ``sbatch --gres`` takes them.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time, whatever happens.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        walltime: Time limit of a job: "01:30:00", "2h", "1-12:00:00", or seconds.
        scheduler_options: More ``#SBATCH`` lines; ``#SBATCH`` itself may be left out.
        regex_job_id: Finds the job's id in what ``sbatch`` prints; must have a group ``id``.
        worker_init: Shell text that runs before the manager.
        cmd_timeout: Most seconds that a command of Slurm may take.
        status_batch_size: Most jobs in one query.
        exclusive: Whether to ask for whole nodes.
        launcher: Spreads managers over the nodes; ``SrunLauncher()`` for more than one node.
        status_polling_interval: Seconds between queries.
        transport: Where the commands are run; None for here.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = SlurmProvider("debug", account="m1234", nodes_per_block=2, walltime="30m")
        >>> "#SBATCH --time=00:30:00" in provider.render_script("manager")
        True
    """

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        clusters: str | None = None,
        nodes_per_block: int = 1,
        cores_per_node: int | None = None,
        mem_per_node: int | None = None,
        gpus_per_node: int | None = None,
        gres: str | None = None,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int = 1,
        parallelism: float = 1,
        walltime: Any = "00:10:00",
        scheduler_options: str = "",
        regex_job_id: str = r"Submitted batch job (?P<id>\S*)",
        worker_init: str = "",
        cmd_timeout: float = 10,
        status_batch_size: int = 50,
        exclusive: bool = True,
        launcher: Launcher | None = None,
        *,
        status_polling_interval: float = 30,
        transport: Any = None,
    ) -> None:
        try:
            named = "id" in re.compile(regex_job_id).groupindex
        except re.error as e:
            raise ConfigurationError(f"SlurmProvider(regex_job_id={regex_job_id!r}): {e}") from e
        if not named:
            raise ConfigurationError(f"SlurmProvider(regex_job_id={regex_job_id!r}): it needs a group (?P<id>...)")
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
        self.partition = partition
        self.account = account
        self.qos = qos
        self.constraint = constraint
        self.clusters = clusters
        self.cores_per_node = whole("SlurmProvider", "cores_per_node", cores_per_node)
        self.mem_per_node = whole("SlurmProvider", "mem_per_node", mem_per_node)
        self.gpus_per_node = whole("SlurmProvider", "gpus_per_node", gpus_per_node, least=0)
        self.gres = gres
        self.regex_job_id = regex_job_id
        self.status_batch_size = whole("SlurmProvider", "status_batch_size", status_batch_size) or 1
        self.exclusive = exclusive

    @property
    def dialect(self) -> SlurmDialect:
        """What is particular to Slurm."""
        return SlurmDialect(
            self.partition, self.account, self.qos, self.constraint, self.clusters, self.cores_per_node,
            None if self.mem_per_node is None else int(self.mem_per_node), self.gpus_per_node, self.gres,
            self.scheduler_options, self.regex_job_id, self.exclusive,
        )  # fmt: skip
