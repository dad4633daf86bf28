"""The nodes that a manager's job has, and the launchers on them: files are read, commands are run.

What the texts mean is known to ``hostlists`` and ``mpi_prefixes``.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence

from flowlib.executors.high_throughput.hostlists import Source, distinct, lines, source
from flowlib.executors.high_throughput.mpi_prefixes import flavour

PATIENCE = 20.0
"""Seconds for a command that should only print something."""


def find_nodes(launcher: str, hostfile: str | None, environment: Mapping[str, str]) -> list[str]:
    """The names of the nodes of this job: those in the file, or the scheduler's, or this machine alone.

    Args:
        launcher: How MPI programs are started; with "jsrun" the job's first node only starts them.
        hostfile: A file with a name a line; None to ask the scheduler.
        environment: The job's.

    Raises:
        OSError: A file cannot be read, or a command not be run.
        ValueError: No nodes are named where they should be.
    """
    if hostfile is not None:
        with open(hostfile, encoding="utf-8") as file:
            found = distinct(lines(file.read()))
        if not found:
            raise ValueError(f"hostfile={hostfile!r} names no node: put one name on each line")
        return found
    there = source(environment)
    if there is None:
        return [socket.gethostname()]
    found = distinct(there.read(_text(there)), launch_node=launcher == "jsrun")
    if not found:
        raise ValueError(f"{there.scheduler} names no node for this job (by {there.variable}); give hostfile=")
    return found


def _text(there: Source) -> str:
    if there.file:
        with open(there.file, encoding="utf-8") as file:
            return file.read()
    said = ""
    for command in there.commands:
        code, said = _run(command)
        if code == 0:
            return said
    if there.commands:
        raise ValueError(
            f"{there.scheduler} does not name this job's nodes: {' '.join(there.commands[-1])!r} says {said.strip()!r}"
        )
    return there.text


def find_flavours() -> dict[str, str]:
    """What the ``mpiexec`` and the ``mpirun`` on PATH are; those that are not there are left out."""
    found = {}
    for launcher in ("mpiexec", "mpirun"):
        code, said = _run((launcher, "--version"))
        if code == 0:
            found[launcher] = flavour(said)
    return found


def _run(command: Sequence[str]) -> tuple[int, str]:
    """A command's exit code, -1 if it could not be run or took too long, and what it printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
            env=os.environ,
        )
    except OSError as e:
        return -1, f"{command[0]}: {e.strerror}"
    except subprocess.TimeoutExpired:
        return -1, f"nothing within {PATIENCE:g} s"
    return done.returncode, done.stdout
