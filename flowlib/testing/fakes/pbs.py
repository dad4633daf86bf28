"""The commands of OpenPBS (PBS Professional) and of Torque, which differ in the form of what ``qstat`` prints."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from flowlib.testing.fakes.lives import end, make
from flowlib.testing.fakes.state import FakeJob, here
from flowlib.testing.fakes.text import directives, numbers, seconds, value

SERVER = "fakehost"


def environment(job: FakeJob, directory: Path) -> dict[str, str]:
    """What a job finds in its environment."""
    nodes = directory / f"nodes.{job.n}"
    nodes.write_text("".join(f"{host}\n" for host in job.hosts))
    return {
        "PBS_JOBID": f"{job.n}.{SERVER}",
        "PBS_JOBNAME": job.name,
        "PBS_QUEUE": job.queue or "workq",
        "PBS_NODEFILE": str(nodes),
        "PBS_O_WORKDIR": job.workdir,
        "PBS_ENVIRONMENT": "PBS_BATCH",
    }


def start_directory(job: FakeJob) -> str:
    """Where a job starts: at home, wherever it was submitted."""
    return str(Path.home())


def qsub(args: list[str]) -> int:
    """Submit a script."""
    path = Path(args[-1])
    if not path.is_file():
        return _refuse("script file:: No such file or directory", 1)
    lines = directives(path.read_text(), "#PBS")
    settings = here().settings()
    nodes = value(lines, r"-l select=(\d+).*") or value(lines, r"-l nodes=(\d+).*", "1")
    job = FakeJob(
        0, value(lines, "-N (.*)", path.name), str(path), value(lines, "-o (.*)"), value(lines, "-e (.*)"),
        seconds(value(lines, "-l walltime=(.*)", "1:00:00")), int(nodes), value(lines, "-q (.*)"),
        value(lines, "-A (.*)"),
    )  # fmt: skip
    if settings.queues is not None and job.queue and job.queue not in settings.queues:
        return _refuse("Unknown queue", 170)
    if settings.max_walltime is not None and job.walltime > settings.max_walltime:
        return _refuse("Job violates queue and/or server resource limits", 188)
    print(f"{make(job)}.{SERVER}")
    return 0


def qstat(args: list[str]) -> int:
    """Tell all about jobs."""
    torque = here().settings().kind == "torque"
    code = 0
    for n in numbers(args) or [str(job.n) for job in here().jobs()]:
        job = here().load(n)
        if job is None:
            print(f"qstat: Unknown Job Id{' Error' if torque else ''} {n}.{SERVER}", file=sys.stderr)
            code = 153
        elif torque:
            print(f"Job Id: {n}.{SERVER}")
            for name, text in _fields(job, torque).items():
                folded = re.sub(r",", ",\n\t", text)
                print(f"    {name} = {folded}")
            print()
        else:
            print("|".join([f"Job Id: {n}.{SERVER}", *(f"{k}={v}" for k, v in _fields(job, torque).items())]))
    return code


def _fields(job: FakeJob, torque: bool) -> dict[str, str]:
    last = "C" if torque else "F"
    fields = {
        "Job_Name": job.name,
        "job_state": {"pending": "Q", "running": "R"}.get(job.state, last),
        "queue": job.queue or "workq",
        "Variable_List": "PBS_O_HOME=/home/u,PBS_O_LANG=C",
    }
    if job.hosts:
        fields["exec_host"] = "+".join(f"{host}/0" for host in job.hosts)
    if job.state == "pending":
        fields["comment"] = "Not Running: Insufficient amount of resource: ncpus"
    if job.ended and job.code is not None:
        timeout = -11 if torque else -29
        code = timeout if job.state == "timeout" else 256 - job.code if job.code < 0 else job.code
        fields["exit_status" if torque else "Exit_status"] = str(code)
    return fields


def qdel(args: list[str]) -> int:
    """End jobs."""
    code = 0
    for n in numbers(args):
        job = here().load(n)
        if job is None:
            print(f"qdel: Unknown Job Id {n}.{SERVER}", file=sys.stderr)
            code = 153
        elif job.ended:
            print(f"qdel: Job has finished {n}.{SERVER}", file=sys.stderr)
            code = 35
        else:
            end(job)
    return code


def _refuse(words: str, code: int) -> int:
    print(f"qsub: {words}", file=sys.stderr)
    return code


COMMANDS = {"qsub": qsub, "qstat": qstat, "qdel": qdel}
"""By name."""
