"""Reading job scripts and command lines the way schedulers do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def directives(text: str, start: str) -> list[str]:
    """The lines for the scheduler, without what they start with."""
    return [line[len(start) :].strip() for line in text.splitlines() if line.startswith(start)]


def value(lines: Iterable[str], pattern: str, otherwise: str = "") -> str:
    """The group in the last line that the pattern describes, without quotes around it.

    Example:
        >>> value(["--nodes=1", '--output="a b"'], "--output=(.*)")
        'a b'
    """
    found = otherwise
    for line in lines:
        if match := re.fullmatch(pattern, line):
            found = match[1].strip()
            if found.startswith('"'):
                found = re.sub(r"\\(.)", r"\1", found[1:-1])
    return found


def option(args: Sequence[str], name: str) -> str | None:
    """What follows an option on a command line, as ``name value`` or ``name=value``; None if it is not there."""
    for i, arg in enumerate(args):
        if arg == name:
            return args[i + 1]
        if arg.startswith(f"{name}="):
            return arg.partition("=")[2]
    return None


def numbers(args: Iterable[str]) -> list[str]:
    """The numbers of jobs among arguments: ``7``, ``7.host``, ``7.0``, ``f7``, ``7,8``."""
    return [m[1] for a in args for b in a.split(",") if (m := re.fullmatch(r"f?(\d+)(?:\.\w+)?", b))]


def seconds(text: str) -> float:
    """A walltime: ``1:02:03``, ``90s``, ``90``.

    Example:
        >>> seconds("1:02:03")
        3723.0
    """
    total = 0.0
    for part in text.removesuffix("s").split(":"):
        total = total * 60 + float(part)
    return total
