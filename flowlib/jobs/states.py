"""What a provider says about a job: one state, and where to look when it went wrong.

The names and numbers are those that scripts of this field read; a scheduler's own words end up in ``message``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

SUMMARY_BYTES = 2048
"""How much of a job's output a summary keeps, from its end."""


class JobState(IntEnum):
    """State of a job at its provider."""

    UNKNOWN = 0
    """The provider cannot tell; counts as alive."""
    PENDING = 1
    RUNNING = 2
    CANCELLED = 3
    COMPLETED = 4
    FAILED = 5
    TIMEOUT = 6
    HELD = 7
    MISSING = 8
    """The provider does not know the job, or it ended and no manager ever came from it."""
    SCALED_IN = 9
    """Ended on purpose."""

    def __str__(self) -> str:
        return f"JobState.{self.name}"

    @property
    def terminal(self) -> bool:
        """Whether a job in this state never changes again."""
        return self in TERMINAL_STATES


TERMINAL_STATES = frozenset(
    {
        JobState.CANCELLED,
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.TIMEOUT,
        JobState.MISSING,
        JobState.SCALED_IN,
    }
)


@dataclass(slots=True)
class JobStatus:
    """State of a job with its circumstances.

    Attributes:
        state: The state.
        message: The provider's words: why it is pending, how it ended.
        exit_code: Once it ended, where known; 128 + n for death by signal n.
        stdout_path: File of its standard output, where readable from here.
        stderr_path: File of its standard error, where readable from here.
        script_path: The script that it runs, where readable from here.

    Example:
        >>> JobStatus(JobState.COMPLETED, exit_code=0).terminal
        True
    """

    state: JobState
    message: str | None = None
    exit_code: int | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    script_path: str | None = None

    @property
    def terminal(self) -> bool:
        """Whether the job ended."""
        return self.state in TERMINAL_STATES

    @property
    def status_name(self) -> str:
        """Name of the state."""
        return self.state.name

    @property
    def stdout_summary(self) -> str | None:
        """The end of its standard output; None where there is none to read."""
        return read_tail(self.stdout_path)

    @property
    def stderr_summary(self) -> str | None:
        """The end of its standard error; None where there is none to read."""
        return read_tail(self.stderr_path)


def read_tail(path: str | None, limit: int = SUMMARY_BYTES) -> str | None:
    """The last part of a file as text.

    Args:
        path: The file, or None.
        limit: Most bytes to read.

    Returns:
        At most that much, from the start of a line where one starts there; None if the file cannot be read.
    """
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            data = file.read(limit)
    except OSError:
        return None
    if size > limit:
        _, newline, rest = data.partition(b"\n")
        data = rest if newline and rest else data
    return data.decode(errors="replace")
