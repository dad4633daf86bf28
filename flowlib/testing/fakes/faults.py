"""What a command does instead of answering, when a test wants to see how that is borne.

A fault is a line of text:

* ``hang``: it waits until it is killed;
* ``make-and-hang``: the order is carried out, the answer never comes;
* ``garbage``: it succeeds, and prints what nobody can read;
* ``fail CODE TEXT``: it fails in these words;
* ``ok``: it does as ever.

Each is for one call; ``always FAULT`` stays.
"""

from __future__ import annotations

import fcntl
import select
from pathlib import Path

LONGEST = 60.0
"""Seconds that a command hangs at most, if nobody kills it."""
GARBAGE = "*** Welcome to the machine. Maintenance on Tuesday! ***"


def next_fault(directory: Path, command: str) -> str:
    """The fault for this call of a command; it is used up."""
    path = directory / "faults" / command
    if not path.exists():
        return "ok"
    with open(path, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().splitlines()
        if lines and lines[0].startswith("always "):
            return lines[0].removeprefix("always ")
        file.seek(0)
        file.truncate()
        file.write("\n".join(lines[1:]))
    return lines[0] if lines else "ok"


def hang() -> int:
    """Wait to be killed."""
    select.select([], [], [], LONGEST)
    return 1
