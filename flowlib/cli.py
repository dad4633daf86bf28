"""The ``flowlib`` command: looks at runs from a shell."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from flowlib.errors import FlowlibError
from flowlib.rundirs import EVENT_LOG, find_run
from flowlib.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What follows the command's name; None for what the process was started with.

    Returns:
        Exit code: 0, or 1 if it could not be done (the reason is on standard error).

    Raises:
        SystemExit: The arguments make no sense (2), or only help or the version was asked for (0).
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "events":
            _events(options.run, options.json)
        else:
            parser.print_help()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this (`| head`) has seen enough; the interpreter must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (FlowlibError, OSError) as e:
        sys.stderr.write(f"flowlib: {e}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flowlib", description="Parallel workflows in plain Python.")
    parser.add_argument("--version", action="version", version=f"flowlib {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    events = commands.add_parser(
        "events", help="show what happened in a run", description="Show what happened in a run, record by record."
    )
    events.add_argument("--json", action="store_true", help="one JSON object per line")
    events.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="directory of the run, its number in ./runinfo, or a directory with runs (default: the newest run here)",
    )
    return parser


def _events(run: str | None, as_json: bool) -> None:
    from flowlib.events.reader import EventReader
    from flowlib.events.render import json_lines, text_lines

    path = run if run is not None and os.path.isfile(run) else os.path.join(find_run(run), EVENT_LOG)
    with EventReader(path) as reader:
        render = json_lines if as_json else text_lines
        for line in render(reader.read()):
            sys.stdout.write(line + "\n")
        for damage in reader.damage:
            sys.stderr.write(f"flowlib: {path}: {damage.length} bytes at {damage.offset} are damaged, left out\n")
        if reader.unfinished:
            sys.stderr.write(
                f"flowlib: {path}: the last {reader.unfinished} bytes are incomplete: "
                "the run is going on, or its process was killed\n"
            )
