"""What a provider says about a job, and how failures are told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowlib.jobs.error_handlers import (
    describe_failures,
    noop_error_handler,
    simple_error_handler,
    windowed_error_handler,
)
from flowlib.jobs.states import SUMMARY_BYTES, TERMINAL_STATES, JobState, JobStatus, read_tail


class Executor:
    """Writes down that it was given up."""

    def __init__(self, init_blocks: int = 1) -> None:
        self.provider = SimpleNamespace(init_blocks=init_blocks)
        self.error: BaseException | None = None

    def set_bad_state_and_fail_all(self, error: BaseException) -> None:
        self.error = error


def statuses(*states: JobState) -> dict[str, JobStatus]:
    """Blocks 0, 1 ... in these states."""
    return {str(i): JobStatus(state) for i, state in enumerate(states)}


OK, BAD, GONE, LIVE = JobState.COMPLETED, JobState.FAILED, JobState.MISSING, JobState.RUNNING


@pytest.mark.parametrize("state", JobState)
def test_terminal(state: JobState) -> None:
    """A state is terminal in the enumeration, in the set and in a status alike."""
    assert state.terminal == (state in TERMINAL_STATES) == JobStatus(state).terminal
    assert JobStatus(state).status_name == state.name


def test_values_that_scripts_rely_on() -> None:
    """Numbers and order of the states are the field's."""
    assert [s.name for s in sorted(JobState)] == (
        ["UNKNOWN", "PENDING", "RUNNING", "CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "HELD", "MISSING", "SCALED_IN"]
    )


def test_summaries(tmp_path: Path) -> None:
    """A summary is the end of the file, from the start of a line, whatever bytes there are."""
    path = tmp_path / "out"
    path.write_bytes(b"".join(b"line %04d\n" % i for i in range(1000)) + b"\xff last")
    summary = JobStatus(OK, stdout_path=str(path)).stdout_summary
    assert summary is not None
    assert summary.endswith("line 0999\n\N{REPLACEMENT CHARACTER} last")
    assert summary.startswith("line 0")
    assert len(summary) <= SUMMARY_BYTES


def test_summary_of_one_long_line(tmp_path: Path) -> None:
    """Where no line starts in the last part, all of that part is given."""
    path = tmp_path / "out"
    path.write_bytes(b"x" * 10_000)
    assert read_tail(str(path)) == "x" * SUMMARY_BYTES


def test_no_summary(tmp_path: Path) -> None:
    """Without a file there is no summary, and no error."""
    status = JobStatus(BAD, stderr_path=str(tmp_path / "none"))
    assert (status.stdout_summary, status.stderr_summary) == (None, None)


@pytest.mark.parametrize(
    ("init_blocks", "states", "gives_up"),
    [
        (1, (BAD,), True),
        (1, (GONE,), True),
        (0, (BAD,), True),
        (0, (), False),
        (2, (BAD,), False),
        (2, (BAD, GONE), True),
        (1, (BAD, OK), False),
        (1, (BAD, LIVE), False),
    ],
)
def test_simple_handler(init_blocks: int, states: tuple[JobState, ...], gives_up: bool) -> None:
    """It gives up when all of at least init_blocks blocks failed."""
    executor = Executor(init_blocks)
    simple_error_handler(executor, statuses(*states))
    assert (executor.error is not None) == gives_up


@pytest.mark.parametrize(
    ("states", "gives_up"),
    [((BAD, BAD), False), ((OK, BAD, GONE, BAD), True), ((BAD, BAD, BAD, OK), False), ((BAD, BAD, BAD, LIVE), False)],
)
def test_windowed_handler(states: tuple[JobState, ...], gives_up: bool) -> None:
    """It gives up when the newest three blocks failed."""
    executor = Executor()
    windowed_error_handler(executor, statuses(*states))
    assert (executor.error is not None) == gives_up


def test_window_goes_by_number() -> None:
    """Block 10 is newer than block 9, however the table is ordered."""
    states = {str(i): JobStatus(BAD if i > 8 else OK) for i in (10, 1, 9, 2, 11)}
    executor = Executor()
    windowed_error_handler(executor, states)
    assert executor.error is not None


def test_noop_handler() -> None:
    """It never gives up."""
    executor = Executor()
    noop_error_handler(executor, statuses(*[BAD] * 100))
    assert executor.error is None


def test_description(tmp_path: Path) -> None:
    """Blocks that failed alike are told once; the newest one's standard error is quoted, and its files are named."""
    (tmp_path / "err").write_text("bash: module: command not found\n")
    details: dict[str, Any] = {"stderr_path": str(tmp_path / "err"), "script_path": "/run/job.sh"}
    failed = {str(i): JobStatus(BAD, "its last command failed", 127, **details) for i in range(7)}
    failed["7"] = JobStatus(GONE, "unknown to the scheduler", **details)
    text = describe_failures(failed, {"0": "4711"})
    assert "blocks 0 (job 4711), 1, 2, 3, 4 and 2 more: FAILED, EXIT CODE: 127: its last command failed" in text
    assert "block 7: MISSING: unknown to the scheduler" in text
    assert "script: /run/job.sh" in text
    assert f"({tmp_path / 'err'}):\n    bash: module: command not found" in text


def test_description_names_failed_commands_of_worker_init(tmp_path: Path) -> None:
    """They are named though a long traceback, which came of them, fills the end of standard error."""
    note = "exit code 1 at /run/job.sh:5: module load python"
    (tmp_path / "err").write_text(f"flowlib: worker_init: {note}\n" + "  File x\n" * 30 + "ModuleNotFoundError: no y\n")
    text = describe_failures(
        {"0": JobStatus(BAD, "boom", 1, stderr_path=str(tmp_path / "err"), script_path="/run/job.sh")}
    )
    assert "commands that failed in worker_init:\n    exit code 1 at line 5: module load python\n" in text
    assert "ModuleNotFoundError: no y\n  what to do: try the commands of worker_init" in text
    assert text.count("flowlib: worker_init") == 0
