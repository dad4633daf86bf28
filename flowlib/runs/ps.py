"""``flowlib ps``: the runs of this user, with their tasks and blocks."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from flowlib.runs import found, jobs
from flowlib.sites.command import print_json, print_parts

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Carry the command out.

    Args:
        options: As parsed by ``flowlib.cli``.

    Returns:
        Exit code: 1 if something could not be found out.
    """
    runs, problems = found.below(options.directory or ".")
    shown = runs if options.all else [run for run in runs if run.state != found.ENDED]
    left: dict[str, list[jobs.LeftJob]] = {}
    if options.orphans:
        for one in runs:
            if one.dead:
                told = jobs.left_by(one.path)
                left[one.path] = told.jobs
                problems += [f"{one.path}: {text}" for text in told.problems]
        shown = [one for one in runs if left.get(one.path)]
    if options.json:
        print_json([_plain(one, left.get(one.path, [])) for one in shown])
    elif shown:
        _table(shown, left)
    else:
        hidden = len(runs) - len(shown)
        more = f"; {hidden} that ended, `flowlib ps --all` shows them" if hidden and not options.orphans else ""
        what = "jobs of dead drivers" if options.orphans else "runs that are not over"
        sys.stdout.write(f"no {what} below {os.path.abspath(options.directory or '.')}{more}\n")
    for text in problems:
        sys.stderr.write(f"flowlib: {text}\n")
    return 1 if problems else 0


def _plain(one: found.FoundRun, left: list[jobs.LeftJob]) -> dict[str, Any]:
    told = one.summary
    return {
        "run": one.path,
        "id": told.run_id,
        "state": one.state,
        "script": told.script,
        "host": told.host,
        "pid": told.pid,
        "started": told.started,
        "ended": told.ended or None,
        "reason": told.reason,
        "tasks": told.tasks,
        "blocks": [
            {"executor": b.executor, "block": b.block, "job": b.job, "state": b.state, "reason": b.reason}
            for b in told.blocks
        ],
        "orphans": [{"scheduler": j.scheduler, "job": j.id, "name": j.name, "state": j.state} for j in left],
    }


def _table(runs: list[found.FoundRun], left: dict[str, list[jobs.LeftJob]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True, style="bold")
    for heading in ("id", "state", "began", "script", "driver", "tasks", "blocks"):
        table.add_column(heading)
    for one in runs:
        told = one.summary
        began = time.strftime("%m-%d %H:%M", time.localtime(told.started)) if told.started else "?"
        tasks = ", ".join(f"{number} {word}" for word, number in told.tasks.items()) or "none"
        inside = one.path.startswith(os.getcwd() + os.sep)
        where = os.path.relpath(one.path) if inside else one.path
        driver = f"{told.pid} on {told.host}" if told.pid else "?"
        row = (where, told.run_id[:8], one.state, began, os.path.basename(told.script), driver, tasks)
        table.add_row(*map(Text, row), Text(_blocks(one, left.get(one.path))))
    print_parts(table)


def _blocks(one: found.FoundRun, left: list[jobs.LeftJob] | None) -> str:
    if left is not None:
        return ", ".join(f"job {job.id} {job.state.lower()}" for job in left) or "no job left"
    alive = [block for block in one.summary.blocks if block.alive]
    if one.dead:
        return f"{len(alive)} with no word of their end: see --orphans" if alive else "none"
    shown = [f"{b.executor}/{b.block} {b.state}{f' (job {b.job})' if b.job else ''}" for b in alive[:3]]
    return ", ".join([*shown, f"{len(alive) - 3} more"] if len(alive) > 3 else shown) or "none"
