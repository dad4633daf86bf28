"""What a provider and the agents of its hosts tell each other: places, what they need, and what becomes of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flowlib.errors import HostUnusable
from flowlib.jobs.states import JobState


@dataclass(frozen=True)
class Work:
    """What every block of a provider needs on a host.

    Attributes:
        base: Where the blocks' directories go; None for the account's cache.
        workdir: Where blocks work, as the hosts see it; None to choose.
        logdir: The driver's directory for the block's logs, for hosts that share its file system.
        here: The driver's directory, in which blocks work where the host has it too; "" if it cannot be told.
        shared: A file by which a host shows that it has the driver's file system.
        worker_init: Lines for bash.
        pythons: See ``scripts.candidates``.
        root: Directory with the driver's flowlib; "" if it is installed.
        version: The driver's Python, major and minor.
        protocol: The driver's protocol.
        release: The driver's flowlib.
        home: Address and port of this machine that managers must reach; None for no tunnel.
        probe_timeout: Seconds for worker_init and the search for a Python.
    """

    base: str | None
    workdir: str | None
    logdir: str
    here: str
    shared: str
    worker_init: Sequence[str]
    pythons: Sequence[str]
    root: str
    version: str
    protocol: int
    release: str
    home: tuple[str, int] | None
    probe_timeout: float


@dataclass(eq=False)
class Place:
    """One host's share of a block.

    Attributes:
        job: The job's id.
        number: Which of its hosts this is.
        files: What the executor delivered, and job.sh.
        work: See there.
        host: Where it is; "" while it waits for a host.
        state: What is known.
        message: The circumstances, for people.
        code: Exit code once it ended.
        out: The end of its standard output once it ended.
        err: The same of its standard error.
        logs: The ends of its managers' logs where they are not on a shared file system; by path in the log directory.
        cancelled: Whether it is to end.
        ended: Set when it has.
    """

    job: str
    number: int
    files: Mapping[str, bytes]
    work: Work
    host: str = ""
    state: JobState = JobState.PENDING
    message: str = ""
    code: int | None = None
    out: bytes = b""
    err: bytes = b""
    logs: Mapping[str, bytes] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def end(self, state: JobState, message: str) -> None:
        """It is over; its files, which hold keys, are forgotten."""
        self.state, self.message = state, message
        self.files = {}
        self.ended.set()


class Listener(Protocol):
    """Whom agents tell what happens; called in their threads."""

    def on_started(self, place: Place) -> bool:
        """It runs; whether that is still wanted."""
        ...

    def on_ended(self, place: Place) -> None:
        """It ended; ``state`` and ``code`` say how."""

    def on_unusable(self, place: Place, error: HostUnusable) -> None:
        """It could not be started on this host."""
