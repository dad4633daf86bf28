"""Small helpers that the field's scripts and plug-ins import from here."""

from __future__ import annotations

import os
import signal
import subprocess

from flowlib.dataflow.memoization import get_all_checkpoints as get_all_checkpoints
from flowlib.dataflow.memoization import get_last_checkpoint as get_last_checkpoint
from flowlib.representation import RepresentationMixin as RepresentationMixin
from flowlib.units import parse_time

__all__ = ["RepresentationMixin", "execute_wait", "get_all_checkpoints", "get_last_checkpoint", "wtime_to_minutes"]


def execute_wait(cmd: str, walltime: float | None = None) -> tuple[int, str, str]:
    """Run a shell command and wait for it; for providers that call a scheduler's commands.

    Args:
        cmd: The command line.
        walltime: Most seconds; None for no limit.

    Returns:
        Its exit code, standard output and standard error.

    Raises:
        subprocess.TimeoutExpired: It took longer. It and all that it started in its group are dead.

    Example:
        >>> execute_wait("echo hello; exit 3")
        (3, 'hello\\n', '')
    """
    process = subprocess.Popen(
        cmd, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        try:
            out, err = process.communicate(timeout=walltime)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err


def wtime_to_minutes(time_string: str) -> int:
    """The whole minutes in a time as people write it.

    Example:
        >>> wtime_to_minutes("01:30:00")
        90
    """
    return int(parse_time(time_string, "time_string") // 60)
