"""HTCondor's commands, as of version 10."""

from __future__ import annotations

import sys
from pathlib import Path

from flowlib.testing.fakes.lives import end, make
from flowlib.testing.fakes.state import FakeJob, here
from flowlib.testing.fakes.text import numbers, option

_REMOVED = {
    "timeout": "The job attribute PeriodicRemove expression evaluated to TRUE",
    "cancelled": "via condor_rm",
}


def environment(job: FakeJob, directory: Path) -> dict[str, str]:
    """What a job finds in its environment."""
    return {"_CONDOR_SLOT": "slot1", "CONDOR_ID": f"{job.n}.0"}


def start_directory(job: FakeJob) -> str:
    """Where a job starts."""
    return job.workdir


def condor_submit(args: list[str]) -> int:
    """Submit what a file describes."""
    pairs = (line.partition(" = ") for line in Path(args[-1]).read_text().splitlines())
    fields = {name: text.replace("$(DOLLAR)", "$") for name, _, text in pairs}
    limit = fields.get("periodic_remove", "> 3600").rpartition(">")[2]
    job = FakeJob(
        0, fields["batch_name"], fields["executable"], fields["output"], fields["error"], float(limit),
        int(fields.get("machine_count", "1")), account=fields.get("+ProjectName", "").strip('"'),
    )  # fmt: skip
    n = make(job)
    print(f"{n}.0 - {n}.0" if "-terse" in args else f"1 job(s) submitted to cluster {n}.")
    return 0


def _row(job: FakeJob) -> str:
    number = {"pending": 1, "running": 2, "cancelled": 3, "timeout": 3}.get(job.state, 4)
    code, done = job.code or 0, number == 4
    fields = [
        job.n, 0, number,
        str(code < 0).lower() if done else "undefined",
        code if done and code >= 0 else "undefined",
        -code if done and code < 0 else "undefined",
        "undefined",
        _REMOVED.get(job.state, "undefined"),
    ]  # fmt: skip
    return "\t".join(map(str, fields))


def condor_q(args: list[str]) -> int:
    """List jobs; removed ones are no more in the queue, completed ones are for a while."""
    constraint = option(args, "-constraint")
    if constraint is not None:
        name = constraint.split('"')[1]
        for job in here().jobs():
            if job.name == name:
                print(f"{job.n}\t0\t{name}")
        return 0
    for n in numbers(args):
        known = here().load(n)
        if known is not None and known.state not in _REMOVED:
            print(_row(known))
    return 0


def condor_rm(args: list[str]) -> int:
    """End jobs."""
    code = 0
    for n in numbers(args):
        job = here().load(n)
        if job is None:
            print(f"Job {n}.0 not found", file=sys.stderr)
            code = 1
        else:
            end(job)
            print(f"Job {n}.0 marked for removal")
    return code


def condor_history(args: list[str]) -> int:
    """Tell what became of jobs."""
    for n in numbers(args[: args.index("-limit")] if "-limit" in args else args):
        job = here().load(n, "history")
        if job is not None:
            print(_row(job))
    return 0


COMMANDS = {
    "condor_submit": condor_submit, "condor_q": condor_q, "condor_rm": condor_rm, "condor_history": condor_history,
}  # fmt: skip
"""By name."""
