"""What can be known of a machine, its scheduler and a block: plain values, without a judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The machine on which the script runs.

    Attributes:
        python: Version of this Python, as (major, minor, micro).
        executable: Its path.
        flowlib: Version of this flowlib.
        location: Directory from which it is imported.
        host: The host's name.
        addresses: IPv4 addresses that are not of the loopback device.
        files: Most files that a process may open; 0 for no limit.
        processes: Most processes of the user; 0 for no limit.
        shm_free: Free bytes in /dev/shm; None if there is none.
        tmp: Directory for temporary files.
        tmp_free: Free bytes there.
        directory: Current directory.
        directory_free: Free bytes there.
        write_error: Why nothing can be written there; "" if it can.
    """

    python: tuple[int, int, int]
    executable: str
    flowlib: str
    location: str
    host: str
    addresses: tuple[str, ...]
    files: int
    processes: int
    shm_free: int | None
    tmp: str
    tmp_free: int
    directory: str
    directory_free: int
    write_error: str = ""


@dataclass(frozen=True, slots=True)
class SchedulerFacts:
    """A scheduler as this user sees it.

    Attributes:
        label: Its name.
        where: Where its commands are run: "this machine", or a login node.
        commands: Paths of the commands that are needed; "" for those that are missing.
        version: What it calls itself; "" if unknown.
        query_error: Why a query was not answered; "" if it was.
        partition: The partition or queue that the configuration asks for.
        partitions: Those that there are; None if that was not found out.
        account: The account that the configuration asks for.
        accounts: Those that the user may use; None if that was not found out.
        refusal: Why the scheduler would not take the job; "" if it would; None if that was not found out.
    """

    label: str
    where: str
    commands: Mapping[str, str]
    version: str = ""
    query_error: str = ""
    partition: str | None = None
    partitions: tuple[str, ...] | None = None
    account: str | None = None
    accounts: tuple[str, ...] | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """What one task in one block told.

    Attributes:
        seconds: From the load to the task's result, or to the failure.
        error: Why there is no result; "" if there is one.
        pending: What the scheduler said last of a job that did not start in time; "" otherwise.
        host: Host of the worker.
        python: Version of its Python.
        executable: Path of that.
        flowlib: Version of its flowlib.
        clock_ahead: Seconds by which its clock is ahead of ours, as far as the message's way lets know.
        doubt: Seconds by which that may be wrong.
        reads: Whether it saw a file of the current directory here.
        wrote: Whether we saw a file that it wrote there.
        files: Most files that a process may open there; 0 for no limit.
        shm_free: Free bytes in its /dev/shm; None if there is none.
    """

    seconds: float
    error: str = ""
    pending: str = ""
    host: str = ""
    python: tuple[int, ...] = ()
    executable: str = ""
    flowlib: str = ""
    clock_ahead: float = 0.0
    doubt: float = 0.0
    reads: bool = True
    wrote: bool = True
    files: int = 0
    shm_free: int | None = field(default=None)
