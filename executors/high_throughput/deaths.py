"""How the end of a worker is told to the person whose task was on it.

That person sees one exception; it should hold what they would otherwise look for in logs on a node they may not be
able to reach any more.
"""

from __future__ import annotations

import os
import signal
from enum import Enum
from typing import NamedTuple

from flowlib.executors.high_throughput import page
from flowlib.serialize.envelope import Failure, encode_failure

_TAIL_LINES = 12
_TAIL_BYTES = 4096
_FATAL = "Fatal Python error"

_WORDS = {
    page.LINK_BROKEN: "the task closed or replaced the file descriptor by which the worker speaks to its manager "
    "(os.closerange, or closing a number that it had not opened)",
    page.STATE_LOST: "what the task left behind could not be put right",
}


_KILLERS = {
    None: ", perhaps by the kernel's out-of-memory killer",
    True: " by the kernel's out-of-memory killer, which was at work on this node",
    False: ", not by the kernel's out-of-memory killer, but by a person, a program or the scheduler",
}


class Death(NamedTuple):
    """How a worker ended.

    Attributes:
        status: Wait status; None if nobody could tell.
        memory: Largest memory use in bytes; 0 if unknown.
        words: Its last words, see ``page``.
        out_of_memory: Whether the kernel has killed processes on this node for want of memory since the last look;
            None if it does not tell.
    """

    status: int | None
    memory: int = 0
    words: int = 0
    out_of_memory: bool | None = None


class Fault(Enum):
    """Who is answerable for the end of a worker."""

    TASK = "task"
    WALLTIME = "walltime"
    MEMORY = "memory"
    CANCEL = "cancel"
    NODE = "node"


class Verdict(NamedTuple):
    """Why a worker was killed.

    Attributes:
        fault: Who is answerable.
        reason: In words.
        limit: What was exceeded: seconds of walltime, bytes of memory.
        used: Bytes that were found in use.
    """

    fault: Fault
    reason: str
    limit: float = 0.0
    used: int = 0


def describe(death: Death) -> str:
    """A phrase that says how a worker ended.

    Example:
        >>> describe(Death(3 << 8))
        'it ended with exit code 3'
    """
    if death.words in _WORDS:
        return _WORDS[death.words]
    status = death.status
    if status is None:
        return "it vanished"
    if not os.WIFSIGNALED(status):
        return f"it ended with exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        text = f"killed by {signal.Signals(number).name}"
    except ValueError:
        text = f"killed by signal {number}"
    if number == signal.SIGKILL:
        text += _KILLERS[death.out_of_memory]
    meaning = signal.strsignal(number)
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT) and meaning:
        text += f" ({meaning.lower()} in native code)"
    if death.memory:
        text += f"; its largest memory use was {death.memory / (1 << 20):.0f} MiB"
    return text


def worker_lost(rank: int, host: str, reason: str, log: str, since: int = 0) -> bytes:
    """The payload of a task whose worker ended under it.

    Args:
        rank: The worker.
        host: Its machine.
        reason: How it ended.
        log: The worker's log; its last lines are added to the reason.
        since: Size of the log when the task began; what was written before is not its.
    """
    reason += _tail(log, since)
    return encode_failure(
        Failure(
            "flowlib.errors.WorkerLost",
            f"worker {rank} on {host} was lost: {reason}",
            host=host,
            worker=rank,
            log=log,
            arguments=[rank, host, reason, log],
        )
    )


def out_of_memory(rank: int, host: str, limit: int, peak: int, reason: str, log: str, since: int = 0) -> bytes:
    """The payload of a task that was killed because of the memory that it used.

    Args:
        rank: Its worker.
        host: The machine.
        limit: Bytes that it might use; 0 for none but the machine's.
        peak: Most bytes that it was seen to use; 0 if unknown.
        reason: Who killed it.
        log: The worker's log; its last lines are added to the reason.
        since: Size of the log when the task began.
    """
    arguments = [rank, host, limit, peak, reason + _tail(log, since), log]
    text = f"worker {rank} on {host}: out of memory: {reason}"
    return encode_failure(
        Failure("flowlib.errors.OutOfMemory", text, host=host, worker=rank, log=log, arguments=arguments)
    )


def _tail(log: str, since: int) -> str:
    tail = last_lines(log, since)
    return "\nlast lines of its log:\n" + "\n".join(f"  {line}" for line in tail) if tail else ""


def timed_out(rank: int, host: str, walltime: float, log: str, since: int = 0) -> bytes:
    """The payload of a task that outlived its walltime and would not stop.

    Args:
        rank: Its worker.
        host: The machine.
        walltime: Seconds.
        log: The worker's log; its last lines are added.
        since: Size of the log when the task began.
    """
    text = (
        f"the task ran longer than its walltime of {walltime:g} s on {host}, did not heed the exception that says so, "
        f"and was ended with its worker and all that it had started{_tail(log, since)}"
    )
    return encode_failure(Failure("flowlib.errors.AppTimeout", text, host=host, worker=rank, log=log, arguments=[text]))


def manager_lost(manager: str, host: str, reason: str, log: str) -> bytes:
    """The payload of a task that the node's side of flowlib took down with it."""
    return encode_failure(
        Failure(
            "flowlib.errors.ManagerLost",
            f"manager {manager} on {host}: {reason}",
            host=host,
            log=log,
            arguments=[manager, host, reason, log],
        )
    )


def last_lines(path: str, since: int = 0) -> list[str]:
    """The end of a log, as far as it was written beyond ``since``; [] if that is nothing or cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line for line in text.splitlines() if line.strip()]
    for i in range(len(lines) - 1, -1, -1):
        if lines[i].startswith(_FATAL):
            # The stack at a crash has the place of the crash first.
            return lines[i : i + _TAIL_LINES]
    return lines[-_TAIL_LINES:]
