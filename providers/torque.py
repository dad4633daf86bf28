"""Torque, and what other systems of the PBS family have in common with it: ``qsub``, ``qstat -f``, ``qdel``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.jobs.states import JobState
from flowlib.launchers import Launcher
from flowlib.machine_launchers import AprunLauncher
from flowlib.providers.batch import BatchProvider
from flowlib.providers.dialect import Dialect, Order, Reply, Seen, clock, failed, option_lines, quoted

_STATES = {
    **dict.fromkeys("QWT", JobState.PENDING),
    **dict.fromkeys("HSU", JobState.HELD),
    **dict.fromkeys("RBEM", JobState.RUNNING),
    **dict.fromkeys("CFX", JobState.COMPLETED),
}
_FIELD = re.compile(r"^ {4}([\w.]+) = (.*)$")
_UNKNOWN_JOB = re.compile(r"(?i)unknown job id(?: error)? (\S+)")
_UNREACHABLE = re.compile(r"(?i)cannot connect|connection refused|no route|pbs_server|communication failure|timed out")
WALLTIME_CODES = (-29, -11)
"""Exit statuses of jobs that the scheduler ended at their time limit: of OpenPBS and of Torque."""


@dataclass(frozen=True, slots=True)
class TorqueDialect(Dialect):
    """Torque's commands and answers; the attributes are parameters of ``TorqueProvider``."""

    account: str | None = None
    queue: str | None = None
    scheduler_options: str = ""

    label = "torque"
    directive = "#PBS"
    name_limit = 15
    unsure = re.compile(r"(?i)timed? ?out|end of file|connection reset|broken pipe|premature")
    transient = re.compile(
        r"(?i)cannot connect|connection refused|couldn't connect|no route|would exceed|per-user limit|maximum number"
        r"|temporarily|try again|queue is not enabled|busy|host unreachable"
    )
    permanent = re.compile(
        r"(?i)unknown (queue|resource|host)|unauthorized|illegal|invalid (option|account|credential)|violates"
    )

    def header(self, order: Order) -> list[str]:
        """The ``#PBS`` options of a job."""
        chosen = {"-q": self.queue, "-A": self.account}
        return [
            "-S /bin/bash",
            f"-N {order.name}",
            "-m n",
            # Another block takes the place of a lost one; this one again would come unasked for.
            "-r n",
            f"-l walltime={clock(order.walltime_s)}",
            self.size(order),
            f"-o {quoted(order.stdout)}",
            f"-e {quoted(order.stderr)}",
            *(f"{flag} {quoted(value)}" for flag, value in chosen.items() if value is not None),
            *option_lines(self.scheduler_options, self.directive),
        ]

    def size(self, order: Order) -> str:
        """The option that says how many nodes."""
        return f"-l nodes={order.nodes}:ppn={order.tasks_per_node}"

    def environment(self, order: Order) -> list[str]:
        """Jobs start in the home directory; the others' start where they were submitted."""
        return ['cd "${PBS_O_WORKDIR:-.}"']

    def submit(self, order: Order) -> list[str]:
        """``qsub SCRIPT``."""
        return ["qsub", order.script]

    def read_id(self, reply: Reply) -> str | None:
        """The last line that looks like an id: sites print greetings before it."""
        found = [
            line.strip() for line in reply.stdout.splitlines() if re.fullmatch(r"\d+(\[\])?(\.\S+)?", line.strip())
        ]
        return found[-1] if found else None

    def status(self, ids: Sequence[str]) -> list[str]:
        """``qstat -f`` for these jobs."""
        return ["qstat", "-f", *ids]

    def read_status(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """The states of the listed jobs; those that are neither listed nor said to be unknown are in doubt."""
        told = self.jobs(reply.stdout)
        unknown = {_number(id_) for id_ in _UNKNOWN_JOB.findall(reply.stderr)}
        if reply.code is None or (reply.code != 0 and not unknown) or _UNREACHABLE.search(reply.stderr):
            raise failed(reply, "qstat")
        states = {_number(id_): fields for id_, fields in told.items()}
        found: dict[str, Seen] = {}
        for id_ in ids:
            fields = states.get(_number(id_))
            if fields is not None:
                found[id_] = _seen(fields)
            elif _number(id_) not in unknown:
                found[id_] = Seen(JobState.UNKNOWN, "qstat said nothing of it")
        return found

    def jobs(self, text: str) -> dict[str, dict[str, str]]:
        """The fields of each job in what ``qstat -f`` printed."""
        found: dict[str, dict[str, str]] = {}
        fields: dict[str, str] = {}
        name = ""
        for line in text.splitlines():
            if line.startswith("Job Id:"):
                fields = found[line.partition(":")[2].strip()] = {}
                name = ""
            elif match := _FIELD.match(line):
                name = match[1]
                fields[name] = match[2]
            elif line.startswith("\t") and name:
                fields[name] += line[1:]
        return found

    def find(self, name: str) -> list[str]:
        """``qstat -f`` for all jobs: it cannot look for a name."""
        return ["qstat", "-f"]

    def read_find(self, reply: Reply, name: str) -> list[str]:
        """Ids of jobs of this name."""
        if reply.code != 0 or _UNREACHABLE.search(reply.stderr):
            raise failed(reply, "qstat")
        return [id_ for id_, fields in self.jobs(reply.stdout).items() if fields.get("Job_Name") == name]

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """``qdel`` for these jobs."""
        return ["qdel", *ids]

    def read_cancel(self, reply: Reply, ids: Sequence[str]) -> list[bool]:
        """A job that is not there any more needs no end; a list is worked through to its end."""
        if reply.code is None or _UNREACHABLE.search(reply.said):
            return [False] * len(ids)
        if reply.code == 0:
            return [True] * len(ids)
        lines = reply.said.splitlines()
        gone = re.compile(r"(?i)unknown job|has finished|invalid state|complete")
        bad = [line for line in lines if not gone.search(line)]
        return [not any(re.search(rf"\b{re.escape(_number(id_))}\b", line) for line in bad) for id_ in ids]


def _number(id_: str) -> str:
    """The part of an id that is the same on all hosts of a site."""
    return id_.partition(".")[0]


def _seen(fields: dict[str, str]) -> Seen:
    """What the fields of a job say."""
    lower = {name.lower(): value for name, value in fields.items()}
    state = _STATES.get(lower.get("job_state", "?"), JobState.UNKNOWN)
    comment = lower.get("comment", "")
    if state is JobState.PENDING and comment.startswith("Can Never Run"):
        return Seen(JobState.FAILED, f"it can never start: {comment}", remove=True)
    if state is not JobState.COMPLETED:
        return Seen(state, comment if state is not JobState.RUNNING else "")
    text = lower.get("exit_status", "")
    if not text.lstrip("-").isdigit():
        return Seen(JobState.CANCELLED, comment or "it was deleted before it ran")
    status = int(text)
    if status in WALLTIME_CODES or "exceeded resource walltime" in comment:
        return Seen(JobState.TIMEOUT, comment or "it was ended at its walltime")
    if status < 0:
        return Seen(JobState.FAILED, comment or f"the scheduler ended it ({status})")
    code = status - 128 if status > 256 else status
    if lower.get("substate") == "91" or "terminated by" in comment:
        return Seen(JobState.CANCELLED, comment, code)
    return Seen(JobState.FAILED if code else JobState.COMPLETED, comment, code)


class TorqueProvider(BatchProvider):
    """Blocks as jobs of Torque.

    Args:
        account: Account that pays.
        queue: Queue; None for the site's default.
        scheduler_options: More ``#PBS`` lines; ``#PBS`` itself may be left out.
        worker_init: Shell text that runs before the manager.
        nodes_per_block: Nodes of a job.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time, whatever happens.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        launcher: Spreads managers over the nodes; None for ``AprunLauncher()``.
        walltime: Time limit of a job: "01:30:00", "2h", or seconds.
        cmd_timeout: Most seconds that a command of the scheduler may take.
        status_polling_interval: Seconds between queries.
        transport: Where the commands are run; None for here.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = TorqueProvider(queue="debug", nodes_per_block=2, walltime="30m")
        >>> "#PBS -l nodes=2:ppn=1" in provider.render_script("manager")
        True
    """

    def __init__(
        self,
        account: str | None = None,
        queue: str | None = None,
        scheduler_options: str = "",
        worker_init: str = "",
        nodes_per_block: int = 1,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int = 1,
        parallelism: float = 1,
        launcher: Launcher | None = None,
        walltime: Any = "00:20:00",
        cmd_timeout: float = 120,
        *,
        status_polling_interval: float = 30,
        transport: Any = None,
    ) -> None:
        super().__init__(
            launcher=launcher if launcher is not None else AprunLauncher(),
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
        self.account = account
        self.queue = queue

    @property
    def dialect(self) -> TorqueDialect:
        """What is particular to Torque."""
        return TorqueDialect(self.account, self.queue, self.scheduler_options)
