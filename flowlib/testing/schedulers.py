"""A fake scheduler from the side of a test: its commands on PATH, its faults, what it saw, its end.

Every command is a small program that speaks like the real one; jobs run for real on this machine, each on as many
pretended nodes as it asked for.  So a site's file, a provider or a whole workflow can be tried where there is no
scheduler: in a continuous integration, say.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from flowlib.errors import ConfigurationError
from flowlib.suggest import nearest
from flowlib.testing.fakes.kinds import KINDS as KINDS
from flowlib.testing.fakes.state import VARIABLE, Settings, State
from flowlib.testing.fakes.state import FakeJob as FakeJob
from flowlib.testing.waiting import wait_until

_PROGRAM = str(Path(__file__).parent / "fakes" / "program.py")


class FakeScheduler:
    """A scheduler of one kind; usually made by ``fake_scheduler``.

    Args:
        kind: One of slurm, pbspro, torque, lsf, grid_engine (or gridengine), condor, flux.
        directory: Where its state and its commands will be; must not hold another one's.
        nodes: Its nodes, by number or by names; each has one job at a time.
        delay: Seconds that each job is pending at least.
        queues: Queues or partitions; others are refused. None for any.
        accounts: Accounts; others are refused by those kinds that check them (Slurm, Grid Engine, Flux). None for any.
        max_walltime: Most seconds that a job may ask for (not checked by Grid Engine and HTCondor). None for any.
        speed: How many times faster its clock goes: at 60, a walltime of an hour is over after a minute.
        accounting: Whether Slurm's ``sacct`` answers.

    Attributes:
        kind: Which.
        directory: Where it is.
        bin: Its commands.

    Raises:
        ConfigurationError: There is no such kind.
    """

    def __init__(
        self,
        kind: str,
        directory: str | os.PathLike[str],
        *,
        nodes: int | Sequence[str] = 32,
        delay: float = 0.0,
        queues: Sequence[str] | None = None,
        accounts: Sequence[str] | None = None,
        max_walltime: float | None = None,
        speed: float = 1.0,
        accounting: bool = True,
    ) -> None:
        self.kind = {found.site: name for name, found in KINDS.items()}.get(kind, kind)
        if self.kind not in KINDS:
            raise ConfigurationError(f"there is no fake scheduler {kind!r}{nearest(kind, KINDS)}")
        self.directory = Path(directory)
        self.bin = self.directory / "bin"
        self._state = State(self.directory / "cluster")
        self._facts = KINDS[self.kind]
        names = [f"n{i}" for i in range(1, nodes + 1)] if isinstance(nodes, int) else list(nodes)
        self._settings = Settings(
            self.kind, os.getpid(), names, delay, None if queues is None else list(queues),
            None if accounts is None else list(accounts), max_walltime, speed, accounting,
        )  # fmt: skip
        self._state.configure(self._settings)
        self.bin.mkdir()
        for command in self._facts.programs:
            path = self.bin / command
            call = f'exec "{sys.executable}" -S -E "{_PROGRAM}" {self.kind} {command} "$@"'
            path.write_text(f"#!/bin/sh\n{call}\n")
            path.chmod(0o755)

    # ---------------------------------------------------------------------------------------------- how it is found

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a process finds it."""
        return {
            "PATH": f"{self.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            VARIABLE: str(self._state.directory),
        }

    @property
    def submit_command(self) -> str:
        """The command that submits, as ``fault`` takes it."""
        return self._facts.submit

    @property
    def query_command(self) -> str:
        """The command that tells the state of jobs, as ``fault`` takes it."""
        return self._facts.query

    @property
    def cancel_command(self) -> str:
        """The command that ends jobs, as ``fault`` takes it."""
        return self._facts.cancel

    @property
    def history_commands(self) -> tuple[str, ...]:
        """The accounting's commands, as ``fault`` takes them."""
        return self._facts.history

    def provider(self, **options: Any) -> Any:
        """A provider for it.

        Args:
            options: Of its class in ``flowlib.providers``. Unless given, managers are started by ``SimpleLauncher``,
                commands may take 5 s, and queries are 0.2 s apart.
        """
        import flowlib.providers
        from flowlib.launchers import SimpleLauncher

        settings = {"launcher": SimpleLauncher(), "cmd_timeout": 5, "status_polling_interval": 0.2, **options}
        made = getattr(flowlib.providers, self._facts.provider)(**settings)
        made.script_dir = str(self.directory / "scripts")
        return made

    def write_site(self, directory: str | os.PathLike[str], name: str = "") -> str:
        """Write a file with which ``flowlib.load`` finds it by name, if the directory is among ``FLOWLIB_SITES``.

        Args:
            directory: Where to write it.
            name: Name of the site; "" for "fake-" and its kind.

        Returns:
            The name.
        """
        name = name or f"fake-{self._facts.site}"
        Path(directory).mkdir(parents=True, exist_ok=True)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        partitions = "".join(
            f"\n[partition.{queue}]\ncores = {cores}\nmax_nodes = {len(self._settings.nodes)}\n"
            for queue in self._settings.queues or ["batch"]
        )
        Path(directory, f"{name}.toml").write_text(
            f'name = "A fake {self.kind} on this machine"\n'
            f'scheduler = "{self._facts.site}"\n'
            "verified = 2026-01-01\n"
            'launcher = "simple"\n'
            "poll_seconds = 0.5\n"
            "\n[executor]\n"
            'address = "127.0.0.1"\n' + partitions
        )
        return name

    # ---------------------------------------------------------------------------------------------- how it behaves

    def change(self, **settings: Any) -> None:
        """Change ``delay``, ``queues``, ``accounts``, ``max_walltime`` or ``accounting`` from now on.

        Raises:
            TypeError: There is no such setting.
        """
        from dataclasses import replace

        self._settings = replace(self._settings, **settings)
        self._state.configure(self._settings)

    def fault(self, command: str, *faults: str) -> None:
        """What the next calls of a command do instead of answering; none to make it well.

        Args:
            command: Such as ``submit_command``.
            faults: One for each call: "hang", "make-and-hang" (a job is made, the answer never comes), "garbage",
                "fail CODE WORDS", "ok"; "always FAULT" stays until told otherwise.
        """
        (self._state.directory / "faults" / command).write_text("\n".join(faults))

    def hold(self, on: bool = True) -> None:
        """Whether jobs stay pending."""
        self._flag("hold", on)

    def outage(self, on: bool = True) -> None:
        """Whether its commands say that nobody answers; jobs run on."""
        self._flag("outage", on)

    def _flag(self, name: str, on: bool) -> None:
        path = self._state.directory / name
        if on:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def set_reason(self, n: int, reason: str) -> None:
        """Why a pending job is pending, in the scheduler's word."""
        job = self._state.load(n)
        assert job is not None and job.state == "pending"
        job.reason = reason
        self._state.save(job)

    def forget(self, n: int, history: bool = False) -> None:
        """Take a job out of the queue without ending it; out of the accounting too, if told."""
        self._state.forget(n)
        if history:
            (self._state.directory / "history" / f"{n}.json").unlink(missing_ok=True)

    def remember(self, job: FakeJob) -> None:
        """Put a job into the queue that was taken out by ``forget``."""
        self._state.save(job)

    def end_job(self, n: int) -> None:
        """End a job from outside, as an administrator would."""
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int((self._state.directory / "runners" / str(n)).read_text()), signal.SIGTERM)

    # ---------------------------------------------------------------------------------------------- what it saw

    def calls(self, command: str = "") -> list[str]:
        """Command lines so far.

        Args:
            command: What they begin with; those of Flux's commands begin with "flux ".
        """
        try:
            lines = (self._state.directory / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if line.startswith(command.replace("flux-", "flux "))]

    def jobs(self) -> list[FakeJob]:
        """All jobs that were ever made, those included that have left the queue."""
        numbers = sorted(int(path.name) for path in (self._state.directory / "seen").iterdir())
        return [job for n in numbers if (job := self._state.load(n) or self._state.load(n, "history")) is not None]

    def ended(self) -> list[FakeJob]:
        """Jobs in the accounting."""
        return self._state.jobs("history")

    def alive(self) -> list[int]:
        """Processes of jobs that are pending or run; each is one for a job, which ends after everything in it."""
        found = []
        for path in (self._state.directory / "runners").iterdir():
            with suppress(psutil.NoSuchProcess, ValueError, FileNotFoundError):
                pid = int(path.read_text())
                if psutil.Process(pid).cmdline()[-3:-1] == [_PROGRAM, "run"]:
                    found.append(pid)
        return found

    def close(self) -> None:
        """End all jobs, and wait for that.

        Raises:
            AssertionError: They did not end in time.
        """
        self.hold(False)
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not self.alive())


@contextmanager
def fake_scheduler(
    kind: str, directory: str | os.PathLike[str] | None = None, **settings: Any
) -> Iterator[FakeScheduler]:
    """A scheduler whose commands this process finds, as long as the context lasts.

    Args:
        kind: As for ``FakeScheduler``.
        directory: Where to put it; None for a temporary directory, removed at the end.
        settings: As for ``FakeScheduler``.

    Example:
        >>> with fake_scheduler("pbspro", queues=["workq"], delay=1) as pbs:
        ...     pbs.provider(queue="workq").label
        'pbspro'
    """
    temporary = tempfile.mkdtemp(prefix="flowlib-fake-") if directory is None else None
    try:
        scheduler = FakeScheduler(kind, temporary or str(directory), **settings)
        before = {name: os.environ.get(name) for name in scheduler.environment}
        os.environ.update(scheduler.environment)
        try:
            yield scheduler
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            scheduler.close()
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
