"""Blocks on a real Grid Engine; skipped where none can be installed or this is not root."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import SubmitException
from flowlib.executors import HighThroughputExecutor
from flowlib.jobs.states import JobState
from flowlib.launchers import SimpleLauncher
from flowlib.providers import GridEngineProvider
from flowlib.testing import status_of as status
from flowlib.testing import wait_until as wait
from flowlib.testing.provider_suite import Backend, ProviderSuite
from tests.demo import check, demo
from tests.faults.sampling import SOAK, sample

from .real_grid_engine import GridEngine, missing, running
from .sampled import eventually, most_jobs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.leaks("processes", "files"),  # a restarted qmaster, which is the module's
    pytest.mark.skipif(bool(missing()), reason=f"no real Grid Engine: {missing()}"),
    pytest.mark.timeout(600),  # the first test may have to install it
]
SECONDS = 120
SITE = """\
name = "A real Grid Engine"
scheduler = "gridengine"
verified = 2026-01-01
launcher = "simple"
poll_seconds = 0.5

[executor]
address = "127.0.0.1"
max_workers_per_node = 2

[partition.all]
cores = 1
shared = true
queue = "all.q"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[GridEngine]:
    """A Grid Engine for all tests of this file."""
    with running() as found:
        yield found


@pytest.fixture
def engine(cluster: GridEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GridEngine]:
    """That Grid Engine, found by this process's commands; no job is left behind."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield cluster
    if jobs := cluster.queue():
        cluster.command("qdel", "-f", *jobs)
    eventually(lambda: cluster.queue() == [], SECONDS)


def provider(tmp_path: Path, **options: object) -> GridEngineProvider:
    """One whose scripts lie in the test's directory."""
    options.setdefault("launcher", SimpleLauncher())
    made = GridEngineProvider(status_polling_interval=0.5, **options)  # type: ignore[arg-type]
    made.script_dir = str(tmp_path / "scripts")
    return made


def test_demo(engine: GridEngine, tmp_path: Path) -> None:
    """The demonstration runs here by a site's name."""
    run = check(tmp_path, demo(tmp_path, "real-sge", SITE))
    assert list((run / "submit_scripts").glob("*.sh.0.id")), "it ran in a job"


class OnGridEngine(Backend):
    seconds = SECONDS
    killed = JobState.CANCELLED  # in the accounting it looks as if somebody had deleted it

    def __init__(self, engine: GridEngine, directory: Path) -> None:
        self.engine = engine
        self.directory = directory

    def provider(self, **options: object) -> GridEngineProvider:
        return provider(self.directory, **options)

    def provider_with_walltime(self) -> GridEngineProvider:
        return self.provider(walltime="5s")

    def start_foreign(self) -> Callable[[], bool]:
        id_ = self.engine.command("qsub", "-terse", "-b", "y", "-o", "/dev/null", "-e", "/dev/null", "sleep", "1000")
        assert id_ is not None
        return lambda: id_.strip() in (self.engine.queue() or [])


class TestSuite(ProviderSuite):
    @pytest.fixture
    def backend(self, engine: GridEngine, tmp_path: Path) -> OnGridEngine:
        """Grid Engine's one host."""
        return OnGridEngine(engine, tmp_path)

    if not SOAK:
        test_walltime = None  # type: ignore[assignment]  # minutes, for the accounting lags


def test_jobs(engine: GridEngine, tmp_path: Path) -> None:
    """Jobs end well or badly, are killed or cancelled, are told apart, and leave their output where it was promised."""
    site = provider(tmp_path)
    good, bad, killed, long = (site.submit(c, 1, "t") for c in ("echo hi", "exit 7", "kill -9 $$", "sleep 600"))
    assert eventually(lambda: (s := status(site, good)).terminal and s, SECONDS).state is JobState.COMPLETED
    assert status(site, good).stdout_summary == "hi\n"
    found = eventually(lambda: (s := status(site, bad)).terminal and s, SECONDS)
    assert (found.state, found.exit_code) == (JobState.FAILED, 7)
    found = eventually(lambda: (s := status(site, killed)).terminal and s, SECONDS)
    assert (found.state.terminal, found.exit_code) == (True, 137)
    eventually(lambda: status(site, long).state is JobState.RUNNING, SECONDS)
    assert site.cancel([long, good]) == [True, True]
    eventually(lambda: status(site, long).state is JobState.CANCELLED, SECONDS)


def test_walltime(engine: GridEngine, tmp_path: Path) -> None:
    """A job over its ``h_rt`` is killed, and the accounting's word for it reaches the user."""
    site = provider(tmp_path, walltime="3s")
    id_ = site.submit("exec sleep 600", 1, "long")
    found = eventually(lambda: (s := status(site, id_)).terminal and s, SECONDS)
    assert found.state is JobState.TIMEOUT, found
    assert "h_rt" in (found.message or "")


