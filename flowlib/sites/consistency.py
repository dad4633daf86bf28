"""Whether the facts in a site's file fit together: every name means something, every number leaves room."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flowlib.sites.placeholders import ALWAYS, placeholders
from flowlib.sites.schedulers import SCHEDULERS
from flowlib.sites.site import Partition, Problem, Site
from flowlib.suggest import nearest
from flowlib.units import parse_time

_WITHOUT_PARTITIONS = ("aws", "cobalt", "kubernetes", "local", "ssh", "threads")


def contradictions(site: Site) -> list[Problem]:
    """What in the facts of a site cannot be.

    Args:
        site: The facts, each by itself of the right kind.
    """
    found = list(_of_site(site))
    for partition in site.partitions.values():
        path = ("partition", partition.name)
        found += [((*path, key), text) for key, text in _of_partition(partition)]
        found += _arguments(site, partition.provider, (*path, "provider"))
        found += _executor(site, partition.executor, (*path, "executor"))
        found += _texts(site, partition.options, (*path, "options"))
    return found


def _of_site(site: Site) -> Iterator[Problem]:
    if not site.partitions and not site.retired and site.scheduler not in _WITHOUT_PARTITIONS:
        yield (), "it has no partition; write at least one table [partition.NAME]"
    if site.default and site.default not in site.partitions:
        yield ("default",), f"default is {site.default!r}{nearest(site.default, site.partitions)}"
    yield from _arguments(site, site.provider, ("provider",))
    yield from _executor(site, site.executor, ("executor",))
    yield from _texts(site, site.options, ("options",))
    for parameter in site.parameters.values():
        yield from _texts(site, (parameter.option,), ("parameters", parameter.name, "option"))


def _of_partition(partition: Partition) -> Iterator[tuple[str, str]]:
    most = partition.most_nodes
    if most is not None and partition.min_nodes > most:
        yield "min_nodes", f"min_nodes is {partition.min_nodes}, but a job may have {most} nodes at most"
    if partition.cores and partition.usable_cores and partition.usable_cores > partition.cores:
        yield "usable_cores", f"usable_cores is {partition.usable_cores}, but a node has {partition.cores} cores"
    if partition.cores and partition.threads and partition.threads < partition.cores:
        yield "threads", f"threads is {partition.threads}, but a node has {partition.cores} cores"
    longest = partition.longest(partition.min_nodes)
    if partition.min_walltime and longest and parse_time(partition.min_walltime) > parse_time(longest):
        yield "min_walltime", f"min_walltime is {partition.min_walltime!r}, more than the longest time, {longest!r}"
    if partition.gpu_ids and len(partition.gpu_ids) != partition.gpus:
        yield "gpu_ids", f"gpu_ids names {len(partition.gpu_ids)}, but gpus is {partition.gpus}"
    if partition.affinity:
        if not partition.affinity.startswith("list:"):
            yield "affinity", f"affinity is {partition.affinity!r}; write 'list:0-3:4-7', CPUs for each accelerator"
        elif partition.affinity.count(":") != partition.gpus:
            yield "affinity", f"affinity has {partition.affinity.count(':')} lists, but gpus is {partition.gpus}"


def _arguments(site: Site, arguments: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
    scheduler = SCHEDULERS[site.scheduler]
    for name, value in arguments.items():
        if name not in scheduler.parameters:
            what = scheduler.provider or f"scheduler {site.scheduler!r}"
            yield (*path, name), f"{what} takes no {name!r}{nearest(name, scheduler.parameters)}"
        if isinstance(value, str):
            yield from _texts(site, (value,), (*path, name))


def _executor(site: Site, arguments: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
    if not arguments:
        return
    from flowlib.sites.signatures import executor_parameters

    allowed = executor_parameters(site.scheduler)
    for name in arguments:
        if name not in allowed:
            yield (*path, name), f"the executor takes no {name!r}{nearest(name, allowed)}"


def _texts(site: Site, texts: tuple[str, ...], path: tuple[str, ...]) -> Iterator[Problem]:
    allowed = {*ALWAYS, *site.parameters}
    for text in texts:
        for name in placeholders(text):
            if name not in allowed:
                yield path, f"nothing is known by {{{name}}}{nearest(name, allowed)}"
