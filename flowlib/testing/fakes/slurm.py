"""Slurm's commands, as of versions 20 to 23."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from flowlib.testing.fakes.lives import end, make
from flowlib.testing.fakes.state import FakeJob, here
from flowlib.testing.fakes.text import directives, numbers, option, seconds, value

_WORDS = {
    "pending": "PENDING", "running": "RUNNING", "completed": "COMPLETED", "failed": "FAILED",
    "cancelled": "CANCELLED", "timeout": "TIMEOUT",
}  # fmt: skip


def environment(job: FakeJob, directory: Path) -> dict[str, str]:
    """What a job finds in its environment."""
    return {
        "SLURM_JOB_ID": str(job.n),
        "SLURM_JOB_NAME": job.name,
        "SLURM_JOB_PARTITION": job.queue or "debug",
        "SLURM_JOB_NODELIST": ",".join(job.hosts),
        "SLURM_JOB_NUM_NODES": str(len(job.hosts)),
        "SLURM_NNODES": str(len(job.hosts)),
        "SLURM_SUBMIT_DIR": job.workdir,
        "SLURMD_NODENAME": job.hosts[0],
    }


def start_directory(job: FakeJob) -> str:
    """Where a job starts."""
    return job.workdir


def sbatch(args: list[str]) -> int:
    """Submit a script."""
    path = Path(args[-1])
    if not path.is_file():
        return _refuse(f"Unable to open file {path}", whole=False)
    text = path.read_text()
    if not text.startswith("#!"):
        return _refuse("This does not look like a batch script.  The first", whole=False)
    lines = directives(text, "#SBATCH")
    settings = here().settings()
    job = FakeJob(
        0, value(lines, "--job-name=(.*)", path.name), str(path),
        value(lines, "--output=(.*)").replace("%%", "%"), value(lines, "--error=(.*)").replace("%%", "%"),
        seconds(value(lines, "--time=(.*)", "1:00:00")), int(value(lines, "--nodes=(.*)", "1")),
        value(lines, "--partition=(.*)"), value(lines, "--account=(.*)"),
    )  # fmt: skip
    if settings.queues is not None and job.queue and job.queue not in settings.queues:
        print(f"sbatch: error: invalid partition specified: {job.queue}", file=sys.stderr)
        return _refuse("Invalid partition name specified")
    if settings.accounts is not None and job.account not in settings.accounts:
        return _refuse("Invalid account or account/partition combination specified")
    if settings.max_walltime is not None and job.walltime > settings.max_walltime:
        return _refuse("Requested time limit is invalid (missing or exceeds some limit)")
    if job.nodes > len(settings.nodes):
        return _refuse("Requested node configuration is not available")
    print(f"Submitted batch job {make(job)}")
    return 0


def squeue(args: list[str]) -> int:
    """List jobs in a given form; ended ones too, for a while."""
    pattern = option(args, "-o") or "%i %T"
    found = here().jobs()
    chosen = option(args, "-j")
    if chosen is not None:
        wanted = numbers([chosen])
        found = [job for job in found if str(job.n) in wanted]
        if not found and len(wanted) == 1:
            print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
            return 1
    name = option(args, "--name")
    if name is not None:
        found = [job for job in found if job.name == name]
    for job in found:
        fields = {"i": str(job.n), "T": _WORDS[job.state], "r": job.reason or "None", "j": job.name}
        print(_filled(pattern, fields))
    return 0


def scancel(args: list[str]) -> int:
    """End jobs; says nothing of those that it does not know."""
    for n in numbers(args):
        if job := here().load(n):
            end(job)
    return 0


def sacct(args: list[str]) -> int:
    """Tell what became of jobs."""
    if not here().settings().accounting:
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    for n in numbers([option(args, "-j") or ""]):
        if job := here().load(n, "history") or here().load(n):
            code = job.code or 0
            print(f"{n}|{_WORDS[job.state]}|{f'{code}:0' if code >= 0 else f'0:{-code}'}")
    return 0


def scontrol(args: list[str]) -> int:
    """``scontrol show hostnames LIST`` only."""
    if args[:2] != ["show", "hostnames"]:
        print(f"invalid keyword: {' '.join(args)}", file=sys.stderr)
        return 1
    print("\n".join(args[2].split(",")))
    return 0


def _filled(pattern: str, fields: dict[str, str]) -> str:
    return re.sub(r"%(\w)", lambda match: fields[match[1]], pattern)


def _refuse(words: str, whole: bool = True) -> int:
    print(f"sbatch: error: {'Batch job submission failed: ' if whole else ''}{words}", file=sys.stderr)
    return 1


COMMANDS = {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "sacct": sacct, "scontrol": scontrol}
"""By name."""