def test_held_and_hopeless(engine: GridEngine, tmp_path: Path) -> None:
    """A held job is held until it is released; one in an error state is failed and removed; a refusal is for good."""
    held = provider(tmp_path, scheduler_options="-h")
    id_ = held.submit("true", 1)
    found = eventually(lambda: (s := status(held, id_)).state is JobState.HELD and s, SECONDS)
    assert found.message == "hqw"
    assert engine.command("qrls", id_) is not None
    eventually(lambda: status(held, id_).state is JobState.COMPLETED, SECONDS)
    hopeless = provider(tmp_path, scheduler_options="-wd /nosuch/directory")
    id_ = hopeless.submit("true", 1)
    found = eventually(lambda: (s := status(hopeless, id_)).terminal and s, SECONDS)
    assert (found.state, "error state Eqw" in (found.message or "")) == (JobState.FAILED, True), found
    eventually(lambda: engine.queue() == [], SECONDS)
    with pytest.raises(SubmitException, match=r"nosuch\.q") as caught:
        provider(tmp_path, queue="nosuch.q").submit("true", 1)
    assert not caught.value.retryable


def test_master_hangs_during_submission(engine: GridEngine, tmp_path: Path) -> None:
    """The job that a stopped qmaster may have in its hands is found or made once, not twice."""
    site = provider(tmp_path, cmd_timeout=2)
    assert engine.master is not None
    engine.master.send_signal(signal.SIGSTOP)
    try:
        id_ = site.submit("sleep 600", 1, "lost")
        assert status(site, id_).state is JobState.UNKNOWN
    finally:
        engine.master.send_signal(signal.SIGCONT)
    eventually(lambda: status(site, id_).state is JobState.RUNNING, SECONDS)
    for _ in range(3):
        status(site, id_)
    assert engine.queue() == [site.resources[id_]["job_id"]]
    assert site.cancel([id_]) == [True]
    eventually(lambda: status(site, id_).state is JobState.CANCELLED, SECONDS)


def test_master_is_away(engine: GridEngine, tmp_path: Path) -> None:
    """Without a qmaster a submission may be tried again; a running job is still that when there is one again."""
    site = provider(tmp_path)
    id_ = site.submit("sleep 600", 1)
    eventually(lambda: status(site, id_).state is JobState.RUNNING, SECONDS)
    engine.kill_master()
    try:
        with pytest.raises(SubmitException) as caught:
            site.submit("true", 1)
        assert caught.value.retryable
        with pytest.raises(Exception, match="qstat"):
            site.status([id_])
    finally:
        engine.start_master()
    assert status(site, id_).state is JobState.RUNNING


@python_app
def job(n: int) -> tuple[int, str]:
    """A number, and the job's number in Grid Engine."""
    return n + 1, os.environ["JOB_ID"]


def deleted(engine: GridEngine, first: str) -> None:
    """An administrator ends a block."""
    assert engine.command("qdel", first) is not None


def master_crashes(engine: GridEngine, first: str) -> None:
    """The qmaster dies, tasks run without one, and there is one again."""
    engine.kill_master()
    try:
        assert [f.result(SECONDS)[0] for f in [job(n) for n in range(20)]] == list(range(1, 21))
    finally:
        engine.start_master()


def host_daemon_restarts(engine: GridEngine, first: str) -> None:
    """The daemon of the host, which the jobs are to outlive, is killed and started."""
    engine.kill_host()
    engine.start_host()


FAULTS = [*sample([deleted, master_crashes], 1), *([host_daemon_restarts] if SOAK else [])]


@pytest.mark.parametrize("fault", FAULTS)
def test_run(engine: GridEngine, fault: Callable[[GridEngine, str], None]) -> None:
    """Tasks run in two blocks while something breaks: nothing is lost, never is there a third job, none is left."""
    site = GridEngineProvider(
        init_blocks=2, max_blocks=2, launcher=SimpleLauncher(), status_polling_interval=0.5, cmd_timeout=5,
        worker_init=f"export PYTHONPATH={os.environ.get('PYTHONPATH', '')}",
    )  # fmt: skip
    executor = HighThroughputExecutor(
        label="htex", address="127.0.0.1", max_workers_per_node=1, provider=site, worker_python=sys.executable
    )
    with most_jobs(engine.queue) as most:
        with flowlib.load(Config(executors=[executor], run_dir="runinfo", strategy_period=0.5)):
            wait(lambda: len(executor.connected_managers()) == 2, SECONDS)
            first = [f.result(SECONDS) for f in [job(n) for n in range(20)]]
            assert [r[0] for r in first] == list(range(1, 21))
            fault(engine, first[0][1])
            assert [f.result(SECONDS)[0] for f in [job(n) for n in range(20)]] == list(range(1, 21))
        # A host that lost its qmaster takes half a minute to tell the next one that its jobs ended.
        eventually(lambda: engine.queue() == [], SECONDS)
    assert 1 <= most() <= 2
