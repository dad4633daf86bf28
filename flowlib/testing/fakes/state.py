"""What a fake scheduler knows: jobs and settings, as files, since each of its commands is a process that soon ends."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

VARIABLE = "FLOWLIB_FAKE_SCHEDULER"


@dataclass
class Settings:
    """What a scheduler is like.

    Attributes:
        kind: Which.
        owner: Process that made it; when that is gone, jobs end.
        nodes: Names of its nodes, each for one job at a time.
        delay: Seconds that each job is pending at least.
        queues: Queues or partitions; None for any.
        accounts: Accounts or projects; None for any.
        max_walltime: Most seconds of a job; None for any.
        speed: How many times faster its clock goes: at 60, a walltime of an hour is over after a minute.
        accounting: Whether there is any.
    """

    kind: str
    owner: int
    nodes: list[str]
    delay: float = 0.0
    queues: list[str] | None = None
    accounts: list[str] | None = None
    max_walltime: float | None = None
    speed: float = 1.0
    accounting: bool = True


@dataclass
class FakeJob:
    """A job.

    Attributes:
        n: Its number.
        name: Its name.
        script: Its script.
        out: File of its standard output.
        err: File of its standard error.
        walltime: Seconds after which it is ended.
        nodes: How many nodes it wants.
        queue: Queue or partition that it asked for; "" for none.
        account: Account that it asked for; "" for none.
        workdir: Where it was submitted.
        state: pending, running, completed, failed, cancelled, timeout.
        reason: Why it is pending.
        code: Its exit code once it ended, -n for signal n; None if it never ran.
        hosts: Nodes that it has, or had.
    """

    n: int
    name: str
    script: str
    out: str
    err: str
    walltime: float
    nodes: int = 1
    queue: str = ""
    account: str = ""
    workdir: str = ""
    state: str = "pending"
    reason: str = "Resources"
    code: int | None = None
    hosts: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state not in ("pending", "running")

    @property
    def shell_code(self) -> int:
        """Its exit code as shells have it: 128 + n for signal n."""
        code = self.code or 0
        return 128 - code if code < 0 else code


class State:
    """The directory.

    Args:
        directory: Which.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    def settings(self) -> Settings:
        """What it is like."""
        return Settings(**json.loads((self.directory / "settings.json").read_text()))

    def configure(self, settings: Settings) -> None:
        """Make the directory, or change what it is like."""
        for name in ("jobs", "history", "faults", "seen", "runners"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        _replace(self.directory / "settings.json", json.dumps(asdict(settings)))

    def flag(self, name: str) -> bool:
        """Whether ``hold`` or ``outage`` is on."""
        return (self.directory / name).exists()

    def save(self, job: FakeJob, where: str = "jobs") -> None:
        """Write a job down, in queue or history."""
        _replace(self.directory / where / f"{job.n}.json", json.dumps(asdict(job)))

    def load(self, n: int | str, where: str = "jobs") -> FakeJob | None:
        """A job; None if there is none."""
        try:
            return FakeJob(**json.loads((self.directory / where / f"{n}.json").read_text()))
        except FileNotFoundError:
            return None

    def jobs(self, where: str = "jobs") -> list[FakeJob]:
        """All jobs in the queue, or in the history, in the order of their numbers."""
        paths = sorted((self.directory / where).glob("*.json"), key=lambda path: int(path.stem))
        return [job for path in paths if (job := self.load(path.stem, where)) is not None]

    def forget(self, n: int) -> None:
        """Take a job out of the queue."""
        (self.directory / "jobs" / f"{n}.json").unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one at a time."""
        with open(self.directory / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def new_number(self) -> int:
        """A number for a job."""
        with self.lock():
            n = len(list((self.directory / "seen").iterdir())) + 1
            (self.directory / "seen" / str(n)).touch()
        return n


def here() -> State:
    """The scheduler that this process is a command or a job of."""
    return State(os.environ[VARIABLE])


def _replace(path: Path, text: str) -> None:
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)
