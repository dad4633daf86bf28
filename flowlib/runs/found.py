"""Finds runs on disk, and tells whether their drivers live."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from flowlib.errors import ConfigurationError
from flowlib.events.reader import EventReader
from flowlib.rundirs import EVENT_LOG, find_run
from flowlib.runs.summary import RunSummary, summarize

_SLACK = 5.0
"""Seconds by which the record of a run's start may be older than its process seems to be."""
_DEPTH = 4
"""Levels of directories below the given one in which runs are looked for."""
_MOST_DIRECTORIES = 20_000

ALIVE, ENDED, INTERRUPTED, ELSEWHERE = "alive", "ended", "interrupted", "on another host"


@dataclass(slots=True)
class FoundRun:
    """A run directory.

    Attributes:
        path: Where it is.
        summary: What its records tell.
        state: ``ALIVE``; ``ENDED``, in good order; ``INTERRUPTED``: its driver is gone without having ended it;
            ``ELSEWHERE``: its driver was started on another host, so that only its records can tell.
    """

    path: str
    summary: RunSummary
    state: str

    @property
    def dead(self) -> bool:
        """Whether its driver is known to be gone."""
        return self.state in (ENDED, INTERRUPTED)


def open_run(path: str) -> FoundRun:
    """A run by its directory.

    Raises:
        ConfigurationError: Its event log is none.
        OSError: It cannot be read.
    """
    with EventReader(os.path.join(path, EVENT_LOG)) as reader:
        summary = summarize(reader.read())
    return FoundRun(os.path.abspath(path), summary, _state(summary))


def named(run: str | None) -> FoundRun:
    """The run that a user means: by directory, number, or the start of its id.

    Raises:
        ConfigurationError: There is none.
    """
    if run is not None and not os.path.exists(run) and not run.isdecimal():
        same = [found for found in below(".")[0] if found.summary.run_id.startswith(run)]
        if len(same) == 1:
            return same[0]
        raise ConfigurationError(
            f"no run {run!r}: no such directory is there, and {len(same) or 'no'} runs below this one have "
            "ids that start like this; `flowlib ps` shows them"
        )
    return open_run(find_run(run))


def below(start: str) -> tuple[list[FoundRun], list[str]]:
    """The user's own runs below a directory, oldest first.

    Args:
        start: A directory: of a run, of runs, or above them.

    Returns:
        The runs, and what could not be read, a line each.
    """
    found: list[FoundRun] = []
    problems: list[str] = []
    for path in _directories(start):
        try:
            if hasattr(os, "getuid") and os.stat(path).st_uid != os.getuid():
                continue
            found.append(open_run(path))
        except (OSError, ConfigurationError) as e:
            problems.append(f"{path}: {e}")
    found.sort(key=lambda run: (run.summary.started, run.path))
    return found, problems


def driver_is(summary: RunSummary) -> bool | None:
    """Whether the process that drives a run lives; None if this host cannot tell."""
    if summary.host != socket.gethostname() or not summary.pid:
        return None
    import psutil

    try:
        process = psutil.Process(summary.pid)
        # A later process may have got its number.
        return process.create_time() <= summary.started + _SLACK and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return None


def _state(summary: RunSummary) -> str:
    if summary.ended:
        return ENDED
    lives = driver_is(summary)
    return ELSEWHERE if lives is None else ALIVE if lives else INTERRUPTED


def _directories(start: str) -> list[str]:
    """Directories with an event log; links are not followed, hidden directories are left out."""
    found: list[str] = []
    root = os.path.abspath(start)
    depth = root.rstrip(os.sep).count(os.sep)
    for seen, (directory, inner, files) in enumerate(os.walk(root)):
        if EVENT_LOG in files:
            found.append(directory)
            inner.clear()
        elif directory.rstrip(os.sep).count(os.sep) - depth >= _DEPTH or seen > _MOST_DIRECTORIES:
            inner.clear()
        else:
            inner[:] = sorted(name for name in inner if not name.startswith("."))
    return found
