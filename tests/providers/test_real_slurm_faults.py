"""Whole runs on a real Slurm in which something breaks: nothing is lost, ``max_blocks`` holds, no job is left.

Each fault is played on a cluster of its own, which it may break.  ``make test`` plays some of them, chosen by the
seed; ``make soak`` all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import BadStateException
from flowlib.executors import HighThroughputExecutor
from flowlib.launchers import SimpleLauncher
from flowlib.providers import SlurmProvider
from flowlib.testing import wait_until as wait
from tests.faults.sampling import SOAK, sample

from .real_slurm import NODES, Slurm, missing, running
from .sampled import eventually, most_jobs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no real Slurm: {missing()}"),
    pytest.mark.timeout(600),  # the first test may have to install it
]
SECONDS = 60
TASKS = 40


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Slurm]:
    """A Slurm for one test, found by this process's commands."""
    monkeypatch.chdir(tmp_path)
    with running() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@python_app
def work(n: int, seconds: float = 0.1) -> tuple[int, str, str]:
    """A number, the job's number, and the node's name in Slurm."""
    time.sleep(seconds)
    return n + 1, os.environ["SLURM_JOB_ID"], os.environ["SLURMD_NODENAME"]


@dataclass
class Run:
    """A run that a fault is played on.

    Attributes:
        slurm: Where.
        executor: Its only executor.
        futures: Tasks that are out.
        job: A job of the run.
        node: That job's node.
    """

    slurm: Slurm
    executor: HighThroughputExecutor
    futures: list[Any]
    job: str
    node: str

    def control(self, *argv: str) -> None:
        """What an administrator does."""
        assert self.slurm.command("scontrol", *argv) is not None, argv

    def started(self) -> int:
        """How many blocks were ever started."""
        return len(self.executor.status())

    def finish(self) -> None:
        """Wait for the tasks that are out, and for as many more."""
        more = [work(n) for n in range(TASKS)]
        assert [f.result(3 * SECONDS)[0] for f in self.futures] == list(range(1, TASKS + 1))
        assert [f.result(3 * SECONDS)[0] for f in more] == list(range(1, TASKS + 1))


def job_cancelled(run: Run) -> None:
    """An administrator cancels one block; it is replaced as long as there is work."""
    assert run.slurm.command("scancel", run.job) is not None
    run.finish()


def all_jobs_cancelled(run: Run) -> None:
    """An administrator cancels all that the user has."""
    jobs = set(run.slurm.queue() or ())
    assert run.slurm.command("scancel", *jobs) is not None
    eventually(lambda: (left := run.slurm.queue()) is not None and not jobs & set(left))
    run.finish()
    assert run.started() > 2


def job_killed_hard(run: Run) -> None:
    """A block's processes are killed without a word, the batch script included."""
    assert run.slurm.command("scancel", "--signal=KILL", "--full", run.job) is not None
    run.finish()


def node_down(run: Run) -> None:
    """A node is set down, by which its job ends."""
    run.control("update", f"NodeName={run.node}", "State=DOWN", "Reason=test")
    run.finish()


def node_down_and_job_elsewhere(run: Run) -> None:
    """The same where the job may start again: Slurm does so under the same number."""
    node_down(run)


def requeued(run: Run) -> None:
    """A job is put back into the queue, and may start again under the same number: it is still one block."""
    run.control("requeue", run.job)
    run.finish()


def requeued_and_held(run: Run) -> None:
    """A job is put back into the queue and held there: its block is given up and replaced."""
    run.control("requeuehold", run.job)
    run.finish()


def suspended(run: Run) -> None:
    """A job is suspended for some seconds: its tasks go on afterwards, or were done elsewhere."""
    run.control("suspend", run.job)
    eventually(lambda: "SUSPENDED" in (run.slurm.command("squeue", "-h", "-o", "%T") or ""))
    run.control("resume", run.job)
    run.finish()


def controller_crashes(run: Run) -> None:
    """The controller is killed, and started after the tasks ended."""
    run.slurm.kill_controller()
    try:
        run.finish()
    finally:
        run.slurm.start_controller()
    eventually(lambda: run.slurm.queue() is not None)


def controller_stops(run: Run) -> None:
    """The controller hangs while a block ends: nobody learns of it before it goes on."""
    controller = run.slurm.controller
    assert controller is not None
    controller.send_signal(signal.SIGSTOP)
    try:
        run.finish()
    finally:
        controller.send_signal(signal.SIGCONT)
    assert run.started() == 2, "without an answer nothing is known to be gone"


