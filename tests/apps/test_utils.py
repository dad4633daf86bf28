"""Helpers that plug-ins of the field import from ``flowlib.utils``."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from flowlib.utils import execute_wait, wtime_to_minutes


def test_execute_wait() -> None:
    """Exit code and both streams of a shell command, of any length."""
    assert execute_wait("echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    code, out, _ = execute_wait("head -c 300000 /dev/zero | tr '\\0' x", walltime=30)
    assert (code, len(out)) == (0, 300_000)


def test_execute_wait_kills_what_takes_too_long() -> None:
    """Nothing of a command is left when its time is over."""
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        execute_wait("echo $$; sleep 60 & sleep 60", walltime=0.5)
    assert time.monotonic() - began < 10
    group = int(caught.value.output)
    with pytest.raises(ProcessLookupError):
        while time.monotonic() - began < 10:
            os.killpg(group, 0)
            time.sleep(0.01)


def test_wtime_to_minutes() -> None:
    """Whole minutes; a time that is none is refused."""
    assert (wtime_to_minutes("01:30:59"), wtime_to_minutes("00:10:00")) == (90, 10)
    with pytest.raises(ValueError, match="time_string"):
        wtime_to_minutes("soon")
