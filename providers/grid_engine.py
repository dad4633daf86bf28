"""Grid Engine and its descendants: ``qsub``, ``qstat -xml``, ``qdel``, and ``qacct`` for jobs that ended."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from flowlib.jobs.states import JobState
from flowlib.launchers import Launcher, SingleNodeLauncher
from flowlib.providers.batch import BatchProvider
from flowlib.providers.dialect import Dialect, Order, QueryFailed, Reply, Seen, clock, failed, option_lines, quoted

HISTORIES_AT_ONCE = 10
"""Most jobs whose accounting is read in one turn: ``qacct`` takes one, and may read through a large file for it."""


@dataclass(frozen=True, slots=True)
class GridEngineDialect(Dialect):
    """Grid Engine's commands and answers; the attributes are parameters of ``GridEngineProvider``."""

    queue: str | None = None
    scheduler_options: str = ""

    label = "grid_engine"
    directive = "#$"
    unsure = re.compile(r"(?i)timed? ?out|reading answer list|connection reset|broken pipe")
    transient = re.compile(
        r"(?i)commlib error|unable to send message|connection refused|not registered|temporarily|try again"
        r"|only .* jobs are allowed|job submissions? limit|max_u?_?jobs"
    )
    permanent = re.compile(
        r"(?i)unknown (queue|resource)|does not exist|not a valid|is not a|invalid option|no suitable"
    )

    def header(self, order: Order) -> list[str]:
        """The ``#$`` options of a job."""
        lines = [
            "-S /bin/bash",
            f"-N {order.name}",
            f"-o {quoted(order.stdout)}",
            f"-e {quoted(order.stderr)}",
            "-cwd",
            f"-l h_rt={clock(order.walltime_s)}",
        ]
        lines += [f"-q {quoted(self.queue)}"] if self.queue is not None else []
        return lines + option_lines(self.scheduler_options, self.directive)

    def submit(self, order: Order) -> list[str]:
        """``qsub -terse SCRIPT``."""
        return ["qsub", "-terse", order.script]

    def read_id(self, reply: Reply) -> str | None:
        """The id alone on a line, or in "Your job N (...) has been submitted"."""
        match = re.search(r"(?m)^(\d+)(?:\.\d+-\S+)?\s*$|^Your job (\d+) ", reply.stdout)
        return (match[1] or match[2]) if match else None

    def status(self, ids: Sequence[str]) -> list[str]:
        """``qstat`` for all of the user's jobs: it cannot choose."""
        return ["qstat", "-xml"]

    def read_status(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """The states of the jobs that are in the list."""
        return {id_: _seen(letters) for id_, _, letters in _jobs(reply) if id_ in ids}

    def history(self, ids: Sequence[str]) -> list[list[str]]:
        """``qacct`` for each job."""
        return [["qacct", "-j", id_] for id_ in ids[:HISTORIES_AT_ONCE]]

    def read_history(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """How a job ended; the accounting lags some seconds behind."""
        if reply.code == 1 and "not found" in reply.stderr:
            return {}
        if reply.code != 0:
            raise failed(reply, "qacct")
        found: dict[str, Seen] = {}
        for block in re.split(r"(?m)^=+\s*$", reply.stdout):
            pairs = (line.partition(" ") for line in block.splitlines())
            fields = {name: value.strip() for name, _, value in pairs}
            id_ = fields.get("jobnumber", "")
            if id_ in ids:
                found[id_] = _ended(fields)
        return found

    def find(self, name: str) -> list[str]:
        """``qstat`` for all of the user's jobs, the ended ones that it still has included."""
        return ["qstat", "-xml", "-s", "prsz"]

    def read_find(self, reply: Reply, name: str) -> list[str]:
        """Ids of jobs of this name."""
        return [id_ for id_, found, _ in _jobs(reply) if found == name]

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """``qdel`` for these jobs."""
        return ["qdel", *ids]

    def read_cancel(self, reply: Reply, ids: Sequence[str]) -> list[bool]:
        """What it says of each job; a list is worked through to its end."""
        if reply.code == 0:
            return [True] * len(ids)
        good = r"for deletion|deleted job|in deletion|deletion of job|does not exist"
        lines = [line for line in reply.said.splitlines() if re.search(good, line)]
        return [any(re.search(rf"\b{re.escape(id_)}\b", line) for line in lines) for id_ in ids]


def _jobs(reply: Reply) -> list[tuple[str, str, str]]:
    """Id, name and state letters of each job in an answer of ``qstat -xml``."""
    if reply.code != 0:
        raise failed(reply, "qstat")
    if not reply.stdout.strip():
        return []
    try:
        tree = ET.fromstring(reply.stdout)
    except ET.ParseError as e:
        raise QueryFailed(f"qstat printed XML that cannot be read: {e}") from None
    return [
        (job.findtext("JB_job_number", ""), job.findtext("JB_name", ""), job.findtext("state", ""))
        for job in tree.iter("job_list")
    ]


def _seen(letters: str) -> Seen:
    """What the letters mean; a job has several of them at once."""
    if "E" in letters:
        return Seen(JobState.FAILED, f"it is in the error state {letters}: see `qstat -j`", remove=True)
    if "z" in letters:
        return Seen(JobState.COMPLETED)
    if "w" in letters:
        return Seen(JobState.HELD if "h" in letters else JobState.PENDING, letters if "h" in letters else "")
    if set(letters) & set("sST"):
        return Seen(JobState.HELD, f"suspended ({letters})")
    if set(letters) & set("rtRd"):
        return Seen(JobState.RUNNING)
    return Seen(JobState.UNKNOWN, letters)


def _ended(fields: dict[str, str]) -> Seen:
    """What the accounting says of a job."""
    failure = fields.get("failed", "0")
    number = failure.split()[0] if failure else "0"
    words = fields.get("exit_status", "").split()
    code = int(words[0]) if words and words[0].isdigit() else None
    why = failure.partition(":")[2].strip()
    if "h_rt" in why:
        return Seen(JobState.TIMEOUT, why, code)
    if number == "100":
        return Seen(JobState.CANCELLED if code == 137 else JobState.FAILED, "it was killed", code)
    if number != "0":
        return Seen(JobState.FAILED, why or f"failed {number}", code or None)
    return Seen(JobState.FAILED if code else JobState.COMPLETED, "", code)


class GridEngineProvider(BatchProvider):
    """Blocks as jobs of Grid Engine.

    Args:
        nodes_per_block: Nodes of a job. More than one needs a parallel environment of the site in
            ``scheduler_options``: "-pe mpi 64".
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time, whatever happens.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        walltime: Time limit of a job: "01:30:00", "2h", or seconds.
        scheduler_options: More ``#$`` lines; ``#$`` itself may be left out.
        worker_init: Shell text that runs before the manager.
        launcher: Spreads managers over the nodes.
        cmd_timeout: Most seconds that a command of the scheduler may take.
        queue: Queue; None for the site's default.
        status_polling_interval: Seconds between queries.
        transport: Where the commands are run; None for here.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = GridEngineProvider(queue="all.q", scheduler_options="-pe smp 8", walltime="30m")
        >>> "#$ -pe smp 8" in provider.render_script("manager")
        True
    """

    def __init__(
        self,
        nodes_per_block: int = 1,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int = 1,
        parallelism: float = 1,
        walltime: Any = "00:10:00",
        scheduler_options: str = "",
        worker_init: str = "",
        launcher: Launcher | None = None,
        cmd_timeout: float = 60,
        queue: str | None = None,
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
        self.queue = queue
        if nodes_per_block > 1 and "-pe " not in scheduler_options:
            warnings.warn(
                f"GridEngineProvider(nodes_per_block={nodes_per_block}): Grid Engine gives more than one node only "
                "with a parallel environment; name one that the site has (`qconf -spl`) in scheduler_options, such as "
                "'-pe mpi 64'",
                stacklevel=2,
            )

    @property
    def dialect(self) -> GridEngineDialect:
        """What is particular to Grid Engine."""
        return GridEngineDialect(self.queue, self.scheduler_options)
