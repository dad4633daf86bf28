"""LSF's commands, as of version 10."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flowlib.testing.fakes.lives import end, make
from flowlib.testing.fakes.state import FakeJob, here
from flowlib.testing.fakes.text import directives, numbers, option, value

_WORDS = {"pending": "PEND", "running": "RUN", "completed": "DONE"}
_REASONS = {
    "timeout": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
    "cancelled": "TERM_OWNER: job killed by owner",
}


def environment(job: FakeJob, directory: Path) -> dict[str, str]:
    """What a job finds in its environment."""
    hosts = directory / f"hosts.{job.n}"
    hosts.write_text("".join(f"{host}\n" for host in job.hosts))
    return {
        "LSB_JOBID": str(job.n),
        "LSB_JOBNAME": job.name,
        "LSB_QUEUE": job.queue or "normal",
        "LSB_HOSTS": " ".join(job.hosts),
        "LSB_DJOB_HOSTFILE": str(hosts),
        "LS_SUBCWD": job.workdir,
    }


def start_directory(job: FakeJob) -> str:
    """Where a job starts."""
    return job.workdir


def bsub(args: list[str]) -> int:
    """Submit a script, which may also come as standard input."""
    script = args[-1] if args else str(here().directory / f"spool.{os.getpid()}")
    if not args:
        Path(script).write_text(sys.stdin.read())
    lines = directives(Path(script).read_text(), "#BSUB")
    settings = here().settings()
    job = FakeJob(
        0, value(lines, "-J (.*)"), script, value(lines, "-o (.*)").replace("%%", "%"),
        value(lines, "-e (.*)").replace("%%", "%"), _limit(value(lines, "-W (.*)", "60")),
        int(value(lines, r"-nnodes (\d+)", "1")), value(lines, "-q (.*)"), value(lines, "-P (.*)"),
    )  # fmt: skip
    if settings.queues is not None and job.queue and job.queue not in settings.queues:
        print(f"{job.queue}: No such queue. Job not submitted.", file=sys.stderr)
        return 255
    if settings.max_walltime is not None and job.walltime > settings.max_walltime:
        print("RUNLIMIT: Cannot exceed queue's hard limit(s). Job not submitted.", file=sys.stderr)
        return 255
    where = f"queue <{job.queue}>" if job.queue else "default queue <normal>"
    print(f"Job <{make(job)}> is submitted to {where}.")
    return 0


def _limit(text: str) -> float:
    """Seconds of minutes, or of hours and minutes."""
    hours, colon, minutes = text.partition(":")
    return (float(hours) * 60 + float(minutes)) * 60 if colon else float(hours) * 60


def bjobs(args: list[str]) -> int:
    """List jobs."""
    code = 0
    name = option(args, "-J")
    if name is not None:
        found = [job for job in here().jobs() if job.name == name]
        for job in found:
            print(f"{job.n}|{name}")
        if not found:
            print(f"Job <{name}> is not found", file=sys.stderr)
            return 255
        return 0
    for n in numbers(args):
        known = here().load(n)
        if known is None:
            print(f"Job <{n}> is not found", file=sys.stderr)
            code = 255
            continue
        exit_code = "-" if known.code is None or known.state == "completed" else str(known.shell_code)
        print(f"{n}|{_WORDS.get(known.state, 'EXIT')}|{exit_code}|{_REASONS.get(known.state, '-')}")
    return code


def bkill(args: list[str]) -> int:
    """End jobs."""
    code = 0
    for n in numbers(args):
        job = here().load(n)
        if job is None:
            print(f"Job <{n}>: No matching job found", file=sys.stderr)
            code = 255
        elif job.ended:
            print(f"Job <{n}>: Job has already finished", file=sys.stderr)
            code = 255
        else:
            end(job)
            print(f"Job <{n}> is being terminated")
    return code


def bhist(args: list[str]) -> int:
    """Tell what became of jobs, in folded lines."""
    code = 0
    for n in numbers(args):
        job = here().load(n, "history")
        if job is None:
            print("No matching job found", file=sys.stderr)
            code = 255
            continue
        ends = {
            "completed": "Done successfully. The CPU time used is 0.1 seconds",
            "timeout": "Exited; job has been forced to exit with exit code 143. Completed <exit>; TERM_RUNLIMIT: "
            "job killed after reaching LSF run time limit",
        }
        story = ends.get(job.state, f"Exited with exit code {job.shell_code}. The CPU time used is 0.1 seconds")
        text = f"Mon Nov 23 10:00:00: {story};"
        folded = "\n                     ".join(text[i : i + 58] for i in range(0, len(text), 58))
        print(f"\nJob <{n}>, Job Name <{job.name}>, User <u>, Project <default>, Command <x>\n{folded}\n")
    return code


COMMANDS = {"bsub": bsub, "bjobs": bjobs, "bkill": bkill, "bhist": bhist}
"""By name."""
