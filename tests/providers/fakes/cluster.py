"""A fake scheduler for a test: its commands on PATH, its faults, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flowlib.providers
from flowlib.jobs.states import JobStatus

from . import scheduler

DEADLINE = 20.0
PROVIDERS = {
    "slurm": "SlurmProvider", "pbspro": "PBSProProvider", "torque": "TorqueProvider", "lsf": "LSFProvider",
    "grid_engine": "GridEngineProvider", "condor": "CondorProvider", "flux": "FluxProvider",
}  # fmt: skip


class Cluster:
    """A scheduler of one kind in a directory of its own.

    Attributes:
        kind: Which.
        state: Its state directory.
        bin: Its commands.
    """

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.state = directory / "cluster"
        self.bin = directory / "bin"
        for name in ("jobs", "history", "faults", "seen", "runners"):
            (self.state / name).mkdir(parents=True)
        self.bin.mkdir()
        for command in scheduler.COMMANDS[kind]:
            path = self.bin / command
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{scheduler.__file__}" {kind} {command} "$@"\n')
            path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "FAKE_SCHEDULER": str(self.state)}

    def provider(self, **options: Any) -> Any:
        """A provider for it, whose scripts lie beside it."""
        from flowlib.launchers import SimpleLauncher

        options.setdefault("launcher", SimpleLauncher())
        options.setdefault("cmd_timeout", 5)
        options.setdefault("status_polling_interval", 0.2)
        made = getattr(flowlib.providers, PROVIDERS[self.kind])(**options)
        made.script_dir = str(self.state.parent / "scripts")
        return made

    @property
    def submit(self) -> str:
        """Name of the submit command, for ``fault``."""
        return "flux-batch" if self.kind == "flux" else scheduler.COMMANDS[self.kind][0]

    @property
    def query(self) -> str:
        """Name of the query command."""
        return "flux-jobs" if self.kind == "flux" else scheduler.COMMANDS[self.kind][1]

    def commands_of_history(self) -> list[str]:
        """Names of the accounting's commands."""
        return scheduler.COMMANDS[self.kind][3:]

    def fault(self, command: str, *faults: str) -> None:
        """What the next calls of a command do."""
        (self.state / "faults" / command).write_text("\n".join(faults))

    def hold(self, on: bool = True) -> None:
        """Whether jobs stay pending."""
        if on:
            (self.state / "hold").touch()
        else:
            (self.state / "hold").unlink()

    def calls(self, command: str = "") -> list[str]:
        """Command lines so far."""
        try:
            lines = (self.state / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if line.startswith(command)]

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that were ever made."""
        found = []
        for n in sorted((self.state / "seen").iterdir()):
            for where in ("jobs", "history"):
                path = self.state / where / f"{n.name}.json"
                if path.exists():
                    with contextlib.suppress(FileNotFoundError):
                        found.append(scheduler.json.loads(path.read_text()))
                        break
        return found

    def alive(self) -> list[int]:
        """Runners that live."""
        found = []
        for path in (self.state / "runners").iterdir():
            with contextlib.suppress(ProcessLookupError, ValueError):
                pid = int(path.read_text())
                os.kill(pid, 0)
                if f"{scheduler.__file__}\0run" in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(pid)
        return found

    def close(self) -> None:
        """End all jobs."""
        (self.state / "hold").unlink(missing_ok=True)
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait(lambda: not self.alive())


def wait(what: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Until something holds that no event tells of; what it is."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)
    return found


def status(provider: Any, id_: Any) -> JobStatus:
    """The state of one job."""
    found: JobStatus = provider.status([id_])[0]
    return found
