"""``flowlib logs``: finds the files in which a run, its tasks, its blocks and its own processes say something."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flowlib.errors import ConfigurationError
from flowlib.events.reader import EventReader
from flowlib.events.schema import Code
from flowlib.rundirs import EVENT_LOG, find_run
from flowlib.runs import found
from flowlib.sites.command import print_json

if TYPE_CHECKING:
    import argparse

_TAIL = 64 * 1024
"""Bytes of each file that are shown, from the end; ``--all`` shows everything."""
_PERIOD = 0.25
"""Seconds between two looks at files that are followed: no file system of a cluster tells about writes elsewhere."""


def run(options: argparse.Namespace) -> int:
    """Carry the command out.

    Args:
        options: As parsed by ``flowlib.cli``.

    Returns:
        Exit code: 1 if there is nothing to show.

    Raises:
        ConfigurationError: There is no such run.
    """
    given, part = options.run, options.part
    if given is not None and part is None and not os.path.exists(given) and given.startswith(("task", "block")):
        given, part = None, given
    path = find_run(given)
    files = select(path, part, interchange=options.interchange)
    if options.json:
        print_json([{"file": name, "bytes": os.path.getsize(name)} for name in files])
        return 0 if files else 1
    if not files and not options.follow:
        what = part or ("the interchange" if options.interchange else "the run")
        sys.stderr.write(f"flowlib: {what} has no log in {path}: it may not have begun; `flowlib explain` says why\n")
        return 1
    places = _show(files, None if options.all else _TAIL)
    if options.follow:
        sys.stdout.flush()
        _follow(path, part, options.interchange, places)
    return 0


def select(path: str, part: str | None, *, interchange: bool = False) -> list[str]:
    """Files that hold what is asked for, in the order of their names.

    Args:
        path: The run directory.
        part: "task 7" or "task7"; "block 0", "block-0" or "htex/block-0"; None for the driver's log.
        interchange: Whether the interchanges' logs are asked for.

    Raises:
        ConfigurationError: ``part`` makes no sense.
    """
    if interchange:
        return [name for name in _walk(path) if os.path.basename(name).startswith("interchange.")]
    if part is None:
        return [name for name in (os.path.join(path, "flowlib.log"),) if os.path.exists(name)]
    word, number = part.rstrip("0123456789"), part[len(part.rstrip("0123456789")) :]
    label, _, kind = word.rstrip("-: =").rpartition("/")
    if not number or kind not in ("task", "block"):
        raise ConfigurationError(f"{part!r} is no part of a run: give task-7, block-0, or htex/block-0")
    return _of_task(path, int(number)) if kind == "task" else _of_block(path, label, int(number))


def _of_task(path: str, task: int) -> list[str]:
    names: list[str] = []
    with EventReader(os.path.join(path, EVENT_LOG)) as reader:
        for record in reader.read():
            if record[0] == Code.TASK_STREAMS and record[2] == task:
                names = [name for name in record[3:5] if name]
    return sorted({name for name in names if os.path.exists(name)})


def _of_block(path: str, label: str, block: int) -> list[str]:
    chosen = []
    for name in _walk(path):
        parts = os.path.relpath(name, path).split(os.sep)
        if parts[0] == "submit_scripts":
            stem = f"{label}.block-{block}." if label else f".block-{block}."
            if stem in f".{parts[-1]}" and name.endswith((".out", ".err")):
                chosen.append(name)
        elif f"block-{block}" in parts[1:-1] and (not label or parts[0] == label) and name.endswith(".log"):
            chosen.append(name)
    return chosen


def _walk(path: str) -> list[str]:
    names: list[str] = []
    for directory, inner, files in os.walk(path):
        inner[:] = [name for name in inner if name != "private"]
        names += [os.path.join(directory, name) for name in files]
    return sorted(names)


def _show(files: Sequence[str], most: int | None) -> dict[str, int]:
    """Print files, or their ends; up to where each was."""
    places = {}
    for name in files:
        with open(name, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            skipped = max(0, size - most) if most is not None else 0
            file.seek(skipped)
            if skipped:
                file.readline()
            text = file.read().decode(errors="replace")
            places[name] = file.tell()
        if len(files) > 1:
            sys.stdout.write(f"==> {name} <==\n")
        if skipped:
            sys.stdout.write(f"... {skipped} bytes before this; --all shows them\n")
        sys.stdout.write(text if not text or text.endswith("\n") else text + "\n")
    return places


def _follow(path: str, part: str | None, interchange: bool, places: dict[str, int]) -> None:
    """Print what is added, also in files that come later, until the run is over or the user had enough."""
    last = ""
    summary = found.open_run(path).summary
    never = threading.Event()
    with EventReader(os.path.join(path, EVENT_LOG)) as reader:
        over = False
        while not over:
            # Looked at before the files are: what a driver wrote last is not missed.
            over = any(record[0] == Code.RUN_ENDED for record in reader.read()) or found.driver_is(summary) is False
            for name in _chosen(path, part, interchange, places):
                with open(name, "rb") as file:
                    file.seek(places.get(name, 0))
                    data = file.read()
                if data:
                    if name != last and (len(places) > 1 or name not in places):
                        sys.stdout.write(f"==> {name} <==\n")
                    last = name
                    sys.stdout.write(data.decode(errors="replace"))
                    sys.stdout.flush()
                places[name] = places.get(name, 0) + len(data)
            try:
                over = over or never.wait(_PERIOD)
            except KeyboardInterrupt:
                return


def _chosen(path: str, part: str | None, interchange: bool, known: Iterable[str]) -> list[str]:
    """Files to look at again: a task's are the same for good, so that its log is not read through each time."""
    if part is not None and part.startswith("task") and known:
        return list(known)
    return select(path, part, interchange=interchange)
