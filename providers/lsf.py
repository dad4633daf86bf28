"""LSF: ``bsub``, ``bjobs``, ``bkill``, and ``bhist`` for jobs that ``bjobs`` has forgotten."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.errors import ConfigurationError
from flowlib.jobs.states import JobState
from flowlib.launchers import Launcher, SingleNodeLauncher
from flowlib.providers.batch import BatchProvider, whole
from flowlib.providers.dialect import Dialect, Order, QueryFailed, Reply, Seen, failed, minutes, option_lines, quoted

_STATES = {
    **dict.fromkeys(("PEND", "WAIT", "PROV"), JobState.PENDING),
    "RUN": JobState.RUNNING,
    "DONE": JobState.COMPLETED,
    "EXIT": JobState.FAILED,
    **dict.fromkeys(("PSUSP", "USUSP", "SSUSP"), JobState.HELD),
}
_NOT_FOUND = re.compile(r"Job <([^>]+)> is not found|No (?:unfinished |matching )?job found", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LSFDialect(Dialect):
    """LSF's commands and answers; the attributes are parameters of ``LSFProvider``."""

    project: str | None = None
    queue: str | None = None
    cores_per_block: int | None = None
    cores_per_node: int | None = None
    request_by_nodes: bool = True
    bsub_redirection: bool = False
    scheduler_options: str = ""

    label = "lsf"
    directive = "#BSUB"
    unsure = re.compile(r"(?i)timed? ?out|connection reset|broken pipe|end of file|lost connection")
    transient = re.compile(
        r"(?i)lsf is down|please wait|batch daemon not responding|library call|connection refused|temporarily|try again"
        r"|(pending )?job (slot |number )?(limit|threshold)|too many|queue has been closed"
    )
    permanent = re.compile(
        r"(?i)no such (queue|user group|project)|bad |illegal|invalid|cannot use queue|not a member|not authorized"
        r"|permission denied|unknown (option|queue)"
    )

    def header(self, order: Order) -> list[str]:
        """The ``#BSUB`` options of a job."""
        lines = [
            f"-J {order.name}",
            f"-W {minutes(order.walltime_s)}",
            f"-o {quoted(order.stdout.replace('%', '%%'))}",
            f"-e {quoted(order.stderr.replace('%', '%%'))}",
        ]
        if self.request_by_nodes:
            lines.append(f"-nnodes {order.nodes}")
        else:
            per_node = self.cores_per_node or 1
            lines.append(f"-n {self.cores_per_block or per_node * order.nodes}")
            lines.append(f'-R "span[ptile={per_node}]"')
        chosen = {"-P": self.project, "-q": self.queue}
        lines += [f"{flag} {quoted(value)}" for flag, value in chosen.items() if value is not None]
        return lines + option_lines(self.scheduler_options, self.directive)

    def submit(self, order: Order) -> list[str]:
        """``bsub < SCRIPT``, or ``bsub SCRIPT`` where the site wants that."""
        return ["bsub"] if self.bsub_redirection else ["bsub", order.script]

    def submit_input(self, order: Order) -> str | None:
        """The script, where it is redirected."""
        return order.script if self.bsub_redirection else None

    def read_id(self, reply: Reply) -> str | None:
        """The id in "Job <N> is submitted to ..."."""
        match = re.search(r"Job <(\d+)> is submitted", reply.stdout)
        return match[1] if match else None

    def status(self, ids: Sequence[str]) -> list[str]:
        """``bjobs`` for these jobs."""
        return ["bjobs", "-a", "-noheader", "-o", "jobid stat exit_code exit_reason delimiter='|'", *ids]

    def read_status(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """The states of the listed jobs."""
        missing = set(_NOT_FOUND.findall(reply.stderr))
        if reply.code != 0 and not missing:
            raise failed(reply, "bjobs")
        found: dict[str, Seen] = {}
        for line in reply.stdout.splitlines():
            parts = line.strip().split("|", 3)
            if len(parts) == 4 and parts[0] in ids:
                found[parts[0]] = _seen(parts[1], parts[2], "" if parts[3] == "-" else parts[3])
            elif line.strip():
                raise QueryFailed(f"bjobs printed what cannot be read: {line[:200]!r}")
        for id_ in ids:
            if id_ not in found and id_ not in missing:
                found[id_] = Seen(JobState.UNKNOWN, "bjobs said nothing of it")
        return found

    def history(self, ids: Sequence[str]) -> list[list[str]]:
        """``bhist`` for these jobs, in the newest of its log files."""
        return [["bhist", "-l", *ids]]

    def read_history(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """How the jobs ended."""
        if reply.code is None or (reply.code != 0 and "Job <" not in reply.stdout and not _no_history(reply)):
            raise failed(reply, "bhist")
        # Its lines are folded anywhere, in the middle of words too.
        text = re.sub(r"\n[ \t]+", "", reply.stdout)
        found: dict[str, Seen] = {}
        for id_, story in re.findall(r"(?s)Job <(\d+)>,(.*?)(?=\nJob <\d+>,|\Z)", text):
            squeezed = re.sub(r"\s+", "", story)
            if id_ not in ids:
                continue
            if "Donesuccessfully" in squeezed:
                found[id_] = Seen(JobState.COMPLETED, "", 0)
            elif "TERM_RUNLIMIT" in squeezed:
                found[id_] = Seen(JobState.TIMEOUT, "TERM_RUNLIMIT: it was ended at its walltime")
            elif "TERM_OWNER" in squeezed or "TERM_ADMIN" in squeezed:
                found[id_] = Seen(JobState.CANCELLED, "killed by its owner or an administrator")
            elif match := re.search(r"Exitedwithexitcode(\d+)", squeezed):
                found[id_] = Seen(JobState.FAILED, "", int(match[1]))
            elif match := re.search(r"Exitedbysignal(\d+)", squeezed):
                found[id_] = Seen(JobState.FAILED, "", 128 + int(match[1]))
            elif "Exited" in squeezed:
                found[id_] = Seen(JobState.FAILED)
        return found

    def find(self, name: str) -> list[str]:
        """``bjobs`` for this name, ended jobs included."""
        return ["bjobs", "-a", "-noheader", "-o", "jobid job_name delimiter='|'", "-J", name]

    def read_find(self, reply: Reply, name: str) -> list[str]:
        """Ids of jobs of this name."""
        if reply.code is None or (reply.code != 0 and not _NOT_FOUND.search(reply.stderr)):
            raise failed(reply, "bjobs")
        rows = (line.strip().partition("|") for line in reply.stdout.splitlines())
        return [id_ for id_, _, found in rows if found == name]

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """``bkill`` for these jobs."""
        return ["bkill", *ids]

    def read_cancel(self, reply: Reply, ids: Sequence[str]) -> list[bool]:
        """What it says of each job."""
        gone = r"is being terminated|already finished|No matching job|is not found"
        text = reply.said
        return [
            reply.code == 0 or re.search(rf"Job <{re.escape(id_)}>.*({gone})", text, re.IGNORECASE) is not None
            for id_ in ids
        ]


def _no_history(reply: Reply) -> bool:
    return _NOT_FOUND.search(reply.said) is not None


def _seen(word: str, code: str, reason: str) -> Seen:
    state = _STATES.get(word, JobState.UNKNOWN)
    if state is JobState.UNKNOWN:
        return Seen(state, word)
    if state is JobState.COMPLETED:
        return Seen(state, reason, 0)
    if state is not JobState.FAILED:
        return Seen(state, reason)
    number = int(code) if code.isdigit() else None
    if "TERM_RUNLIMIT" in reason:
        return Seen(JobState.TIMEOUT, reason, number)
    if "TERM_OWNER" in reason or "TERM_ADMIN" in reason or "TERM_FORCE" in reason:
        return Seen(JobState.CANCELLED, reason, number)
    return Seen(state, reason, number)


class LSFProvider(BatchProvider):
    """Blocks as jobs of LSF.

    Args:
        nodes_per_block: Nodes of a job.
        cores_per_block: CPUs of a job, if ``request_by_nodes`` is False; None for those of its nodes.
        cores_per_node: CPUs to use on each node, if ``request_by_nodes`` is False.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time, whatever happens.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        walltime: Time limit of a job: "01:30:00", "2h", or seconds.
        scheduler_options: More ``#BSUB`` lines; ``#BSUB`` itself may be left out.
        worker_init: Shell text that runs before the manager.
        project: Project that pays.
        queue: Queue; None for the site's default.
        cmd_timeout: Most seconds that a command of LSF may take.
        bsub_redirection: Whether the script is given as ``bsub < script``, as plain LSF wants it; some machines take
            it as an argument.
        request_by_nodes: Whether to ask for nodes (``-nnodes``) or for CPUs (``-n``).
        launcher: Spreads managers over the nodes; ``JsrunLauncher()`` on most of these machines.
        status_polling_interval: Seconds between queries.
        transport: Where the commands are run; None for here.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = LSFProvider(nodes_per_block=2, queue="batch", walltime="30m")
        >>> "#BSUB -nnodes 2" in provider.render_script("manager")
        True
    """

    def __init__(
        self,
        nodes_per_block: int = 1,
        cores_per_block: int | None = None,
        cores_per_node: int | None = None,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int = 1,
        parallelism: float = 1,
        walltime: Any = "00:10:00",
        scheduler_options: str = "",
        worker_init: str = "",
        project: str | None = None,
        queue: str | None = None,
        cmd_timeout: float = 120,
        bsub_redirection: bool = False,
        request_by_nodes: bool = True,
        launcher: Launcher | None = None,
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
        self.cores_per_block = whole("LSFProvider", "cores_per_block", cores_per_block)
        self.cores_per_node = whole("LSFProvider", "cores_per_node", cores_per_node)
        self.request_by_nodes = request_by_nodes
        if not request_by_nodes and cores_per_block is None and cores_per_node is None:
            raise ConfigurationError(
                "LSFProvider(request_by_nodes=False): say how many CPUs, by cores_per_block or cores_per_node"
            )
        self.project = project
        self.queue = queue
        self.bsub_redirection = bsub_redirection

    @property
    def dialect(self) -> LSFDialect:
        """What is particular to LSF."""
        return LSFDialect(
            self.project, self.queue, self.cores_per_block, self.cores_per_node, self.request_by_nodes,
            self.bsub_redirection, self.scheduler_options,
        )  # fmt: skip
