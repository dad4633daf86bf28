"""The ``flowlib`` command: looks at runs and sites from a shell."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import TYPE_CHECKING

from flowlib.command_line import add_runs, separate
from flowlib.errors import FlowlibError
from flowlib.rundirs import EVENT_LOG, find_run
from flowlib.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_COMMANDS = ["cache", "cancel", "doctor", "events", "explain", "logs", "ps", "run", "sites", "why"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What follows the command's name; None for what the process was started with.

    Returns:
        Exit code: 0, or 1 if it could not be done (the reason is on standard error) or a file checked has mistakes.

    Raises:
        SystemExit: The arguments make no sense (2), or only help or the version was asked for (0).
    """
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    _check_command(parser, given)
    own, rest = separate(given[1:]) if given[:1] == ["run"] else (given[1:], [])
    options = parser.parse_args([*given[:1], *own])
    if rest:
        options.rest = rest
    try:
        if options.command == "events":
            _events(options.run, options.form, None if options.verbose else _terminal_width())
        elif options.command == "explain":
            _explain(options.task, options.run, options.json)
        elif options.command is not None:
            code = _elsewhere(options)
            sys.stdout.flush()
            return code
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
    form = events.add_mutually_exclusive_group()
    for name, text in (
        ("json", "one JSON object per line"),
        ("failed", "the tasks that failed, with the reason"),
        ("summary", "a line for each app"),
    ):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=text)
    events.add_argument("-v", "--verbose", action="store_true", help="whole lines, also where the terminal is narrower")
    events.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="directory of the run, its number in ./runinfo, or a directory with runs (default: the newest run here)",
    )
    explain = commands.add_parser(
        "explain",
        help="tell why tasks wait, and where their time went",
        description="Tell why a run waits, a line for each reason; or the history of one of its tasks.",
    )
    explain.add_argument("--json", action="store_true", help="one JSON object")
    explain.add_argument("task", nargs="?", metavar="TASK", help="number of a task (default: a line for each reason)")
    explain.add_argument("run", nargs="?", metavar="RUN", help="as for events (default: the newest run here)")
    _add_sites(commands)
    _add_memory(commands)
    add_runs(commands)
    return parser


def _add_memory(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    why = commands.add_parser(
        "why",
        help="tell why a call was remembered or not",
        description="Tell whether a task's result was remembered (cache=True), and if not, what had changed.",
    )
    why.add_argument("--json", action="store_true", help="one JSON object")
    why.add_argument("task", type=int, metavar="TASK", help="number of the task")
    why.add_argument("run", nargs="?", metavar="RUN", help="as for events (default: the newest run here)")
    about = "show or tidy remembered results"
    actions = commands.add_parser("cache", help=about, description=f"{about[0].upper()}{about[1:]}.").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    listing = actions.add_parser("ls", help="how many there are of each app, and what they take")
    listing.add_argument("--json", action="store_true", help="as JSON")
    gc = actions.add_parser("gc", help="remove what is damaged, old or too much, and join small files")
    gc.add_argument("--max-age", metavar="TIME", help="older ones go: 30d, 12h ...")
    gc.add_argument("--max-size", metavar="SIZE", help="the oldest go until this holds all: 20GB ...")
    rm = actions.add_parser("rm", help="remove the results of apps")
    rm.add_argument("apps", nargs="+", metavar="APP", help="name of an app, with or without its module, or a pattern")
    for each in (listing, gc, rm):
        each.add_argument("--store", metavar="DIR", help="the store, or a directory of runs (default: runinfo/memory)")


def _add_sites(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "show the machines that flowlib.load knows by name"
    actions = commands.add_parser("sites", help=about, description=f"{about[0].upper()}{about[1:]}.").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    listing = actions.add_parser("list", help="all of them, or those that match a word")
    listing.add_argument("--all", action="store_true", help="also those that were retired")
    listing.add_argument("word", nargs="?", metavar="WORD", help="part of a name, a centre, a country, a scheduler")
    show = actions.add_parser("show", help="what is known of one")
    show.add_argument(
        "--python", action="store_true", help="the configuration that loading it makes, as Python to copy"
    )
    render = actions.add_parser("render", help="the script of a job there")
    for parser in (show, render):
        parser.add_argument("site", metavar="SITE", help="name, as `flowlib sites list` shows it")
        parser.add_argument(
            "choices", nargs="*", metavar="NAME=VALUE", help="as for flowlib.load: account=abc123 nodes=4 ..."
        )
    check = actions.add_parser("check", help="whether a file that describes a site is right")
    check.add_argument("files", nargs="+", metavar="FILE", help="NAME.toml")
    for parser in (listing, show, render, check):
        parser.add_argument("--json", action="store_true", help="as JSON")


def _check_command(parser: argparse.ArgumentParser, given: list[str]) -> None:
    if given and not given[0].startswith("-") and given[0] not in _COMMANDS:
        from flowlib.suggest import closest

        near = closest(given[0], _COMMANDS)
        hint = f"did you mean {near!r}?" if near else f"there is {', '.join(map(repr, _COMMANDS))}"
        parser.error(f"{given[0]!r} is no command: {hint}")


def _terminal_width() -> int | None:
    """Characters of a line of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _lines(records: Iterable[Sequence[Any]], form: str | None, width: int | None) -> Iterable[str]:
    from flowlib.events import render

    if form == "json":
        return render.json_lines(records)
    if form is None:
        return render.text_lines(records, width)
    from flowlib.events.digest import Digest

    digest = Digest(records)
    return digest.failed(width) if form == "failed" else digest.summary()


def _explain(task: str | None, run: str | None, json: bool) -> None:
    from flowlib.explain import records

    if task is not None and run is None and os.path.exists(task) and not task.isdecimal():
        task, run = None, task
    number = None if task is None else records.as_number(task)
    path = records.log_of(run)
    told = records.explain_run(path) if number is None else records.explain_task(path, number)
    if json:
        sys.stdout.write(records.to_json(told.to_dict()) + "\n")
        return
    width = _terminal_width()
    for line in told.lines():
        sys.stdout.write((line if width is None else line[:width]) + "\n")


def _elsewhere(options: argparse.Namespace) -> int:
    """Carry out a command that has a module of its own, which nobody else loads."""
    from importlib import import_module

    package = {
        "sites": "flowlib.sites.command",
        "doctor": "flowlib.doctor.command",
        "cache": "flowlib.memory.command",
        "why": "flowlib.memory.command",
    }
    code: int = import_module(package.get(options.command, f"flowlib.runs.{options.command}")).run(options)
    return code


def _events(run: str | None, form: str | None, width: int | None) -> None:
    from flowlib.events.reader import EventReader

    path = run if run is not None and os.path.isfile(run) else os.path.join(find_run(run), EVENT_LOG)
    with EventReader(path) as reader:
        for line in _lines(reader.read(), form, width):
            sys.stdout.write(line + "\n")
        for damage in reader.damage:
            sys.stderr.write(f"flowlib: {path}: {damage.length} bytes at {damage.offset} are damaged, left out\n")
        if reader.unfinished:
            sys.stderr.write(
                f"flowlib: {path}: the last {reader.unfinished} bytes are incomplete: "
                "the run is going on, or its process was killed\n"
            )
