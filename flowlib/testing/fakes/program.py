"""The program that every command of a fake scheduler is: ``program.py KIND COMMAND ARGUMENTS...``.

It is run as a file, without the site's packages, since a scheduler's commands are started often and python takes most
of their time.  Its answers come from the module of its kind.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
from pathlib import Path


def main(kind: str, command: str, args: list[str]) -> int:
    """Do what the command does; its exit code."""
    from flowlib.testing.fakes import faults, launch, state
    from flowlib.testing.fakes.kinds import KINDS

    directory = state.here().directory
    with open(directory / "calls", "a") as calls:
        calls.write(" ".join([command, *args]) + "\n")
    if command == "flux":
        command, args = f"flux-{args[0]}", args[1:]
    fault = faults.next_fault(directory, command)
    if fault.startswith("fail "):
        _, code, text = fault.split(" ", 2)
        print(text, file=sys.stderr)
        return int(code)
    if fault == "garbage":
        print(faults.GARBAGE)
        return 0
    if fault == "hang":
        return faults.hang()
    if command in launch.PROGRAMS:
        return launch.PROGRAMS[command](args)
    if state.here().flag("outage"):
        number, words = KINDS[kind].unreachable
        print(words.format(command=command), file=sys.stderr)
        return number
    answer = importlib.import_module(f"flowlib.testing.fakes.{KINDS[kind].module}").COMMANDS[command]
    if fault == "make-and-hang":
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
            answer(args)
        return faults.hang()
    return int(answer(args))


def life(n: str) -> int:
    """Be the process that runs a job."""
    from flowlib.testing.fakes.lives import run

    run(n)
    return 0


def _find_package() -> None:
    """Make ``flowlib.testing.fakes`` importable, and nothing else: all of flowlib would take longer than the rest."""
    package = types.ModuleType("flowlib")
    package.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["flowlib"] = package
    sys.path.pop(0)


if __name__ == "__main__":
    _find_package()
    sys.exit(life(sys.argv[2]) if sys.argv[1] == "run" else main(sys.argv[1], sys.argv[2], sys.argv[3:]))
