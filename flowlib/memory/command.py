"""``flowlib cache`` and ``flowlib why``."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flowlib.errors import ConfigurationError
from flowlib.memory import journal
from flowlib.memory.project import DIRECTORY
from flowlib.memory.store import CODE, Store
from flowlib.memory.tidy import size_of, tidy
from flowlib.memory.verdict import STATES, explain
from flowlib.rundirs import find_run
from flowlib.units import parse_size, parse_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from flowlib.memory.store import Entry


def run(options: argparse.Namespace) -> int:
    """Carry out one of the two; the exit code."""
    try:
        if options.command == "cache":
            return cache(options)
        return why(options.task, options.run, options.json)
    except ValueError as e:
        sys.stderr.write(f"flowlib: {e}\n")
        return 1


def cache(options: argparse.Namespace) -> int:
    """Run ``flowlib cache``; the exit code."""
    directory = _directory(options.store)
    if options.action == "ls":
        _list(directory, options.json)
        return 0
    age: float | None = None
    size: int | None = None
    unwanted: Callable[[Entry], bool] | None = None
    if options.action == "gc":
        age = None if options.max_age is None else parse_time(options.max_age, "--max-age")
        size = None if options.max_size is None else parse_size(options.max_size, "--max-size")
    else:
        patterns = options.apps

        def named(entry: Entry) -> bool:
            return any(
                p in (entry.facts.app, _short(entry.facts.app)) or fnmatchcase(entry.facts.app, p) for p in patterns
            )

        unwanted = named

    done = tidy(directory, age, size, unwanted)
    busy = f"; {done.busy} files are being written, and were left as they are" if done.busy else ""
    sys.stdout.write(f"{done.removed} entries removed, {done.freed} bytes freed{busy}\n")
    return 0


def why(task: int, run: str | None, as_json: bool) -> int:
    """Run ``flowlib why``; the exit code."""
    run_dir = find_run(run)
    try:
        looks = journal.read(run_dir)
    except FileNotFoundError:
        raise ConfigurationError(f"the run in {run_dir} looked for no remembered results (cache=True)") from None
    if task not in looks.tasks:
        raise ConfigurationError(f"task {task} of {run_dir} did not look for a remembered result (cache=True)")
    look = looks.tasks[task]
    told = [look.told()] if look.told() else []
    if not told and look.made is not None:
        store = Store(looks.store)
        try:
            told = explain(look.made, store, looks.codes)
        finally:
            store.close()
    if as_json:
        sys.stdout.write(json.dumps({"task": task, "state": STATES[look.state], "why": told}) + "\n")
    else:
        sys.stdout.write(f"task {task}: {STATES[look.state]}\n" + "".join([f"  {line}\n" for line in told]))
    return 0


def _list(directory: str, as_json: bool) -> None:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    newest: dict[bytes, tuple[str, int]] = {}
    store = Store(directory)
    try:
        for entry in store.entries():
            if entry.facts.kind != CODE:
                newest[entry.key] = entry.facts.app, entry.facts.size
    finally:
        store.close()
    for app, size in newest.values():
        counts[app] += 1
        sizes[app] += size
    if as_json:
        apps = {app: {"results": n, "bytes": sizes[app]} for app, n in sorted(counts.items())}
        sys.stdout.write(json.dumps({"store": directory, "bytes": size_of(directory), "apps": apps}) + "\n")
        return
    sys.stdout.write(f"{directory}: {sum(counts.values())} results, {size_of(directory)} bytes on disk\n")
    for app, count in sorted(counts.items()):
        sys.stdout.write(f"  {app}: {count} results, {sizes[app]} bytes\n")


def _short(app: str) -> str:
    return app.rpartition(".")[2]


def _directory(given: str | None) -> str:
    places = (
        [os.path.join("runinfo", DIRECTORY), DIRECTORY] if given is None else [given, os.path.join(given, DIRECTORY)]
    )
    for place in places:
        if os.path.isdir(place) and any(name.endswith(".log") for name in os.listdir(place)):
            return os.path.abspath(place)
    raise ConfigurationError(f"no store of results found: looked in {', '.join(map(repr, places))}; give its directory")
