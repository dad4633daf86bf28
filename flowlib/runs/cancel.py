"""``flowlib cancel``: ends a run, or what runs whose drivers are gone left with a scheduler.

A driver that lives is interrupted as by Ctrl-C, so that it ends its tasks and blocks itself; its pid is used only after
the process was seen to be the one that wrote the run's first record.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from flowlib.errors import ConfigurationError
from flowlib.runs import found, jobs
from flowlib.sites.command import print_json

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Carry the command out.

    Args:
        options: As parsed by ``flowlib.cli``.

    Returns:
        Exit code: 1 if something could not be ended, or not found out.

    Raises:
        ConfigurationError: There is no such run.
    """
    if options.orphans:
        runs, problems = found.below(options.run or ".")
        told = [_left(one, options.dry_run) for one in runs if one.dead]
        told = [answer for answer in told if answer["jobs"] or answer["problems"]]
        elsewhere = sum(one.state == found.ELSEWHERE for one in runs)
        if elsewhere:
            sys.stderr.write(
                f"flowlib: {elsewhere} runs began on another host, which alone can tell whether they are alive: "
                "give this command there\n"
            )
    elif options.run is None:
        raise ConfigurationError("say which run: its directory, its number, the start of its id; or --orphans")
    else:
        told, problems = [_one(found.named(options.run), options)], []
    for text in problems:
        sys.stderr.write(f"flowlib: {text}\n")
    if options.json:
        print_json(told)
    else:
        for answer in told:
            _tell(answer)
        if not told:
            sys.stdout.write("no job is left of a run whose driver is gone\n")
    return 1 if problems or any(answer["problems"] for answer in told) else 0


def _one(one: found.FoundRun, options: argparse.Namespace) -> dict[str, Any]:
    if hasattr(os, "getuid") and os.stat(one.path).st_uid != os.getuid():
        raise ConfigurationError(f"the run in {one.path} is another user's: only they can cancel it")
    if one.state == found.ELSEWHERE:
        raise ConfigurationError(
            f"the run in {one.path} is driven by process {one.summary.pid} on {one.summary.host}: "
            "give this command there"
        )
    if one.state == found.ALIVE and not options.dry_run:
        interrupted = _interrupt(one, options.wait)
        if not interrupted:
            text = (
                f"process {one.summary.pid} was interrupted, as by Ctrl-C, and has not ended after {options.wait:g} s: "
                "it may still be ending its blocks. Look again with `flowlib ps`; "
                f"`kill -9 {one.summary.pid}` and `flowlib cancel` again end it at once"
            )
            return {**_answer(one), "problems": [text]}
        return {**_left(found.open_run(one.path), dry_run=False), "interrupted": True}
    if one.state == found.ALIVE:
        return {**_answer(one), "would_interrupt": one.summary.pid}
    return _left(one, options.dry_run)


def _interrupt(one: found.FoundRun, wait: float) -> bool:
    """Interrupt the driver; whether it ended in time."""
    import psutil

    try:
        process = psutil.Process(one.summary.pid)
        if found.driver_is(one.summary):
            # psutil looks at the process's start once more before it sends anything.
            process.send_signal(signal.SIGINT)
            process.wait(wait)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def _left(one: found.FoundRun, dry_run: bool) -> dict[str, Any]:
    left = jobs.left_by(one.path)
    refused = {} if dry_run else jobs.end(left.jobs)
    problems = [*left.problems, *(f"job {id_} was not cancelled: {why}" for id_, why in refused.items())]
    told = [
        {
            "scheduler": job.scheduler,
            "job": job.id,
            "name": job.name,
            "cancelled": not dry_run and job.id not in refused,
        }
        for job in left.jobs
    ]
    return {**_answer(one), "jobs": told, "problems": problems}


def _answer(one: found.FoundRun) -> dict[str, Any]:
    return {"run": one.path, "id": one.summary.run_id, "state": one.state, "jobs": [], "problems": []}


def _tell(answer: dict[str, Any]) -> None:
    where = answer["run"]
    if answer.get("interrupted"):
        sys.stdout.write(f"{where}: the driver was interrupted, and has ended\n")
    if "would_interrupt" in answer:
        sys.stdout.write(f"{where}: would interrupt process {answer['would_interrupt']}\n")
    for job in answer["jobs"]:
        done = "cancelled" if job["cancelled"] else "still there"
        sys.stdout.write(f"{where}: {job['scheduler']} job {job['job']} ({job['name']}): {done}\n")
    if not (answer["jobs"] or answer["problems"] or answer.get("interrupted") or "would_interrupt" in answer):
        sys.stdout.write(f"{where}: {answer['state']}, and no job is left\n")
    for text in answer["problems"]:
        sys.stderr.write(f"flowlib: {where}: {text}\n")
