"""Names of a job's nodes from what schedulers say: compressed lists, files of lines, pairs of name and count.

Every scheduler tells a job about its nodes in its own way.  Here is where each of them says it and how to read it;
reading files and running commands is ``allocation``'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

_NUMBERED = re.compile(r"\[([^\[\]]*)\]")
_COUNT = re.compile(r"(.+?):(\d+)")


class Source(NamedTuple):
    """Where a job's nodes are named.

    Attributes:
        scheduler: Whose job it is.
        variable: The variable of the environment that says so.
        read: Turns the text into names, each as often as it stands there.
        text: The text itself; "" if it is elsewhere.
        file: The file with the text; "" if there is none.
        commands: Commands that print it; the first that succeeds counts.
    """

    scheduler: str
    variable: str
    read: Callable[[str], list[str]]
    text: str = ""
    file: str = ""
    commands: tuple[tuple[str, ...], ...] = ()


def source(environment: Mapping[str, str]) -> Source | None:
    """Where the nodes of the job with this environment are named; None if this is no job of a known scheduler.

    A Flux instance may have been started in a job of another scheduler, and is then the one whose nodes count.

    Example:
        >>> source({"SLURM_JOB_NODELIST": "nid[1-2]"}).scheduler
        'Slurm'
    """
    if environment.get("FLUX_URI"):
        # The older versions know only the second.
        commands = (("flux", "hostlist", "local"), ("flux", "getattr", "hostlist"))
        return Source("Flux", "FLUX_URI", expand, commands=commands)
    for scheduler, variable, read, is_file in _VARIABLES:
        value = environment.get(variable)
        if value:
            return (
                Source(scheduler, variable, read, file=value) if is_file else Source(scheduler, variable, read, value)
            )
    return None


def expand(text: str) -> list[str]:
    """The names in a compressed list.

    Raises:
        ValueError: Brackets or ranges that make no sense.

    Example:
        >>> expand("login1,nid[008-010,12]-ib")
        ['login1', 'nid008-ib', 'nid009-ib', 'nid010-ib', 'nid12-ib']
        >>> expand("r[1-2]n[0-1]")
        ['r1n0', 'r1n1', 'r2n0', 'r2n1']
    """
    names: list[str] = []
    for part in _split(text.strip()):
        names.extend(_expand_one(part.strip(), text))
    return names


def _split(text: str) -> Iterable[str]:
    """The parts between commas that are outside of brackets."""
    depth, start = 0, 0
    for i, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        elif char == "," and not depth:
            yield text[start:i]
            start = i + 1
    yield text[start:]


def _expand_one(part: str, text: str) -> list[str]:
    match = _NUMBERED.search(part)
    if match is None:
        if "[" in part or "]" in part:
            raise ValueError(f"{text!r} is no list of nodes: a bracket in {part!r} stands alone")
        return [part] if part else []
    tails = _expand_one(part[match.end() :], text) or [""]
    return [f"{part[: match.start()]}{number}{tail}" for number in _numbers(match[1], text) for tail in tails]


def _numbers(ranges: str, text: str) -> Iterable[str]:
    for item in ranges.split(","):
        low, dash, high = item.partition("-")
        high = high if dash else low
        if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high)):
            raise ValueError(f"{text!r} is no list of nodes: {item!r} is no number or range of numbers")
        for number in range(int(low), int(high) + 1):
            yield str(number).zfill(len(low))


def lines(text: str) -> list[str]:
    """The names in a host file: one a line, with or without a number of slots.

    Example:
        >>> lines("# my nodes\\na slots=2\\nb:2\\nb\\n")
        ['a', 'a', 'b', 'b', 'b']
    """
    names: list[str] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, count = words[0], 1
        if match := _COUNT.fullmatch(name):
            name, count = match[1], int(match[2])
        for word in words[1:]:
            key, _, value = word.partition("=")
            if key == "slots" and value.isdecimal():
                count = int(value)
        names += [name] * max(1, count)
    return names


def _first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def _pairs(text: str) -> list[str]:
    """Names that are each followed by a number of slots."""
    words = text.split()
    return [name for name, count in zip(words[::2], words[1::2], strict=False) for _ in range(int(count))]


def distinct(names: Iterable[str], *, launch_node: bool = False) -> list[str]:
    """Each name once, in the order in which they came.

    Args:
        names: Names, each as often as its node has slots.
        launch_node: Whether the first may be a node that only starts programs: it has one slot, the others have more.

    Example:
        >>> distinct(["batch1", "a", "a", "b", "b"], launch_node=True)
        ['a', 'b']
    """
    slots: dict[str, int] = {}
    for name in names:
        slots[name] = slots.get(name, 0) + 1
    found = list(slots)
    if launch_node and len(found) > 1 and slots[found[0]] == 1 and min(slots[name] for name in found[1:]) > 1:
        del found[0]
    return found


_VARIABLES = (
    ("Slurm", "SLURM_JOB_NODELIST", expand, False),
    ("Slurm", "SLURM_NODELIST", expand, False),
    ("PBS", "PBS_NODEFILE", lines, True),
    ("Cobalt", "COBALT_NODEFILE", lines, True),
    ("LSF", "LSB_DJOB_HOSTFILE", lines, True),
    ("LSF", "LSB_MCPU_HOSTS", _pairs, False),
    ("LSF", "LSB_HOSTS", str.split, False),
    ("Grid Engine", "PE_HOSTFILE", _first_words, True),
)
"""Scheduler, variable, how to read it, and whether it names a file."""
