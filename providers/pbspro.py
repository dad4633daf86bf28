"""PBS Professional and OpenPBS: as Torque, with ``select`` and with finished jobs in ``qstat -x``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowlib.launchers import Launcher, SingleNodeLauncher
from flowlib.providers.batch import BatchProvider, whole
from flowlib.providers.dialect import Order
from flowlib.providers.torque import TorqueDialect

_SEPARATOR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class PBSProDialect(TorqueDialect):
    """OpenPBS's commands and answers; the attributes are parameters of ``PBSProProvider``."""

    select_options: str = ""
    cpus_per_node: int = 1

    label = "pbspro"
    # Older servers take 230, but many tools cut there what they show.
    name_limit = 60

    def size(self, order: Order) -> str:
        """The ``select`` option."""
        more = self.select_options.strip().lstrip(":")
        return f"-l select={order.nodes}:ncpus={self.cpus_per_node}{':' if more else ''}{more}"

    def status(self, ids: Sequence[str]) -> list[str]:
        """``qstat`` for these jobs, finished ones included; not as JSON, of which it gives the first job only."""
        return ["qstat", "-x", "-f", "-F", "dsv", *ids]

    def find(self, name: str) -> list[str]:
        """``qstat`` for all jobs, finished ones included."""
        return ["qstat", "-x", "-f", "-F", "dsv"]

    def jobs(self, text: str) -> dict[str, dict[str, str]]:
        """The fields of each job, one job a line."""
        found: dict[str, dict[str, str]] = {}
        for line in text.splitlines():
            if line.startswith("Job Id:"):
                first, *rest = _SEPARATOR.split(line)
                pairs = (part.partition("=") for part in rest)
                found[first.partition(":")[2].strip()] = {name: value for name, _, value in pairs}
        return found


class PBSProProvider(BatchProvider):
    """Blocks as jobs of PBS Professional or OpenPBS.

    Args:
        account: Account that pays.
        queue: Queue; None for the site's default.
        scheduler_options: More ``#PBS`` lines; ``#PBS`` itself may be left out.
        select_options: More for each chunk of the ``select`` option: "ngpus=4:mem=64gb".
        worker_init: Shell text that runs before the manager.
        nodes_per_block: Nodes of a job, each a chunk.
        cpus_per_node: CPUs of each.
        init_blocks: Blocks started at once.
        min_blocks: Blocks kept alive also without work.
        max_blocks: Most blocks alive at a time, whatever happens.
        parallelism: Slots per unfinished task to aim for, from 0 to 1.
        launcher: Spreads managers over the nodes; ``MpiExecLauncher()`` for more than one node.
        walltime: Time limit of a job: "01:30:00", "2h", or seconds.
        cmd_timeout: Most seconds that a command of the scheduler may take.
        status_polling_interval: Seconds between queries.
        transport: Where the commands are run; None for here.

    Raises:
        ConfigurationError: An argument makes no sense.
        BadLauncher: The launcher is none.

    Example:
        >>> provider = PBSProProvider(queue="debug", cpus_per_node=32, select_options="ngpus=4", walltime="30m")
        >>> "#PBS -l select=1:ncpus=32:ngpus=4" in provider.render_script("manager")
        True
    """

    def __init__(
        self,
        account: str | None = None,
        queue: str | None = None,
        scheduler_options: str = "",
        select_options: str = "",
        worker_init: str = "",
        nodes_per_block: int = 1,
        cpus_per_node: int = 1,
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
        self.account = account
        self.queue = queue
        self.select_options = select_options
        self.cpus_per_node = whole("PBSProProvider", "cpus_per_node", cpus_per_node) or 1
        self.cores_per_node = self.cpus_per_node if self.cpus_per_node > 1 else None

    @property
    def dialect(self) -> PBSProDialect:
        """What is particular to PBS Professional."""
        return PBSProDialect(self.account, self.queue, self.scheduler_options, self.select_options, self.cpus_per_node)
