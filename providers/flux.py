"""Flux: ``flux batch``, ``flux jobs``, ``flux cancel``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.jobs.states import JobState
from flowlib.launchers import Launcher
from flowlib.machine_launchers import FluxLauncher
from flowlib.providers.batch import BatchProvider, whole
from flowlib.providers.dialect import Dialect, Order, QueryFailed, Reply, Seen, exports, failed, option_lines, quoted

_LIVE = {
    **dict.fromkeys(("NEW", "DEPEND", "PRIORITY", "SCHED"), JobState.PENDING),
    **dict.fromkeys(("RUN", "CLEANUP"), JobState.RUNNING),
}
_ENDED = {
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "CANCELED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class FluxDialect(Dialect):
    """Flux's commands and answers; the attributes are parameters of ``FluxProvider``."""

    queue: str | None = None
    bank: str | None = None
    cores_per_node: int | None = None
    gpus_per_node: int | None = None
    exclusive: bool = True
    scheduler_options: str = ""

    label = "flux"
    directive = "# flux:"
    unsure = re.compile(r"(?i)timed? ?out|connection reset|broken pipe|lost connection")
    transient = re.compile(
        r"(?i)unable to connect|connection refused|no such file or directory.*local|submission is disabled|temporarily"
        r"|try again|max.*jobs|limit exceeded|not accepting"
    )
    permanent = re.compile(r"(?i)invalid|unrecognized|unsatisfiable|unknown (queue|bank|option)|denied|cannot find")

    def header(self, order: Order) -> list[str]:
        """The ``# flux:`` options of a job."""
        tasks = order.nodes * order.tasks_per_node
        lines = [
            f"--job-name={order.name}",
            f"--output={quoted(_plain(order.stdout))}",
            f"--error={quoted(_plain(order.stderr))}",
            f"--nodes={order.nodes}",
            f"--time-limit={-int(-order.walltime_s // 1)}s",
        ]
        if self.exclusive:
            lines.append("--exclusive")
        else:
            per_task = max(1, (self.cores_per_node or order.tasks_per_node) // order.tasks_per_node)
            lines += [f"--nslots={tasks}", f"--cores-per-slot={per_task}"]
            if self.gpus_per_node:
                lines.append(f"--gpus-per-slot={max(1, self.gpus_per_node // order.tasks_per_node)}")
        chosen = {"queue": self.queue, "bank": self.bank}
        lines += [f"--{name}={quoted(value)}" for name, value in chosen.items() if value is not None]
        return lines + option_lines(self.scheduler_options, self.directive)

    def environment(self, order: Order) -> list[str]:
        """CPUs that a manager may use, where the user told."""
        if self.cores_per_node is None:
            return []
        return exports({"FLOWLIB_CORES": max(1, self.cores_per_node // order.tasks_per_node)})

    def submit(self, order: Order) -> list[str]:
        """``flux batch SCRIPT``."""
        return ["flux", "batch", order.script]

    def read_id(self, reply: Reply) -> str | None:
        """The id alone on a line; the letter that begins it depends on the language."""
        match = re.search(r"(?m)^(?:ƒ|f)([1-9A-HJ-NP-Za-km-z]+)\s*$", reply.stdout)
        return f"f{match[1]}" if match else None

    def status(self, ids: Sequence[str]) -> list[str]:
        """``flux jobs`` for these jobs."""
        return ["flux", "jobs", "-n", "-o", "{id.f58}|{state}|{result}|{returncode}|{exception.note}", *ids]

    def read_status(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """The states of the listed jobs; it keeps ended ones."""
        unknown = {
            f"f{id_}" for id_ in re.findall(r"(?i)job ?(?:id)? (?:ƒ|f)(\w+) (?:unknown|not found)", reply.stderr)
        }
        if reply.code != 0 and not unknown:
            raise failed(reply, "flux jobs")
        found: dict[str, Seen] = {}
        for line in reply.stdout.splitlines():
            row = line.strip().split("|", 4)
            if len(row) != 5:
                if line.strip():
                    raise QueryFailed(f"flux jobs printed what cannot be read: {line[:200]!r}")
                continue
            id_ = row[0].replace("ƒ", "f")
            if id_ in ids:
                found[id_] = _seen(*row[1:])
        for id_ in ids:
            if id_ not in found and id_ not in unknown:
                found[id_] = Seen(JobState.UNKNOWN, "flux jobs said nothing of it")
        return found

    def find(self, name: str) -> list[str]:
        """``flux jobs`` for this name, ended jobs included."""
        return ["flux", "jobs", "-a", "-n", "-o", "{id.f58}|{name}", f"--name={name}"]

    def read_find(self, reply: Reply, name: str) -> list[str]:
        """Ids of jobs of this name."""
        if reply.code != 0:
            raise failed(reply, "flux jobs")
        rows = (line.strip().partition("|") for line in reply.stdout.splitlines())
        return [id_.replace("ƒ", "f") for id_, _, found in rows if found == name]

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """``flux cancel`` for these jobs."""
        return ["flux", "cancel", *ids]

    def read_cancel(self, reply: Reply, ids: Sequence[str]) -> list[bool]:
        """A job that is not there any more needs no end."""
        if reply.code == 0:
            return [True] * len(ids)
        good = [line for line in reply.said.splitlines() if re.search(r"(?i)inactive|unknown|not found", line)]
        bad = [line for line in reply.said.splitlines() if line not in good]
        return [bool(good) and not bad for _ in ids]


def _plain(path: str) -> str:
    """A path where {{ is what { is elsewhere."""
    return path.replace("{", "{{").replace("}", "}}")


def _seen(state: str, result: str, code: str, note: str) -> Seen:
    known = _LIVE.get(state)
    if known is not None:
        return Seen(known)
    if state != "INACTIVE":
        return Seen(JobState.UNKNOWN, state)
    number = int(code) if re.fullmatch(r"-?\d+", code) else None
    if number is not None and number < 0:
        number = 128 - number
    return Seen(_ENDED.get(result, JobState.FAILED), note, number)


class FluxProvider(BatchProvider):
    """Blocks as jobs of Flux.

    Args:
        queue: Queue; None for the default.
        bank: Bank that pays.
        nodes_per_block: Nodes of a job.
        cores_per_node: CPUs of each node, if the job does not have them for itself.
        gpus_per_node: GPUs of each node, if the job does not have them for itself.
        exclusive: Whether to ask for whole nodes.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time, whatever happens.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        walltime: Time limit of a job: "01:30:00", "2h", or seconds.
        scheduler_options: More ``# flux:`` lines; ``# flux:`` itself may be left out.
        worker_init: Shell text that runs before the manager.
        launcher: Spreads managers over the nodes; None for ``FluxLauncher()``.
        cmd_timeout: Most seconds that a command of Flux may take.
        status_polling_interval: Seconds between queries.
        transport: Where the commands are run; None for here.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = FluxProvider(queue="pdebug", nodes_per_block=2, walltime="30m")
        >>> "# flux: --nodes=2" in provider.render_script("manager")
        True
    """

    def __init__(
        self,
        queue: str | None = None,
        bank: str | None = None,
        nodes_per_block: int = 1,
        cores_per_node: int | None = None,
        gpus_per_node: int | None = None,
        exclusive: bool = True,
        init_blocks: int = 1,
        min_blocks: int = 0,
        max_blocks: int = 1,
        parallelism: float = 1,
        walltime: Any = "00:10:00",
        scheduler_options: str = "",
        worker_init: str = "",
        launcher: Launcher | None = None,
        cmd_timeout: float = 30,
        *,
        status_polling_interval: float = 30,
        transport: Any = None,
    ) -> None:
        super().__init__(
            launcher=launcher if launcher is not None else FluxLauncher(),
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
        self.bank = bank
        self.cores_per_node = whole("FluxProvider", "cores_per_node", cores_per_node)
        self.gpus_per_node = whole("FluxProvider", "gpus_per_node", gpus_per_node, least=0)
        self.exclusive = exclusive

    @property
    def dialect(self) -> FluxDialect:
        """What is particular to Flux."""
        return FluxDialect(
            self.queue, self.bank, self.cores_per_node, self.gpus_per_node, self.exclusive, self.scheduler_options
        )
