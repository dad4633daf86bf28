"""Run directories: each run has one, ``runinfo/000``, ``runinfo/001`` and on, private to its user.

Any number of drivers may start in the same directory at once: ``mkdir`` decides who gets a number.
"""

from __future__ import annotations

import os

from flowlib.errors import ConfigurationError

EVENT_LOG = "events.log"
"""Name of the event log in a run directory."""


def make_rundir(base: str | os.PathLike[str] = "runinfo") -> str:
    """Make the next run directory.

    Args:
        base: Directory of the runs; made if missing.

    Returns:
        Its absolute path, ``<base>/NNN`` with at least three digits, one above the highest there is. Mode 0700.

    Raises:
        ConfigurationError: The directory cannot be made.

    Example:
        >>> import tempfile
        >>> base = tempfile.mkdtemp()
        >>> [os.path.basename(make_rundir(base)) for _ in range(2)]
        ['000', '001']
    """
    path = os.path.abspath(base)
    try:
        os.makedirs(path, exist_ok=True)
        number = max(_numbers(path), default=-1) + 1
        while True:
            run = os.path.join(path, f"{number:03}")
            try:
                os.mkdir(run, 0o700)
            except FileExistsError:
                number += 1
                continue
            return run
    except OSError as e:
        raise ConfigurationError(
            f"cannot make a run directory in {path!r}: {e}; give a writable one, Config(run_dir=...)"
        ) from e


def find_run(given: str | None = None) -> str:
    """The run directory that a user means.

    Args:
        given: A run directory; a number of a run in ``runinfo``; a directory that holds or whose ``runinfo`` holds
            runs, for the newest of these; None for the current directory.

    Returns:
        Path of a directory that holds an event log.

    Raises:
        ConfigurationError: There is none; the text says where was looked.
    """
    start = "." if given is None else given
    places = [start, os.path.join(start, "runinfo")]
    if given is not None and given.isdecimal():
        places.append(os.path.join("runinfo", f"{int(given):03}"))
    for place in places:
        if os.path.exists(os.path.join(place, EVENT_LOG)):
            return place
        for number in sorted(_numbers(place), reverse=True):
            run = os.path.join(place, f"{number:03}")
            if os.path.exists(os.path.join(run, EVENT_LOG)):
                return run
    raise ConfigurationError(
        f"no run found: looked for {EVENT_LOG} in {', '.join(map(repr, places))} and the numbered directories there; "
        "give the directory of a run, for example runinfo/000"
    )


def _numbers(base: str) -> list[int]:
    """Numbers of the runs in ``base``; [] if it is no directory."""
    try:
        names = os.listdir(base)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(name) for name in names if name.isascii() and name.isdecimal()]
