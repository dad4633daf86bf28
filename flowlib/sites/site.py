"""What a site's file may say, and what each thing means: a machine as facts, without a decision in it.

Unknown facts are absent.  What is there is checked here, all of it at once, and each mistake knows where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from flowlib.sites.kinds import KINDS, Launch
from flowlib.suggest import nearest

T = TypeVar("T")
Problem = tuple[tuple[str, ...], str]
"""Where in the file, and what is wrong."""


_ADDRESS = {"kind": "address"}
_AMOUNT = {"kind": "amount"}
_BINS = {"kind": "bins"}
_COUNT = {"kind": "count"}
_DATE = {"kind": "date"}
_FLAG = {"kind": "flag"}
_LAUNCHER = {"kind": "launcher"}
_PLAIN = {"kind": "plain"}
_SCHEDULER = {"kind": "scheduler"}
_TABLE = {"kind": "table"}
_TEXT = {"kind": "text"}
_TEXTS = {"kind": "texts"}
_TIME = {"kind": "time"}


@dataclass(frozen=True)
class Parameter:
    """Something that only the user knows: ``[parameters.NAME]``.

    Attributes:
        name: The keyword of ``flowlib.load``.
        help: What it is.
        example: A value that looks right.
        default: The value if none is given.
        optional: Whether it may be left out although it has no default.
        option: Line for the scheduler that is added if there is a value, with ``{NAME}`` in it.
    """

    name: str
    help: str = field(default="", metadata=_TEXT)
    example: str = field(default="", metadata=_TEXT)
    default: Any = field(default=None, metadata=_PLAIN)
    optional: bool = field(default=False, metadata=_FLAG)
    option: str = field(default="", metadata=_TEXT)


@dataclass(frozen=True)
class Partition:
    """A partition or queue: ``[partition.NAME]``.

    Attributes:
        name: What users call it.
        description: What it is for.
        queue: What the scheduler calls it, if not the same; "" if it is not to be named to the scheduler.
        nodes: Nodes it has.
        cores: CPU cores of a node.
        usable_cores: Cores of a node that jobs get, if fewer.
        threads: Hardware threads of a node.
        memory_gb: Memory of a node.
        gpus: Accelerators of a node; leave it out where they differ.
        gpu: Their type, or types.
        gpu_ids: Their names, if they are not numbers from 0.
        arch: Architecture of the nodes, if not the site's.
        min_nodes: Fewest nodes of a job.
        max_nodes: Most nodes of a job.
        walltime: Longest time of a job.
        min_walltime: Shortest time of a job.
        walltime_by_nodes: Pairs: up to so many nodes, so long.
        node_hours: Most nodes times hours of a job.
        max_jobs: Jobs that a user may have running at a time.
        shared: Whether jobs share nodes, and so must say how many cores they want.
        ask_memory_gb: Memory to ask for on each node, where a job must.
        restricted: Who may use it, if not everybody; it is never chosen by itself.
        affinity: CPUs next to each accelerator, as ``cpu_affinity`` takes them.
        setup: Shell lines for this partition, after the site's.
        workers: Workers on a node, if not one for each accelerator or core.
        options: Lines for the scheduler, after the site's.
        provider: Arguments of the provider, over the site's.
        launcher: Instead of the site's.
        executor: Arguments of the executor, over the site's.
        notes: What else a user should know.
    """

    name: str
    description: str = field(default="", metadata=_TEXT)
    queue: str | None = field(default=None, metadata=_TEXT)
    nodes: int | None = field(default=None, metadata=_COUNT)
    cores: int | None = field(default=None, metadata=_COUNT)
    usable_cores: int | None = field(default=None, metadata=_COUNT)
    threads: int | None = field(default=None, metadata=_COUNT)
    memory_gb: float | None = field(default=None, metadata=_AMOUNT)
    gpus: int = field(default=0, metadata=_COUNT)
    gpu: str = field(default="", metadata=_TEXT)
    gpu_ids: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    arch: str = field(default="", metadata=_TEXT)
    min_nodes: int = field(default=1, metadata=_COUNT)
    max_nodes: int | None = field(default=None, metadata=_COUNT)
    walltime: str | None = field(default=None, metadata=_TIME)
    min_walltime: str | None = field(default=None, metadata=_TIME)
    walltime_by_nodes: tuple[tuple[int, str], ...] = field(default=(), metadata=_BINS)
    node_hours: float | None = field(default=None, metadata=_AMOUNT)
    max_jobs: int | None = field(default=None, metadata=_COUNT)
    shared: bool = field(default=False, metadata=_FLAG)
    ask_memory_gb: int | None = field(default=None, metadata=_COUNT)
    restricted: str = field(default="", metadata=_TEXT)
    affinity: str = field(default="", metadata=_TEXT)
    setup: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    workers: int | None = field(default=None, metadata=_COUNT)
    options: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    provider: Mapping[str, Any] = field(default_factory=dict, metadata=_TABLE)
    launcher: Launch | None = field(default=None, metadata=_LAUNCHER)
    executor: Mapping[str, Any] = field(default_factory=dict, metadata=_TABLE)
    notes: tuple[str, ...] = field(default=(), metadata=_TEXTS)

    @property
    def accelerated(self) -> bool:
        """Whether nodes have accelerators, be it known how many or not."""
        return bool(self.gpus or self.gpu)

    @property
    def job_cores(self) -> int | None:
        """Cores of a node that a job gets."""
        return self.usable_cores or self.cores

    @property
    def most_nodes(self) -> int | None:
        """Most nodes of a job, as far as known."""
        known = [self.max_nodes] if self.max_nodes else []
        known += [self.walltime_by_nodes[-1][0]] if self.walltime_by_nodes else []
        return min(known, default=None)

    def longest(self, nodes: int) -> str | None:
        """Longest time of a job with so many nodes, as the file writes it."""
        for most, time in self.walltime_by_nodes:
            if nodes <= most:
                return time
        return self.walltime


@dataclass(frozen=True)
class Site:
    """A machine.

    Attributes:
        id: Its name for ``flowlib.load``.
        name: Its name for people.
        scheduler: One of ``SCHEDULERS``.
        verified: Day on which the facts were looked up.
        description: What it is, if the name and the centre do not say it.
        centre: Who runs it.
        country: Two letters.
        docs: Address of its documentation.
        login: Hosts to log in to.
        arch: Architecture of its nodes.
        retired: When its service ended.
        successor: Name of the site to use instead.
        default: The partition that is used unless another is asked for or needed.
        interface: Network interfaces by which nodes reach the login hosts. For people: flowlib tries all addresses.
        scratch: Where large files go.
        python: How to get a Python there. For people: workers use the script's own, or what ``worker_init`` sets up.
        setup: Shell lines that every job needs before a manager starts.
        forbid: Options that the scheduler refuses there.
        options: Lines for the scheduler.
        poll_seconds: Seconds between questions to the scheduler, if the centre wants more than flowlib's default.
        max_jobs: Jobs that a user may have running at a time, in all partitions.
        notes: What else a user should know.
        parameters: What a user must or may give.
        provider: Arguments of the provider.
        launcher: What starts managers on the nodes.
        executor: Arguments of the executor.
        partitions: By name, in the file's order.
    """

    id: str
    name: str = field(metadata=_TEXT)
    scheduler: str = field(metadata=_SCHEDULER)
    verified: str = field(metadata=_DATE)
    description: str = field(default="", metadata=_TEXT)
    centre: str = field(default="", metadata=_TEXT)
    country: str = field(default="", metadata=_TEXT)
    docs: str = field(default="", metadata=_ADDRESS)
    login: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    arch: str = field(default="", metadata=_TEXT)
    retired: str = field(default="", metadata=_DATE)
    successor: str = field(default="", metadata=_TEXT)
    default: str = field(default="", metadata=_TEXT)
    interface: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    scratch: str = field(default="", metadata=_TEXT)
    python: str = field(default="", metadata=_TEXT)
    setup: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    forbid: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    options: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    poll_seconds: float | None = field(default=None, metadata=_AMOUNT)
    max_jobs: int | None = field(default=None, metadata=_COUNT)
    notes: tuple[str, ...] = field(default=(), metadata=_TEXTS)
    provider: Mapping[str, Any] = field(default_factory=dict, metadata=_TABLE)
    launcher: Launch | None = field(default=None, metadata=_LAUNCHER)
    executor: Mapping[str, Any] = field(default_factory=dict, metadata=_TABLE)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    partitions: Mapping[str, Partition] = field(default_factory=dict)

    def first(self) -> Partition:
        """The partition that is used unless another is asked for or needed."""
        if self.default:
            return self.partitions[self.default]
        return next(iter(self.partitions.values()))


def read_site(name: str, facts: Mapping[str, Any]) -> tuple[Site | None, list[Problem]]:
    """The site that a file describes, and what is wrong with the file.

    Args:
        name: Name of the site.
        facts: The file's content.

    Returns:
        The site, None if there are problems; and these.

    Example:
        >>> read_site("x", {"name": "X", "scheduler": "slrum", "verified": "2026-01-02"})[1][0]
        (('scheduler',), "scheduler is 'slrum'; did you mean 'slurm'? Valid: aws, cobalt, condor, flux, gridengine, \
kubernetes, local, lsf, pbspro, slurm, ssh, threads, torque")
    """
    from flowlib.sites.consistency import contradictions

    problems: list[Problem] = []
    plain = {key: value for key, value in facts.items() if key not in ("parameters", "partition")}
    known = _checked(Site, plain, (), problems, more=("parameters", "partition"))
    known["parameters"] = _tables(Parameter, facts, "parameters", problems)
    known["partitions"] = _tables(Partition, facts, "partition", problems)
    if problems:
        return None, problems
    site = Site(id=name, **known)
    problems = contradictions(site)
    return (None if problems else site), problems


def _tables(kind: Callable[..., T], facts: Mapping[str, Any], key: str, problems: list[Problem]) -> dict[str, T]:
    tables = facts.get(key, {})
    made: dict[str, T] = {}
    if not isinstance(tables, Mapping):
        problems.append(((key,), f"{key} is {tables!r}; write a table for each, [{key}.NAME]"))
        return made
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            problems.append(((key, name), f"{key}.{name} is {table!r}; write a table, [{key}.{name}]"))
            continue
        before = len(problems)
        known = _checked(kind, table, (key, name), problems)
        if len(problems) == before:
            made[name] = kind(name=name, **known)
    return made


def _checked(
    kind: Any, table: Mapping[str, Any], path: tuple[str, ...], problems: list[Problem], more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Arguments for ``kind`` out of a table."""
    facts = {f.name: f for f in fields(kind) if "kind" in f.metadata}
    unknown = [key for key in table if key not in facts]
    problems += [((*path, key), f"there is no {key!r}{nearest(key, [*facts, *more])}") for key in unknown]
    known: dict[str, Any] = {}
    for name, fact in facts.items():
        if name not in table:
            if fact.default is MISSING and fact.default_factory is MISSING:
                problems.append(((*path, name), f"{name} is missing"))
            continue
        try:
            known[name] = KINDS[fact.metadata["kind"]](table[name])
        except (TypeError, ValueError) as e:
            problems.append(((*path, name), f"{name} is {table[name]!r}; {e}"))
    return known
