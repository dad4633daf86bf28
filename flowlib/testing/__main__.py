"""Runs a command where a fake scheduler can be found: ``python -m flowlib.testing slurm -- python script.py``.

The scheduler's commands are on PATH, and ``flowlib.load("fake-slurm")`` runs on it.  All of it ends with the command.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code.

    Args:
        arguments: Of the command line; None for this process's.
    """
    from flowlib.testing.schedulers import KINDS, fake_scheduler
    from flowlib.units import parse_time

    parser = argparse.ArgumentParser(prog="python -m flowlib.testing", description="Run a command on a fake scheduler.")
    known = sorted({*KINDS, *(kind.site for kind in KINDS.values())})
    parser.add_argument("kind", choices=known, metavar="KIND", help=f"one of {', '.join(known)}")
    parser.add_argument("--nodes", type=int, default=32, help="how many nodes it has (%(default)s)")
    parser.add_argument("--delay", type=parse_time, default=0.0, help="how long jobs are pending at least (0)")
    parser.add_argument("--queues", help="its queues or partitions, with commas between them (any)")
    parser.add_argument("--accounts", help="its accounts, with commas between them (any)")
    parser.add_argument("--max-walltime", type=parse_time, help="the longest walltime that it takes (any)")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, behind --")
    options = parser.parse_args(arguments)
    settings = {
        "nodes": options.nodes,
        "delay": options.delay,
        "queues": options.queues.split(",") if options.queues else None,
        "accounts": options.accounts.split(",") if options.accounts else None,
        "max_walltime": options.max_walltime,
    }
    with fake_scheduler(options.kind, **settings) as scheduler:
        scheduler.write_site(scheduler.directory / "sites")
        before = os.environ.get("FLOWLIB_SITES")
        sites = os.pathsep.join([str(scheduler.directory / "sites"), *([before] if before else [])])
        return subprocess.run(options.command, env={**os.environ, "FLOWLIB_SITES": sites}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