def controller_restarts(run: Run) -> None:
    """The controller crashes and comes back three times."""
    for _ in range(3):
        run.slurm.kill_controller()
        run.slurm.start_controller()
        eventually(lambda: run.slurm.queue() is not None)
    run.finish()


def node_daemon_dies(run: Run) -> None:
    """A node's daemon dies: in the end Slurm takes the job for lost, though its processes live."""
    run.slurm.kill_node(run.node)
    eventually(lambda: run.job not in (run.slurm.command("squeue", "-h", "-t", "R", "-o", "%i") or "").split())
    run.finish()
    run.slurm.start_node(run.node)


def walltime_over(run: Run) -> None:
    """The jobs come to their time limit in the midst of tasks: those run again in other blocks."""
    long = [work(n, 25) for n in range(8)]
    run.finish()
    assert [f.result(6 * SECONDS)[0] for f in long] == list(range(1, 9))
    assert run.started() > 2


QUICK = [
    job_cancelled, all_jobs_cancelled, job_killed_hard, node_down, node_down_and_job_elsewhere, requeued,
    requeued_and_held, suspended, controller_crashes, controller_stops, controller_restarts,
]  # fmt: skip
AGAIN = {node_down_and_job_elsewhere, requeued, requeued_and_held}
"""Those that need what flowlib asks Slurm not to do, but a user may ask for."""
LONG = [node_daemon_dies, walltime_over]
"""Those that wait for Slurm's own minutes."""


@pytest.mark.parametrize("fault", [*sample(QUICK, 2), *(LONG if SOAK else [])])
def test_fault(slurm: Slurm, fault: Callable[[Run], None]) -> None:
    """A run of two blocks survives the fault: every task is done, never are there three jobs, none is left."""
    site = SlurmProvider(
        init_blocks=2, max_blocks=2, walltime="1m" if fault is walltime_over else "30m", launcher=SimpleLauncher(), status_polling_interval=0.5,
        cmd_timeout=4, scheduler_options="--requeue" if fault in AGAIN else "",
    )  # fmt: skip
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=1, provider=site)
    with most_jobs(slurm.queue) as most:
        settings = Config(executors=[executor], run_dir="runinfo", strategy_period=0.5, lost_retries=5)
        with flowlib.load(settings):
            wait(lambda: len(executor.connected_managers()) == 2, SECONDS)
            _, job, node = work(0).result(SECONDS)
            futures = [work(n) for n in range(TASKS)]
            fault(Run(slurm, executor, futures, job, node))
        eventually(lambda: slurm.queue() == [])
    assert 1 <= most() <= 2


def scales_out_and_in(slurm: Slurm, tmp_path: Path) -> None:
    """Work brings blocks, as many as allowed; idleness ends them all; work brings them back."""
    site = SlurmProvider(
        init_blocks=0, max_blocks=3, launcher=SimpleLauncher(), status_polling_interval=0.5, cmd_timeout=4
    )
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=1, provider=site)
    settings = Config(executors=[executor], run_dir="runinfo", strategy_period=0.5, max_idletime=1)
    with most_jobs(slurm.queue) as most:
        with flowlib.load(settings):
            assert slurm.queue() == []
            for _ in range(2):
                done = [f.result(SECONDS) for f in [work(n, 0.3) for n in range(20)]]
                assert [r[0] for r in done] == list(range(1, 21))
                eventually(lambda: slurm.queue() == [])
                eventually(lambda: {s.state.name for s in executor.status().values()} == {"SCALED_IN"})
    assert most() == 3


def test_rejected(slurm: Slurm) -> None:
    """A partition that there is not ends the run's tasks with Slurm's own words; nothing is asked of Slurm again."""
    site = SlurmProvider("nosuch", launcher=SimpleLauncher(), status_polling_interval=0.5)
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", provider=site)
    with flowlib.load(Config(executors=[executor], run_dir="runinfo", strategy_period=0.5)):
        error = work(1).exception(SECONDS)
        assert isinstance(error, BadStateException)
        assert "invalid partition specified: nosuch" in str(error)
        assert len(executor.status()) == 1
    assert slurm.queue() == []


