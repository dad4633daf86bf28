"""When a batch job ends, as far as it can know itself, and how long before that its work must be over.

A job that runs into its limit is killed by the scheduler: its tasks are lost, and nobody hears of it until silence
counts as death.  So a manager wants to know the end beforehand.  Two may tell it: the provider, which asked for a
walltime and notes in the job's script when the job started, and the scheduler, in the job's environment.  The earlier
end counts.  Pure: environment and times are told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

STARTED = "FLOWLIB_JOB_STARTED"
"""Set by job scripts: the Unix time at which the job started."""
MARGIN_SHARE = 0.05
MOST_MARGIN = 30.0
"""Tasks end this part of a job's time before its end, at most that many seconds."""
AHEAD_SHARE = 0.1
MOST_AHEAD = 300.0
"""Another block is asked for that part of a job's time before its end, at most that many seconds."""


class JobEnd(NamedTuple):
    """The end of a job.

    Attributes:
        at: Unix time.
        source: Who says so.
        span: Seconds from the job's start to its end.
    """

    at: float
    source: str
    span: float


def margin(span: float) -> float:
    """Seconds before the end of a job at which its tasks are over.

    Args:
        span: Seconds that the job may take.

    Example:
        >>> margin(7200), margin(60)
        (30.0, 3.0)
    """
    return min(MOST_MARGIN, MARGIN_SHARE * span)


def usable(span: float) -> float:
    """Seconds that are left for tasks of a job that may take ``span`` seconds, were its start-up to take no time.

    Example:
        >>> usable(3600)
        3570.0
    """
    return span - margin(span)


def ahead(span: float) -> float:
    """Seconds before the end of a manager's time at which another block is asked for, if there is work.

    Example:
        >>> ahead(600), ahead(86400)
        (60.0, 300.0)
    """
    return min(MOST_AHEAD, AHEAD_SHARE * span)


def job_end(environment: Mapping[str, str], walltime: float | None, now: float) -> JobEnd | None:
    """When this job ends; None if nobody says.

    Newer versions of Slurm tell the end itself (``SLURM_JOB_END_TIME``, Unix time).  Torque, and PBS where a site has
    set it up so, tell the time that was asked for (``PBS_WALLTIME``, seconds), which is counted from the job's start.
    Jobs of LSF, Grid Engine, HTCondor and Flux find nothing of the kind in their environment: there the provider's word
    counts.

    Args:
        environment: The job's.
        walltime: Seconds that the provider asked for; None if there is no limit.
        now: Unix time. What claims to be over already is of another job, and does not count.

    Example:
        >>> job_end({"SLURM_JOB_END_TIME": "1600"}, 3600.0, now=1000.0)
        JobEnd(at=1600.0, source='SLURM_JOB_END_TIME', span=600.0)
    """
    started = min(_number(environment.get(STARTED)) or _number(environment.get("SLURM_JOB_START_TIME")) or now, now)
    ends: list[JobEnd] = []
    if walltime:
        ends.append(JobEnd(started + walltime, "the provider's walltime", walltime))
    asked = _number(environment.get("PBS_WALLTIME"))
    if asked:
        ends.append(JobEnd(started + asked, "PBS_WALLTIME", asked))
    told = _number(environment.get("SLURM_JOB_END_TIME"))
    if told:
        ends.append(JobEnd(told, "SLURM_JOB_END_TIME", told - started))
    return min((end for end in ends if end.at > now), default=None)


def _number(text: str | None) -> float | None:
    """The positive number in a variable; None for anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
