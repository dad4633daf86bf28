"""Grid Engine's commands, as of Son of Grid Engine 8."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from flowlib.testing.fakes.lives import end, make
from flowlib.testing.fakes.state import FakeJob, here
from flowlib.testing.fakes.text import directives, numbers, option, seconds, value


def environment(job: FakeJob, directory: Path) -> dict[str, str]:
    """What a job finds in its environment."""
    hosts = directory / f"hosts.{job.n}"
    hosts.write_text("".join(f"{host} 1 all.q@{host} UNDEFINED\n" for host in job.hosts))
    return {
        "JOB_ID": str(job.n),
        "JOB_NAME": job.name,
        "QUEUE": job.queue or "all.q",
        "PE_HOSTFILE": str(hosts),
        "NSLOTS": str(len(job.hosts)),
        "SGE_O_WORKDIR": job.workdir,
    }


def start_directory(job: FakeJob) -> str:
    """Where a job starts, with ``-cwd``."""
    return job.workdir


def qsub(args: list[str]) -> int:
    """Submit a script."""
    path = Path(args[-1])
    if not path.is_file():
        print(
            f"Unable to read script file because of error: error opening {path}: No such file or directory",
            file=sys.stderr,
        )
        return 14
    lines = directives(path.read_text(), "#$")
    settings = here().settings()
    job = FakeJob(
        0, value(lines, "-N (.*)", path.name), str(path), value(lines, "-o (.*)"), value(lines, "-e (.*)"),
        seconds(value(lines, "-l h_rt=(.*)", "1:00:00")), 1, value(lines, "-q (.*)"), value(lines, "-P (.*)"),
    )  # fmt: skip
    if settings.queues is not None and job.queue and job.queue not in settings.queues:
        return _refuse(f'Job was rejected because job requests unknown queue "{job.queue}"')
    if settings.accounts is not None and job.account and job.account not in settings.accounts:
        return _refuse(f'job rejected: the requested project "{job.account}" does not exist')
    n = make(job)
    print(n if "-terse" in args else f'Your job {n} ("{job.name}") has been submitted')
    return 0


def qstat(args: list[str]) -> int:
    """List jobs as XML."""
    rows: dict[str, list[str]] = {"running": [], "pending": []}
    for job in here().jobs():
        if not job.ended:
            letters = "r" if job.state == "running" else "qw"
            rows[job.state].append(
                f'<job_list state="{job.state}"><JB_job_number>{job.n}</JB_job_number>'
                f"<JB_name>{escape(job.name)}</JB_name><state>{letters}</state></job_list>"
            )
    print("<?xml version='1.0'?>\n<job_info>")
    print(f"<queue_info>{''.join(rows['running'])}</queue_info><job_info>{''.join(rows['pending'])}</job_info>")
    print("</job_info>")
    return 0


def qdel(args: list[str]) -> int:
    """End jobs."""
    code = 0
    for n in numbers(args):
        job = here().load(n)
        if job is None:
            print(f'denied: job "{n}" does not exist')
            code = 1
        else:
            end(job)
            print(f"user has registered the job {n} for deletion")
    return code


def qacct(args: list[str]) -> int:
    """Tell what became of a job."""
    n = option(args, "-j") or ""
    job = here().load(n, "history")
    if job is None:
        print(f"error: job id {n} not found", file=sys.stderr)
        return 1
    failure = {
        "timeout": "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "cancelled": "100 : assumedly after job",
    }.get(job.state, "0    ")  # fmt: skip
    print("=" * 62)
    print(f"jobname      {job.name}\njobnumber    {n}\nfailed       {failure}")
    print(f"exit_status  {job.shell_code}{'                  (Killed)' if job.shell_code == 137 else ''}")
    return 0


def _refuse(words: str) -> int:
    print(f"Unable to run job: {words}\nExiting.", file=sys.stderr)
    return 1


COMMANDS = {"qsub": qsub, "qstat": qstat, "qdel": qdel, "qacct": qacct}
"""By name."""
