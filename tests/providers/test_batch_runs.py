"""Whole runs through fake schedulers: blocks are queued, start, work, are scaled in, and leave no job behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import BadStateException
from flowlib.executors import HighThroughputExecutor
from flowlib.jobs.states import JobState
from flowlib.testing import KINDS, FakeScheduler, fake_scheduler, wait_until
from tests.faults.sampling import sample

SECONDS = 60


@python_app
def where(n: int) -> tuple[int, str, str]:
    """A number, and what the block's environment tells."""
    return n * n, os.environ["JOBNAME"], os.environ["PLANTED"]


OTHERS = sorted(set(KINDS) - {"slurm"})
SOME = ["slurm", *sample(OTHERS, 1)]
"""Those on which the tests of faults are run: others with other seeds, all in a soak."""


@pytest.fixture(params=["slurm", *OTHERS])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeScheduler]:
    """A scheduler of each kind, whose commands are on PATH."""
    monkeypatch.chdir(tmp_path)
    with fake_scheduler(request.param, tmp_path / "cluster") as found:
        yield found


def config(site: FakeScheduler, **options: object) -> Config:
    """Two blocks at most, of one worker each."""
    provider = site.provider(**{"init_blocks": 1, "max_blocks": 2, "worker_init": "export PLANTED=tree", **options})
    provider.script_dir = None
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=1, provider=provider)
    return Config(executors=[executor], run_dir="runinfo", strategy_period=0.2)


def test_run(site: FakeScheduler) -> None:
    """Tasks run in jobs; their scripts are in the run directory; at the end every job is ended."""
    with flowlib.load(config(site)) as dfk:
        results = [f.result(SECONDS) for f in [where(n) for n in range(20)]]
        assert [r[0] for r in results] == [n * n for n in range(20)]
        names = {job.name for job in site.jobs()}
        assert {r[1] for r in results} <= names
        assert {r[2] for r in results} == {"tree"}
        scripts = os.listdir(os.path.join(dfk.run_dir, "submit_scripts"))
        assert any(name.endswith(".sh") for name in scripts)
    assert len(names) <= 2
    wait_until(lambda: not site.alive())


@pytest.mark.parametrize("site", SOME, indirect=True)
def test_hung_submission_costs_no_block(site: FakeScheduler) -> None:
    """A submit command that hangs after it made the job delays nothing but itself; no second job is made."""
    site.fault(site.submit_command, "make-and-hang")
    with flowlib.load(config(site, max_blocks=1, cmd_timeout=2)):
        assert where(3).result(SECONDS)[0] == 9
        assert len(site.jobs()) == 1
    wait_until(lambda: not site.alive())


@pytest.mark.parametrize("site", SOME, indirect=True)
def test_broken_block_is_explained(site: FakeScheduler) -> None:
    """A worker_init that ends the job ends the run, with the job's exit code, script and last words."""
    setup = config(site, worker_init="echo no such module >&2; exit 3", max_blocks=1)
    with flowlib.load(setup):
        error = where(1).exception(SECONDS)
    assert isinstance(error, BadStateException)
    assert "EXIT CODE: 3" in str(error)
    assert "no such module" in str(error)
    assert "block-0" in str(error)
    wait_until(lambda: not site.alive())


@pytest.mark.parametrize("site", SOME, indirect=True)
def test_job_ended_from_outside(site: FakeScheduler) -> None:
    """A block that an administrator ends in the middle of a run is replaced, and its tasks run elsewhere."""
    with flowlib.load(config(site, max_blocks=1)) as dfk:
        assert where(2).result(SECONDS)[0] == 4
        provider = dfk.executors["htex"].provider
        (first,) = provider.resources
        assert site.provider().transport.run(provider.dialect.cancel([first]), timeout=SECONDS).code == 0
        assert where(3).result(SECONDS)[0] == 9
        assert len(site.jobs()) == 2
        states = [s["status"].state for s in provider.resources.values()]
        assert states[0].terminal or states[0] is JobState.RUNNING
    wait_until(lambda: not site.alive())
