"""The life of a job: it is queued by a command that ends at once, so it has a process of its own that carries it on."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from flowlib.testing.fakes.kinds import KINDS
from flowlib.testing.fakes.state import FakeJob, Settings, State, here

_HEARD = (signal.SIGTERM, signal.SIGCHLD)
_GLANCE = 0.03
"""Seconds between looks at the directory while a job is pending."""
_OWNER = 1.0
"""Seconds between looks at whether the scheduler's owner lives."""
GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL at the end of the walltime, or when a job is cancelled."""


def make(job: FakeJob) -> int:
    """Queue a job; its number."""
    state = here()
    job.n = state.new_number()
    job.workdir = os.getcwd()
    state.save(job)
    # Blocked from its first moment: a cancel must not end the runner before it can record that.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    runner = subprocess.Popen(
        [sys.executable, "-S", "-E", str(Path(__file__).with_name("program.py")), "run", str(job.n)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    (state.directory / "runners" / str(job.n)).write_text(str(runner.pid))
    return job.n


def end(job: FakeJob) -> None:
    """Tell a job to end."""
    if not job.ended:
        runner = (here().directory / "runners" / str(job.n)).read_text()
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(runner), signal.SIGTERM)


def run(n: str) -> None:
    """Be the process of a job until it is over."""
    ears = _Ears()
    state = here()
    settings = state.settings()
    job = state.load(n)
    if job is None:
        return
    if not _start(job, state, settings, ears):
        _finish(job, state, settings, "cancelled", None)
        return
    kind = importlib.import_module(f"flowlib.testing.fakes.{KINDS[settings.kind].module}")
    # A batch script stands in the scheduler's spool from its submission on; here it is read where it lies.
    environment = {**os.environ, "FLOWLIB_FAKE_HOSTS": ",".join(job.hosts), "FLOWLIB_FAKE_NODE": job.hosts[0]}
    environment.update(kind.environment(job, state.directory))
    with open(job.out, "wb") as out, open(job.err, "wb") as err:
        process = subprocess.Popen(
            ["/bin/bash", job.script], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment,
            cwd=kind.start_directory(job), start_new_session=True,
        )  # fmt: skip
    why = _watch(process, time.monotonic() + job.walltime / settings.speed, settings, ears)
    code = process.wait()
    _finish(job, state, settings, why or ("failed" if code else "completed"), code)


class _Ears:
    """Hears signals without racing them: each leaves a byte in a pipe."""

    def __init__(self) -> None:
        self._pipe, into = os.pipe()
        os.set_blocking(self._pipe, False)
        os.set_blocking(into, False)
        signal.set_wakeup_fd(into)
        for number in _HEARD:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)

    def heard(self, timeout: float) -> bool:
        """Whether SIGTERM came; returns early after any signal."""
        select.select([self._pipe], [], [], max(0.0, timeout))
        try:
            return signal.SIGTERM in os.read(self._pipe, 4096)
        except BlockingIOError:
            return False


def _start(job: FakeJob, state: State, settings: Settings, ears: _Ears) -> bool:
    """Wait until the job may run, and take its nodes; False if it is told to end before."""
    begin = time.monotonic() + settings.delay
    while True:
        if ears.heard(_GLANCE if job.state == "pending" else 0.0) or not _owned(settings):
            return False
        if time.monotonic() < begin or state.flag("hold"):
            continue
        with state.lock():
            if state.load(job.n) is None:
                return False
            taken = {host for other in state.jobs() if other.state == "running" for host in other.hosts}
            free = [name for name in settings.nodes if name not in taken]
            if len(free) < job.nodes:
                continue
            job.hosts = free[: job.nodes]
            job.state, job.reason = "running", ""
            state.save(job)
        return True


def _watch(process: subprocess.Popen[bytes], deadline: float, settings: Settings, ears: _Ears) -> str:
    """Wait for the job's end, or bring it about; why it was ended, "" if it ended by itself."""
    why = ""
    while process.poll() is None:
        told = ears.heard(min(_OWNER, deadline - time.monotonic()))
        if process.poll() is not None:
            break
        if told or not _owned(settings):
            why = "cancelled"
        elif time.monotonic() >= deadline:
            why = "timeout"
        if why:
            _kill(process)
    # Schedulers end what a job leaves behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return why


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _owned(settings: Settings) -> bool:
    """Whether the process lives that made this scheduler."""
    try:
        os.kill(settings.owner, 0)
    except ProcessLookupError:
        return False
    return True


def _finish(job: FakeJob, state: State, settings: Settings, how: str, code: int | None) -> None:
    job.state, job.code, job.reason = how, code, ""
    state.save(job, "history")
    if KINDS[settings.kind].forgets:
        state.forget(job.n)
    elif state.load(job.n) is not None:
        state.save(job)
