"""Arguments of the commands about runs and machines, apart from what they do: so that ``--help`` loads nothing."""

from __future__ import annotations

import argparse

_RUN = "directory of the run, its number in ./runinfo, or the start of its id"


def add_runs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``doctor``, ``ps``, ``cancel``, ``logs`` and ``run``.

    Args:
        commands: Where to.
    """
    _add_doctor(commands)
    about = "show your runs below a directory, with tasks and blocks"
    ps = _command(commands, "ps", about)
    ps.add_argument("--all", action="store_true", help="also those that ended in good order")
    ps.add_argument(
        "--orphans", action="store_true", help="those whose driver is gone and that left jobs; asks schedulers"
    )
    ps.add_argument("directory", nargs="?", metavar="DIRECTORY", help="where to look (default: here, four levels down)")

    cancel = _command(commands, "cancel", "end a run, or the jobs that runs whose driver is gone left behind")
    cancel.add_argument(
        "--orphans", action="store_true", help="jobs of all runs below a directory whose driver is gone"
    )
    cancel.add_argument("-n", "--dry-run", action="store_true", help="only tell what would be ended")
    cancel.add_argument(
        "--wait", type=_seconds, default=30.0, metavar="SECONDS", help="for a living driver (default: 30)"
    )
    cancel.add_argument("run", nargs="?", metavar="RUN", help=f"{_RUN}; with --orphans, where to look (default: here)")

    logs = _command(commands, "logs", "print what a run, its tasks and its blocks wrote")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run is over")
    logs.add_argument("--all", action="store_true", help="whole files, not only their ends")
    logs.add_argument("--interchange", action="store_true", help="the logs of interchanges")
    logs.add_argument("run", nargs="?", metavar="RUN", help="as for events (default: the newest run here)")
    logs.add_argument("part", nargs="?", metavar="PART", help="task-7, block-0, htex/block-0 (default: the driver)")

    run = _command(commands, "run", "run a script that calls flowlib.load() on a machine that is named here")
    run.usage = "flowlib run --site SITE [--driver-in-job] [--CHOICE=VALUE ...] SCRIPT [ARGUMENT ...]"
    run.add_argument("--site", required=True, help="name of a machine, as `flowlib sites list` shows it")
    run.add_argument("--driver-in-job", action="store_true", help="submit one job in which the script itself runs, too")
    run.set_defaults(rest=[])


def separate(words: list[str]) -> tuple[list[str], list[str]]:
    """What of a ``flowlib run`` is its own, and what is the site's and the script's, which may look the same.

    Args:
        words: What follows ``run``.

    Example:
        >>> separate(["--account=a", "--site", "frontier", "script.py", "--json"])
        (['--site', 'frontier'], ['--account=a', 'script.py', '--json'])
    """
    own: list[str] = []
    rest: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word in ("--json", "--driver-in-job", "-h", "--help") or word.startswith("--site="):
            own.append(word)
        elif word == "--site":
            own += [word, *(value for value in [next(waiting, None)] if value is not None)]
        elif "=" in word or (word.startswith("-") and word != "--"):
            rest.append(word)
        else:
            rest += [word, *waiting]
    return own, rest


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = _command(commands, "doctor", "look for what would keep a run from working, and tell what to do")
    doctor.add_argument("--job", action="store_true", help="start one block and run a task in it")
    doctor.add_argument("--wait", type=_seconds, default=600.0, metavar="SECONDS", help="for that task (default: 600)")
    doctor.add_argument("site", nargs="?", metavar="SITE", help="a machine, or a FILE.py that assigns config")
    doctor.add_argument("choices", nargs="*", metavar="NAME=VALUE", help="as for flowlib.load: account=abc123 ...")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds, more than 0")
    return value
