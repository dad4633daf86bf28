"""Blocks on a real Slurm; skipped where none is installed or this is not root."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import SubmitException
from flowlib.executors import HighThroughputExecutor
from flowlib.jobs.states import JobState
from flowlib.launchers import SimpleLauncher, SrunLauncher
from flowlib.providers import SlurmProvider
from flowlib.testing import status_of as status
from flowlib.testing import wait_until as wait
from flowlib.testing.provider_suite import Backend, ProviderSuite
from tests.demo import check, demo
from tests.faults.sampling import SOAK

from .real_slurm import Slurm, missing, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no real Slurm: {missing()}"),
    pytest.mark.timeout(600),  # the first test may have to install it
]
SECONDS = 60
SITE = """\
name = "A real Slurm"
scheduler = "slurm"
verified = 2026-01-01
launcher = "simple"
poll_seconds = 0.5

[executor]
address = "127.0.0.1"
max_workers_per_node = 2

[partition.debug]
cores = 1
shared = true
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    """A Slurm for all tests of this file."""
    with running() as slurm:
        yield slurm


@pytest.fixture
def slurm(cluster: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Slurm]:
    """That Slurm, found by this process's commands; no job is left behind."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield cluster
    cluster.command("scancel", *(cluster.queue() or []))
    wait(lambda: cluster.queue() == [])


def provider(tmp_path: Path, **options: object) -> SlurmProvider:
    """One whose scripts lie in the test's directory."""
    options.setdefault("launcher", SimpleLauncher())
    options.setdefault("exclusive", False)
    made = SlurmProvider(status_polling_interval=0.5, **options)  # type: ignore[arg-type]
    made.script_dir = str(tmp_path / 'my "scripts" 100% $HOME o\'x')
    return made


class OnSlurm(Backend):
    seconds = SECONDS

    def __init__(self, slurm: Slurm, directory: Path) -> None:
        self.slurm = slurm
        self.directory = directory

    def provider(self, **options: object) -> SlurmProvider:
        return provider(self.directory, **options)

    def provider_with_walltime(self) -> SlurmProvider:
        return self.provider(walltime="1m")

    def start_foreign(self) -> Callable[[], bool]:
        id_ = self.slurm.command("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 1000")
        assert id_ is not None
        return lambda: id_.strip() in (self.slurm.queue() or [])


class TestSuite(ProviderSuite):
    @pytest.fixture
    def backend(self, slurm: Slurm, tmp_path: Path) -> OnSlurm:
        """Slurm's four pretended nodes."""
        return OnSlurm(slurm, tmp_path)

    if not SOAK:
        test_walltime = None  # type: ignore[assignment]  # a minute and a half: Slurm counts in minutes


@pytest.mark.timeout(600)
def test_demo(slurm: Slurm, tmp_path: Path) -> None:
    """The demonstration runs here by a site's name."""
    run = check(tmp_path, demo(tmp_path, "real-slurm", SITE))
    assert list((run / "submit_scripts").glob("*.sh.0.id")), "it ran in a job"


def test_jobs(slurm: Slurm, tmp_path: Path) -> None:
    """Jobs end well or badly or are cancelled, are told apart, and leave their output where it was promised."""
    site = provider(tmp_path)
    good, bad, long, killed = (site.submit(c, 1, "t") for c in ("echo hi", "exit 7", "sleep 600", "kill -9 $$"))
    wait(lambda: status(site, good).state is JobState.COMPLETED)
    assert status(site, good).stdout_summary == "hi\n"
    found = wait(lambda: (s := status(site, bad)).terminal and s)
    assert (found.state, found.exit_code) == (JobState.FAILED, 7)
    assert wait(lambda: (s := status(site, killed)).terminal and s).state is JobState.FAILED
    wait(lambda: status(site, long).state is JobState.RUNNING)
    assert site.cancel([long, good]) == [True, True]
    wait(lambda: status(site, long).state is JobState.CANCELLED)


