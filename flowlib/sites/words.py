"""Facts in few words, the same in messages and in tables."""

from __future__ import annotations

from flowlib.sites.site import Partition, Site


def retirement(site: Site) -> str:
    """When a site's service ended, to follow "retired".

    Example:
        >>> retirement(Site("x", name="X", scheduler="slurm", verified="2026-11-22", retired="2024-11-15"))
        'on 2024-11-15'
    """
    if site.retired.startswith("by "):
        return site.retired
    return f"{'on' if site.retired.count('-') == 2 else 'in'} {site.retired}"


def clock(seconds: float) -> str:
    """Seconds as "HH:MM:SS", which every scheduler's provider takes.

    Example:
        >>> clock(93600)
        '26:00:00'
    """
    whole = round(seconds)
    return f"{whole // 3600:02}:{whole % 3600 // 60:02}:{whole % 60:02}"


def describe(partition: Partition) -> str:
    """A partition in one line: nodes and time of a job, what a node has.

    Example:
        >>> describe(Partition("gpu", max_nodes=4, walltime="24:00:00", cores=64, gpus=4, gpu="A100"))
        '1-4 nodes, up to 24:00:00, 64 cores, 4 x A100'
    """
    most = partition.most_nodes
    parts = [f"{partition.min_nodes}-{most} nodes" if most and most > partition.min_nodes else ""]
    parts += [f"{most} node{'s' if partition.min_nodes > 1 else ''}" if most == partition.min_nodes else ""]
    parts += [f"{partition.min_nodes} nodes or more" if most is None and partition.min_nodes > 1 else ""]
    times = partition.walltime_by_nodes
    if times:
        parts += ["up to " + ", ".join(f"{time} for {nodes}" for nodes, time in times)]
    elif partition.walltime:
        parts += [f"up to {partition.walltime}"]
    parts += [f"at least {partition.min_walltime}" if partition.min_walltime else ""]
    parts += [f"{partition.job_cores} cores" if partition.cores else ""]
    parts += [f"{partition.gpus} x {partition.gpu or 'GPU'}" if partition.gpus else partition.gpu]
    parts += ["shared nodes" if partition.shared else ""]
    parts += [partition.restricted]
    return ", ".join(part for part in parts if part) or partition.description or "no limits known"
