"""Flux's commands, each the first argument of ``flux``."""

from __future__ import annotations

import sys
from pathlib import Path

from flowlib.testing.fakes.lives import end, make
from flowlib.testing.fakes.state import FakeJob, here
from flowlib.testing.fakes.text import directives, numbers, option, seconds, value

_RESULTS = {"completed": "COMPLETED", "cancelled": "CANCELED", "timeout": "TIMEOUT", "failed": "FAILED"}


def environment(job: FakeJob, directory: Path) -> dict[str, str]:
    """What a job finds in its environment."""
    return {"FLUX_ENCLOSING_ID": f"f{job.n}", "FLUX_JOB_NNODES": str(len(job.hosts))}


def start_directory(job: FakeJob) -> str:
    """Where a job starts."""
    return job.workdir


def batch(args: list[str]) -> int:
    """Submit a script."""
    lines = directives(Path(args[-1]).read_text(), "# flux:")
    settings = here().settings()
    job = FakeJob(
        0, value(lines, "--job-name=(.*)"), args[-1],
        value(lines, "--output=(.*)").replace("{{", "{").replace("}}", "}"),
        value(lines, "--error=(.*)").replace("{{", "{").replace("}}", "}"),
        seconds(value(lines, "--time-limit=(.*)", "1:00:00")), int(value(lines, "--nodes=(.*)", "1")),
        value(lines, "--queue=(.*)"), value(lines, "--bank=(.*)"),
    )  # fmt: skip
    if settings.queues is not None and job.queue and job.queue not in settings.queues:
        return _refuse(f"Invalid queue '{job.queue}' specified")
    if settings.accounts is not None and job.account and job.account not in settings.accounts:
        return _refuse(f"cannot find user/bank or user/default bank entry for: {job.account}")
    if settings.max_walltime is not None and job.walltime > settings.max_walltime:
        return _refuse("requested duration exceeds policy limit, which is invalid")
    print(f"f{make(job)}")
    return 0


def jobs(args: list[str]) -> int:
    """List jobs."""
    name = option(args, "--name")
    if name is not None:
        for job in here().jobs():
            if job.name == name:
                print(f"ƒ{job.n}|{job.name}")
        return 0
    code = 0
    for n in numbers(args):
        known = here().load(n)
        if known is None:
            print(f"flux-jobs: ERROR: JobID f{n} unknown", file=sys.stderr)
            code = 1
            continue
        done = f"INACTIVE|{_RESULTS.get(known.state)}|{known.shell_code if known.code is not None else ''}"
        words = {"pending": "SCHED||", "running": "RUN||"}.get(known.state, done)
        print(f"ƒ{n}|{words}|")
    return code


def cancel(args: list[str]) -> int:
    """End jobs."""
    code = 0
    for n in numbers(args):
        job = here().load(n)
        if job is None:
            print(f"flux-cancel: ERROR: {n}: unknown job", file=sys.stderr)
            code = 1
        else:
            end(job)
    return code


def _refuse(words: str) -> int:
    print(f"flux-batch: ERROR: [Errno 22] {words}", file=sys.stderr)
    return 1


COMMANDS = {"flux-batch": batch, "flux-jobs": jobs, "flux-cancel": cancel}
"""By name."""