def test_pending_held_and_hopeless(slurm: Slurm, tmp_path: Path) -> None:
    """A job that waits says why; one that is held is held; one that can never start is failed and removed."""
    full = provider(tmp_path, nodes_per_block=4, exclusive=True)
    first, second = full.submit("sleep 600", 1), full.submit("sleep 600", 1)
    wait(lambda: status(full, first).state is JobState.RUNNING)
    found = wait(lambda: (s := status(full, second)).message and s)
    assert (found.state, found.message) in ((JobState.PENDING, "Resources"), (JobState.PENDING, "Priority"))
    held = provider(tmp_path, scheduler_options="--hold")
    id_ = held.submit("true", 1)
    assert status(held, id_).state is JobState.HELD
    hopeless = provider(tmp_path, partition="short", walltime="1h")
    id_ = hopeless.submit("true", 1)
    found = wait(lambda: (s := status(hopeless, id_)).terminal and s)
    assert "it can never start: Partition" in found.message, "which word, depends on Slurm's version"
    wait(lambda: id_ not in (slurm.queue() or [id_]))
    with pytest.raises(SubmitException, match="invalid partition specified: nosuch") as caught:
        provider(tmp_path, partition="nosuch").submit("true", 1)
    assert not caught.value.retryable
    with pytest.raises(SubmitException, match="no-such-option") as caught:
        provider(tmp_path, scheduler_options="--no-such-option").submit("true", 1)
    assert not caught.value.retryable


def test_controller_hangs_during_submission(slurm: Slurm, tmp_path: Path) -> None:
    """The job that a stopped controller had already in its hands is found, and is the only one."""
    site = provider(tmp_path, cmd_timeout=2)
    assert slurm.controller is not None
    slurm.controller.send_signal(signal.SIGSTOP)
    try:
        id_ = site.submit("sleep 600", 1, "lost")
        found = status(site, id_)
        assert found.state is JobState.UNKNOWN
    finally:
        slurm.controller.send_signal(signal.SIGCONT)
    wait(lambda: status(site, id_).state is JobState.RUNNING, SECONDS)
    for _ in range(3):
        status(site, id_)
    assert slurm.queue() == [site.resources[id_]["job_id"]]
    assert site.cancel([id_]) == [True]
    wait(lambda: status(site, id_).state is JobState.CANCELLED)


@python_app
def node(n: int) -> tuple[int, str]:
    """A number, and the node's name in Slurm."""
    return n + 1, os.environ["SLURMD_NODENAME"]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Slurm]:
    """A Slurm for one test, which may break it."""
    monkeypatch.chdir(tmp_path)
    with running() as slurm:
        for name, value in slurm.environment.items():
            monkeypatch.setenv(name, value)
        yield slurm


def processes(directory: Path) -> list[psutil.Process]:
    """Those that have a path below a directory on their command line."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if str(directory) in " ".join(process.info["cmdline"] or [])]


def test_run(own: Slurm, tmp_path: Path) -> None:
    """Tasks run on several nodes through srun; a controller that crashes meanwhile costs nothing; no job is left."""
    slurm = own
    site = SlurmProvider(
        nodes_per_block=2, max_blocks=2, launcher=SrunLauncher(), status_polling_interval=1, cmd_timeout=5
    )
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=1, provider=site)
    with flowlib.load(Config(executors=[executor], run_dir="runinfo", strategy_period=0.5)):
        wait(lambda: len(executor.connected_managers()) >= 2, SECONDS)
        first = [f.result(SECONDS) for f in [node(n) for n in range(20)]]
        assert [r[0] for r in first] == list(range(1, 21))
        slurm.kill_controller()
        assert [f.result(SECONDS)[0] for f in [node(n) for n in range(20)]] == list(range(1, 21))
        slurm.start_controller()
        wait(slurm.queue)
        assert node(1).result(SECONDS)[0] == 2
        assert len(slurm.queue() or []) <= 2
    wait(lambda: slurm.queue() == [], SECONDS)
    wait(lambda: processes(tmp_path) == [], SECONDS)