def test_held(slurm: Slurm) -> None:
    """A job that is held is said to be, in Slurm's own words, and does its work once it is released."""
    site = SlurmProvider(
        launcher=SimpleLauncher(), status_polling_interval=0.5, scheduler_options="--hold", cmd_timeout=4
    )
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=1, provider=site)
    with flowlib.load(Config(executors=[executor], run_dir="runinfo", strategy_period=0.5)):
        future = work(1)
        (job,) = eventually(slurm.queue)
        said = eventually(lambda: text if "JobHeld" in (text := str(future.explain())) else "")
        assert job in said
        assert slurm.command("scontrol", "release", job) is not None
        assert future.result(SECONDS)[1] == job
    eventually(lambda: slurm.queue() == [])


@python_app(walltime="6s")
def declared(n: int) -> tuple[int, int, str]:
    """A number, which try it is, and the job's number; it takes 4 s."""
    time.sleep(4)
    return n + 1, flowlib.current().attempt, os.environ["SLURM_JOB_ID"]


def leaves_jobs_in_time(slurm: Slurm, tmp_path: Path) -> None:
    """Blocks come to their end one after the other, and no task has to be tried again: none began too late."""
    site = SlurmProvider(
        init_blocks=2, max_blocks=2, walltime="20s", launcher=SimpleLauncher(), status_polling_interval=0.5,
        cmd_timeout=4,
    )  # fmt: skip
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=1, provider=site)
    with most_jobs(slurm.queue) as most:
        with flowlib.load(Config(executors=[executor], run_dir="runinfo", strategy_period=0.5)):
            done = [f.result(4 * SECONDS) for f in [declared(n) for n in range(10)]]
            assert [r[0] for r in done] == list(range(1, 11))
            assert {r[1] for r in done} == {0}
            assert len({r[2] for r in done}) > 2
        eventually(lambda: slurm.queue() == [])
    assert 1 <= most() <= 2


def driver_leaves_while_the_controller_is_away(slurm: Slurm, tmp_path: Path) -> None:
    """A driver that cannot cancel its jobs tells their managers, whose jobs end by that."""
    site = SlurmProvider(launcher=SimpleLauncher(), status_polling_interval=0.5, cmd_timeout=2)
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=1, provider=site)
    try:
        with flowlib.load(Config(executors=[executor], run_dir="runinfo", strategy_period=0.5)):
            assert work(1).result(SECONDS)[0] == 2
            slurm.kill_controller()
    finally:
        slurm.start_controller()
    eventually(lambda: slurm.queue() == [])


KILLED = """
import sys
import flowlib
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor
from flowlib.launchers import SrunLauncher
from flowlib.providers import SlurmProvider

@flowlib.python_app
def work():
    import os, time
    print(os.getpid(), file=open(f"worker-{os.getpid()}", "w"), flush=True)
    time.sleep(600)

site = SlurmProvider(init_blocks=3, max_blocks=3, nodes_per_block=2, launcher=SrunLauncher(), status_polling_interval=1)
executor = HighThroughputExecutor(
    label="htex", address="127.0.0.1", max_workers_per_node=1, provider=site, lease=3, address_probe_timeout=5,
    heartbeat_period=1, heartbeat_threshold=3,
)
flowlib.load(Config(executors=[executor], run_dir="runinfo"))
futures = [work() for _ in range(6)]
print("loaded", flush=True)
sys.stdin.readline()
"""


def driver_killed(slurm: Slurm, tmp_path: Path) -> None:
    """A driver that is killed leaves two jobs that run and one that waits: all are gone soon, without anybody's help."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    with process.stdin, process.stdout:
        try:
            assert process.stdout.readline() == "loaded\n"
            wait(lambda: len(list(tmp_path.glob("worker-*"))) == NODES, SECONDS)
            states = (slurm.command("squeue", "-h", "-o", "%T") or "").split()
            assert sorted(states) == ["PENDING", "RUNNING", "RUNNING"]
        finally:
            process.kill()
            process.wait(10)
    # The lease twice: of those that run, and of the one that starts thereafter and finds nobody.
    eventually(lambda: slurm.queue() == [])
    for path in tmp_path.glob("worker-*"):
        wait(lambda path=path: not Path(f"/proc/{path.read_text().strip()}").exists())  # type: ignore[misc]


STORIES = [
    scales_out_and_in, leaves_jobs_in_time, driver_leaves_while_the_controller_is_away, driver_killed,
]  # fmt: skip


@pytest.mark.parametrize("story", sample(STORIES, 2))
def test_story(slurm: Slurm, tmp_path: Path, story: Callable[[Slurm, Path], None]) -> None:
    """What each function tells of."""
    story(slurm, tmp_path)
