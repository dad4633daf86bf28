"""What is remembered of tries that failed, and how a person is told of them.

Pure.  A task that failed for good after several tries has one exception, that of the last; without the others nobody
sees that it was the same node each time, or a different cause each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flowlib.dataflow.retry import Cause

_MOST_AVOIDED = 8
_WORDS = {
    Cause.TIMEOUT: "walltime exceeded",
    Cause.OOM: "out of memory",
    Cause.CRASH: "worker lost",
    Cause.LOST: "manager lost",
}


class Try(NamedTuple):
    """A try that failed.

    Attributes:
        attempt: Its number.
        cause: Why it failed.
        error: Name of the exception's class.
        manager: Where it ran; "" in the script's own process, or if it is not known.
        host: The machine; "" likewise.
        time: Unix time at which the failure was heard of.
        memory: Bytes that it asked for, where a ``Retry`` had changed that; 0 otherwise.
    """

    attempt: int
    cause: Cause
    error: str
    manager: str
    host: str
    time: float
    memory: int = 0


def told(tries: Sequence[Try]) -> str:
    """All tries in a line, for the final failure; "" if there was only one.

    Example:
        >>> crash, over = Cause.CRASH, Cause.TIMEOUT
        >>> lost = [Try(n, crash, "flowlib.errors.WorkerLost", "m", host, 0.0) for n, host in enumerate(["n12", "n13"])]
        >>> told([*lost, Try(2, over, "flowlib.errors.AppTimeout", "m", "n14", 0.0)])
        '3 tries: worker lost on n12 and n13, walltime exceeded on n14'
    """
    if len(tries) < 2:
        return ""
    groups: dict[str, list[Try]] = {}
    for one in tries:
        groups.setdefault(_words(one), []).append(one)
    parts = [_group(words, group, len(groups) > 1) for words, group in groups.items()]
    return f"{len(tries)} tries: {', '.join(parts)}"


def _words(one: Try) -> str:
    return _WORDS.get(one.cause) or one.error.rpartition(".")[2] or "an exception"


def _group(words: str, group: list[Try], count: bool) -> str:
    hosts = list(dict.fromkeys(one.host for one in group if one.host))
    if count and len(group) > max(1, len(hosts)):
        words += f" {len(group)} times"
    return f"{words} on {_listed(hosts)}" if hosts else words


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def avoided(tries: Iterable[Try]) -> tuple[list[tuple[str, str]], bool]:
    """Where the next try should not run: ``(manager, host)`` pairs, and whether it is worth a wait for another place.

    After an exception of the app, another place is only taken if it is free: most exceptions are the same everywhere.
    """
    places: dict[tuple[str, str], None] = {}
    firm = False
    for one in tries:
        if one.manager:
            places[one.manager, one.host] = None
            firm = firm or one.cause is not Cause.ERROR
    return list(places)[-_MOST_AVOIDED:], firm
