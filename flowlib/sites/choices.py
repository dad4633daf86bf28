"""From a site's facts and a user's choices to a configuration, or to a text that says what else can be chosen.

Pure: nothing here looks at the machine it runs on, so the configuration of any site can be made and read anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowlib.errors import ConfigurationError
from flowlib.sites.calls import Call, Name
from flowlib.sites.kinds import Launch
from flowlib.sites.placeholders import filled
from flowlib.sites.schedulers import LAUNCHERS, SCHEDULERS
from flowlib.sites.signatures import config_parameters, executor_parameters
from flowlib.sites.site import Partition, Site
from flowlib.sites.words import clock, describe, retirement
from flowlib.suggest import nearest
from flowlib.units import parse_time

OWN = frozenset(
    {"partition", "queue", "gpu", "nodes", "walltime", "cores", "gpus", "memory", "blocks", "workers", "worker_init"}
)
"""Choices that every site has."""

_DEFAULT_WALLTIME = 3600.0
_REMOTE = ("aws", "kubernetes")
"""Blocks there see no file of this machine, hence not its Python."""


def configuration(site: Site, choices: Mapping[str, Any]) -> Call:
    """The configuration for a site, as a tree of calls.

    Args:
        site: The facts.
        choices: What the user gave to ``flowlib.load`` beside the name.

    Raises:
        ConfigurationError: Something is missing, unknown, or more than the site allows; the text lists what is.
    """
    return _Job(site, choices).config()


@dataclass
class _Shape:
    """What is asked for each job, as far as it is known."""

    nodes: int
    walltime_s: float | None
    cores: int | None
    gpus: int
    memory: int | None


class _Job:
    """One loading of one site."""

    def __init__(self, site: Site, choices: Mapping[str, Any]) -> None:
        self.site = site
        self.scheduler = SCHEDULERS[site.scheduler]
        self.choices = {name: value for name, value in choices.items() if value is not None}
        self._refuse_retired()
        self._refuse_unknown()
        self.parameters = self._parameters()
        self.partition = self._partition()
        self.shape = self._shape()
        self.values = self._values()

    def _error(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"site {self.site.id!r}: {text}")

    # ------------------------------------------------------------------------------------------- what was given

    def _refuse_retired(self) -> None:
        site = self.site
        if site.retired:
            instead = f"; use {site.successor!r} instead" if site.successor else ""
            raise self._error(f"{site.name} was retired {retirement(site)}{instead}")

    def _refuse_unknown(self) -> None:
        # The names of Config and the executor are looked up only for what is neither the site's nor the provider's.
        provider = self.scheduler.parameters - {"walltime", "nodes_per_block"}
        allowed = OWN | provider | frozenset(self.site.parameters)
        for name in self.choices:
            if name in allowed:
                continue
            every = allowed | executor_parameters(self.site.scheduler) | config_parameters()
            if name not in every:
                raise self._error(f"there is no choice {name!r}{nearest(name, every)}")
        if "partition" in self.choices and "queue" in self.choices:
            raise self._error("partition and queue are the same; give one of them")

    def _parameters(self) -> dict[str, Any]:
        given: dict[str, Any] = {}
        missing = []
        for parameter in self.site.parameters.values():
            value = self.choices.get(parameter.name, parameter.default)
            if value is not None:
                given[parameter.name] = value
            elif not parameter.optional:
                missing.append(parameter)
        if missing:
            what = "; ".join(f"{p.name} ({p.help})" if p.help else p.name for p in missing)
            shown = ", ".join(f"{p.name}={p.example or '...'!r}" for p in missing)
            are = "is" if len(missing) == 1 else "are"
            raise self._error(f"{what} {are} missing: flowlib.load({self.site.id!r}, {shown}, ...)")
        return given

    # --------------------------------------------------------------------------------------- partition and limits

    def _partition(self) -> Partition:
        site, wanted = self.site, self.choices.get("partition", self.choices.get("queue"))
        if not site.partitions:
            if wanted is not None and not self.scheduler.queue:
                raise self._error(f"it has no partitions, so partition={wanted!r} means nothing there")
            return Partition("", queue=wanted or "")
        if wanted is not None:
            if wanted not in site.partitions:
                raise self._error(
                    f"there is no partition {wanted!r}{nearest(str(wanted), site.partitions)}\n{self._menu()}"
                )
            partition = site.partitions[wanted]
            if self._gpu() and not partition.accelerated:
                raise self._error(f"partition {wanted!r} has no GPUs\n{self._menu()}")
            self._refuse_too_much(partition)
            return partition
        candidates = [site.first(), *(p for p in site.partitions.values() if not p.restricted)]
        if self._gpu() is not None:
            candidates = [p for p in candidates if p.accelerated == self._gpu()]
            if not candidates:
                raise self._error(f"no partition has {'' if self._gpu() else 'no '}GPUs\n{self._menu()}")
        else:
            candidates = [p for p in candidates if p.accelerated == candidates[0].accelerated]
        if not {"nodes", "nodes_per_block"} & self.choices.keys():
            # Who says nothing gets one node, where one may have that.
            candidates.sort(key=lambda p: p.min_nodes)
        for partition in candidates:
            if not self._too_much(partition) and (partition is candidates[0] or self._surely(partition)):
                return partition
        self._refuse_too_much(candidates[0])
        raise AssertionError("unreachable: what was too much is refused")

    def _surely(self, partition: Partition) -> bool:
        """Whether the limits of what is asked for are known; else nobody is sent there who did not name it."""
        nodes = self._whole("nodes", self.choices.get("nodes_per_block", partition.min_nodes))
        many = nodes > partition.min_nodes and partition.most_nodes is None
        return not many and ("walltime" not in self.choices or partition.longest(nodes) is not None)

    def _gpu(self) -> bool | None:
        """Whether GPUs are wanted; None if the user did not say."""
        if self.choices.get("gpus"):
            return True
        gpu = self.choices.get("gpu")
        return gpu if gpu is None else bool(gpu)

    def _refuse_too_much(self, partition: Partition) -> None:
        wrong = self._too_much(partition)
        if wrong:
            raise self._error(f"partition {partition.name!r}: {'; '.join(wrong)}\n{self._menu()}")

    def _too_much(self, partition: Partition) -> list[str]:
        """In words, each choice that the partition does not allow."""
        nodes = self._whole("nodes", self.choices.get("nodes_per_block", partition.min_nodes))
        wrong = []
        most = partition.most_nodes
        if most is not None and nodes > most:
            wrong.append(f"nodes={nodes}, but a job may have {most} at most")
        if nodes < partition.min_nodes:
            wrong.append(f"nodes={nodes}, but a job must have {partition.min_nodes} at least")
        longest = partition.longest(nodes)
        asked = self._walltime(partition, nodes)
        given = self.choices.get("walltime")
        if longest is not None and asked is not None and asked > parse_time(longest):
            of = f"a job of {nodes} nodes" if partition.walltime_by_nodes else "a job"
            wrong.append(f"walltime={given!r}, but {of} may take {longest} at most")
        if partition.min_walltime and asked is not None and asked < parse_time(partition.min_walltime):
            wrong.append(f"walltime={given!r}, but a job must take {partition.min_walltime} at least")
        if partition.node_hours and asked is not None and nodes * asked / 3600 > partition.node_hours:
            wrong.append(
                f"{nodes} nodes for {clock(asked)}, but nodes times hours may be {partition.node_hours:g} at most"
            )
        for name, have in (
            ("cores", partition.job_cores),
            ("gpus", partition.gpus or None),
            ("memory", partition.memory_gb),
        ):
            value = self.choices.get(name)
            if value is not None and have is not None and self._whole(name, value) > have:
                wrong.append(f"{name}={value}, but a node has {have:g}")
        limits = [n for n in (partition.max_jobs, self.site.max_jobs) if n is not None]
        blocks = self._whole("blocks", self.choices.get("max_blocks", 1))
        if limits and blocks > min(limits):
            wrong.append(f"blocks={blocks}, but a user may have {min(limits)} jobs running at a time")
        return wrong

    def _menu(self) -> str:
        lines = [f"  {p.name:<16} {describe(p)}" for p in self.site.partitions.values()]
        return "\n".join(["Partitions:", *lines])

    # ------------------------------------------------------------------------------------------------- the job

    def _whole(self, name: str, default: int) -> int:
        value = self.choices.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < (0 if name == "gpus" else 1):
            raise self._error(f"{name}={value!r}; give a whole number")
        return value

    def _arguments(self, partition: Partition) -> dict[str, Any]:
        """The provider's arguments in the site's file."""
        return {**self.site.provider, **partition.provider}

    def _walltime(self, partition: Partition, nodes: int) -> float | None:
        """Seconds of a job: as chosen, or an hour, or what comes nearest to that."""
        given = self.choices.get("walltime")
        if given is not None:
            try:
                return parse_time(given, "walltime")
            except (TypeError, ValueError) as e:
                raise self._error(str(e)) from None
        if "walltime" not in self.scheduler.parameters:
            return None
        longest = partition.longest(nodes)
        seconds = _DEFAULT_WALLTIME
        if partition.min_walltime:
            seconds = max(seconds, parse_time(partition.min_walltime))
        if partition.node_hours:
            seconds = min(seconds, partition.node_hours * 3600 / nodes)
        return seconds if longest is None else min(seconds, parse_time(longest))

    def _shape(self) -> _Shape:
        partition = self.partition
        nodes = self._whole("nodes", self.choices.get("nodes_per_block", partition.min_nodes))
        cores = self.choices.get("cores", partition.job_cores)
        memory = self.choices.get("memory", partition.ask_memory_gb)
        gpus = self._whole("gpus", partition.gpus)
        if partition.gpu and not gpus and "gpus" not in self.choices:
            raise self._error(
                f"partition {partition.name!r} has nodes with different numbers of GPUs ({partition.gpu}); "
                "give gpus=..., how many of a node a job gets"
            )
        asks = self.scheduler.asks_cores or partition.shared
        if asks and self.scheduler.cores and not cores and self.scheduler.cores not in self._arguments(partition):
            raise self._error(
                f"partition {partition.name!r} has nodes with different numbers of cores; "
                "give cores=..., how many of a node a job gets"
            )
        return _Shape(nodes, self._walltime(partition, nodes), cores, gpus, memory)

    def _values(self) -> dict[str, Any]:
        shape = self.shape
        values: dict[str, Any] = {**self.parameters, "nodes": shape.nodes, "partition": self.partition.name}
        values["gpus"], values["total_gpus"] = shape.gpus, shape.gpus * shape.nodes
        if shape.cores:
            values["cores"], values["total_cores"] = shape.cores, shape.cores * shape.nodes
        if shape.memory:
            values["memory"] = shape.memory
            if shape.cores:
                values["memory_per_core"] = f"{shape.memory * 10 // shape.cores / 10:g}"
        if shape.walltime_s is not None:
            values["walltime"] = clock(shape.walltime_s)
        return values

    def _filled(self, value: Any) -> Any:
        try:
            return filled(value, self.values)
        except KeyError as e:
            name = {"total_cores": "cores", "memory_per_core": "memory"}.get(e.args[0], e.args[0])
            raise self._error(
                f"{name} is not known for partition {self.partition.name!r} and needed in {value!r}; give {name}=..."
            ) from None

    # ------------------------------------------------------------------------------------------ the constructors

    def config(self) -> Call:
        """The configuration."""
        # What Config and the executor are asked for is looked up only if something was given that may be theirs.
        known = OWN | self.scheduler.parameters | frozenset(self.site.parameters)
        rest = {name: value for name, value in self.choices.items() if name not in known}
        arguments = {name: value for name, value in rest.items() if name in config_parameters()}
        executor = {name: value for name, value in rest.items() if name not in arguments}
        return Call("flowlib.config", "Config", {"executors": [self._executor(executor)], **arguments})

    def _executor(self, chosen: dict[str, Any]) -> Call:
        site, partition, shape = self.site, self.partition, self.shape
        arguments: dict[str, Any] = {"label": site.id}
        if site.scheduler == "threads":
            arguments |= site.executor
            if "workers" in self.choices:
                arguments["max_threads"] = self._whole("workers", 1)
            return Call("flowlib.executors", "ThreadPoolExecutor", {**arguments, **chosen})
        workers = partition.workers or shape.gpus or shape.cores
        if "workers" in self.choices:
            workers = self._whole("workers", 1)
        if workers:
            arguments["max_workers_per_node"] = workers
        if shape.gpus:
            whole = shape.gpus == partition.gpus
            arguments["available_accelerators"] = list(partition.gpu_ids[: shape.gpus]) or shape.gpus
            # The lists belong to the accelerators of a whole node; of a part of one it is not known which they are.
            if partition.affinity and whole and workers == shape.gpus:
                arguments["cpu_affinity"] = partition.affinity
        arguments |= {name: self._filled(value) for name, value in {**site.executor, **partition.executor}.items()}
        arguments |= chosen
        if self._setup() and "worker_init" not in self.choices and "worker_python" not in arguments:
            # The site's lines choose no Python; without this, workers would use the first on PATH.
            arguments["worker_python"] = Name("sys", "executable")
        return Call("flowlib.executors", "HighThroughputExecutor", {**arguments, "provider": self._provider()})

    def _setup(self) -> list[str]:
        return [] if self.site.scheduler in _REMOTE else [*self.site.setup, *self.partition.setup]

    def _provider(self) -> Call:
        site, partition, scheduler, shape = self.site, self.partition, self.scheduler, self.shape
        arguments: dict[str, Any] = {}
        queue = partition.queue if partition.queue is not None else partition.name
        if scheduler.queue and queue:
            arguments[scheduler.queue] = queue
        if scheduler.account and "account" in self.parameters:
            arguments[scheduler.account] = self.parameters["account"]
        arguments["nodes_per_block"] = shape.nodes
        if shape.walltime_s is not None and "walltime" in scheduler.parameters:
            arguments["walltime"] = clock(shape.walltime_s)
        asks = scheduler.asks_cores or partition.shared or "cores" in self.choices
        if scheduler.cores and shape.cores and asks:
            arguments[scheduler.cores] = shape.cores
        if scheduler.memory and shape.memory:
            arguments[scheduler.memory] = shape.memory
        if "exclusive" in scheduler.parameters and partition.shared:
            arguments["exclusive"] = False
        if site.poll_seconds and "status_polling_interval" in scheduler.parameters:
            arguments["status_polling_interval"] = site.poll_seconds
        arguments |= {name: self._filled(value) for name, value in self._arguments(partition).items()}
        if "blocks" in self.choices:
            arguments["max_blocks"] = self._whole("blocks", 1)
        texts = ("scheduler_options", "worker_init", "launcher", "walltime", "nodes_per_block", scheduler.queue)
        taken = {*texts, *self.site.parameters} | (OWN - {"worker_init"})
        arguments |= {n: v for n, v in self.choices.items() if n in scheduler.parameters and n not in taken}
        # A parameter of the site may also be one of the provider's: Condor's image, an AMI ...
        arguments |= {n: v for n, v in self.parameters.items() if n in scheduler.parameters and n != scheduler.account}
        self._options(arguments)
        worker_init = [*self._setup(), *([self.choices["worker_init"]] if "worker_init" in self.choices else [])]
        if worker_init:
            arguments["worker_init"] = "\n".join(line.rstrip("\n") for line in worker_init)
        launcher = self.choices.get("launcher", self._launcher())
        if launcher is not None and "launcher" in scheduler.parameters:
            arguments["launcher"] = launcher
        return Call("flowlib.providers", scheduler.provider, arguments)

    def _options(self, arguments: dict[str, Any]) -> None:
        """The lines for the scheduler; none that it refuses there."""
        site = self.site
        given = [p.option for p in site.parameters.values() if p.option and p.name in self.parameters]
        lines = [self._filled(line) for line in (*site.options, *self.partition.options, *given)]
        lines += [line for line in str(self.choices.get("scheduler_options", "")).splitlines() if line.strip()]
        for refused in site.forbid:
            found = [line for line in lines if refused in line.replace("=", " ").split()]
            found += [f"{name}={self.choices[name]!r}" for name in _FORBIDDEN.get(refused, ()) if name in self.choices]
            if found:
                raise self._error(f"{found[0]} cannot be given: jobs with {refused} are refused there")
        if lines:
            arguments["scheduler_options"] = "\n".join(lines)

    def _launcher(self) -> Call | None:
        launch = self.partition.launcher or self.site.launcher
        if launch is None:
            scheduler = self.scheduler
            if not scheduler.launcher or self.site.scheduler == "local":
                return None
            launch = Launch(scheduler.launcher, {"overrides": scheduler.overrides} if scheduler.overrides else {})
        name = LAUNCHERS[launch.kind][0]
        return Call("flowlib.launchers", name, {n: self._filled(v) for n, v in launch.arguments.items()})


_FORBIDDEN = {"--mem": ("memory", "mem_per_node"), "--gres": ("gres",), "--gpus-per-node": ("gpus_per_node",)}
"""Choices that come to the same as an option."""
