"""Batch providers with real jobs, run by fake schedulers that answer late, wrongly or not at all."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.errors import ConfigurationError, ExecutionProviderException, ScriptPathError, SubmitException
from flowlib.jobs.states import JobState
from tests.faults.sampling import sample

from .fakes.cluster import PROVIDERS, Cluster, status, wait

KINDS = sorted(PROVIDERS)
SOME = ["slurm", *sample([kind for kind in KINDS if kind != "slurm"], 2)]
"""Those on which the longer tests are run: others with other seeds, all in a soak."""
MakeCluster = Callable[..., Cluster]

REFUSALS = {
    "slurm": (
        "1 sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "1 sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "1 sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    ),
    "pbspro": (
        "162 qsub: cannot connect to server pbshost (errno=15010)",
        "170 qsub: Unknown queue",
        "1 qsub: End of File",
    ),
    "torque": (
        "38 qsub: would exceed queue generic's per-user limit",
        "159 qsub: Unauthorized Request",
        "1 qsub: End of File",
    ),
    "lsf": (
        "255 LSF is down. Please wait ...",
        "255 nosuch: No such queue. Job not submitted.",
        "255 Failed in an LSF library call: Communication time out",
    ),
    "grid_engine": (
        "1 error: commlib error: got select error (Connection refused)",
        '1 Unable to run job: Job was rejected because job requests unknown queue "nosuch.q"',
        "1 Unable to run job: Error reading answer list from qmaster",
    ),
    "condor": (
        "1 ERROR: Failed to connect to local queue manager",
        "1 ERROR: Invalid value for request_cpus",
        "1 ERROR: Failed to commit job submission into the queue.",
    ),
    "flux": (
        "1 flux-batch: ERROR: Unable to connect to Flux: ENOENT: No such file or directory",
        "1 flux-batch: ERROR: [Errno 22] Invalid queue 'nosuch' specified",
        "1 flux-batch: ERROR: [Errno 110] Connection timed out",
    ),
}
"""Refusals: one that may pass, one that stays, one after which nobody knows."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeCluster]:
    """Makes a scheduler of a kind, whose commands are on PATH."""
    made: list[Cluster] = []

    def make(kind: str) -> Cluster:
        found = Cluster(kind, tmp_path)
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        made.append(found)
        return found

    yield make
    for each in made:
        each.close()


def until(provider: Any, id_: Any, *states: JobState) -> Any:
    """The status of a job once it has one of these states."""
    return wait(lambda: (found := status(provider, id_)).state in states and found)


@pytest.mark.parametrize("kind", KINDS)
def test_life(cluster: MakeCluster, kind: str) -> None:
    """A job is pending, runs, and ends with its exit code; its files are named, its output is in them."""
    site = cluster(kind)
    site.hold()
    provider = site.provider(worker_init="export PLANTED='x  y'")
    good = provider.submit('echo "$PLANTED $JOBNAME"', 1, "flowlib.htex.block-0")
    bad = provider.submit("echo sorry >&2; exit 7", 1, "flowlib.htex.block-1")
    assert [s.state for s in provider.status([good, bad])] == [JobState.PENDING] * 2
    site.hold(False)
    found = until(provider, good, JobState.COMPLETED)
    assert found.exit_code == 0
    assert found.stdout_summary == f"x  y {provider.resources[good]['job_name']}\n"
    found = until(provider, bad, JobState.FAILED)
    assert (found.exit_code, found.stderr_summary) == (7, "sorry\n")
    assert os.path.exists(found.script_path)
    assert status(provider, "999999").state is JobState.MISSING


@pytest.mark.parametrize("kind", SOME)
def test_walltime(cluster: MakeCluster, kind: str) -> None:
    """A job over its walltime is a timeout."""
    site = cluster(kind)
    provider = site.provider(walltime="1s")
    id_ = provider.submit("sleep 600", 1)
    assert until(provider, id_, JobState.TIMEOUT).state.terminal


@pytest.mark.parametrize("kind", KINDS)
def test_cancel(cluster: MakeCluster, kind: str) -> None:
    """Pending and running jobs are ended by one command, and their processes with them."""
    site = cluster(kind)
    provider = site.provider()
    running = provider.submit("sleep 600", 1)
    until(provider, running, JobState.RUNNING)
    site.hold()
    pending = provider.submit("sleep 600", 1)
    command = (
        "flux cancel"
        if kind == "flux"
        else {"lsf": "bkill", "slurm": "scancel", "condor": "condor_rm"}.get(kind, "qdel")
    )
    assert provider.cancel([running, pending, "999999"]) == [True, True, False]
    assert len(site.calls(command)) == 1
    for id_ in (running, pending):
        until(provider, id_, JobState.CANCELLED)
    wait(lambda: not site.alive())
    assert provider.cancel([running]) == [True], "it has ended"


@pytest.mark.parametrize("kind", SOME)
def test_one_query_for_many(cluster: MakeCluster, kind: str) -> None:
    """All living jobs are asked of by one command; ended ones are not asked of again."""
    site = cluster(kind)
    site.hold()
    provider = site.provider(max_blocks=30)
    ids = [provider.submit("true", 1) for _ in range(5)]
    before = len(site.calls())
    assert {s.state for s in provider.status(ids)} == {JobState.PENDING}
    assert len(site.calls()) == before + 1
    site.hold(False)
    wait(lambda: {s.state for s in provider.status(ids)} == {JobState.COMPLETED})
    before = len(site.calls())
    provider.status(ids)
    assert len(site.calls()) == before


@pytest.mark.parametrize("kind", SOME)
@pytest.mark.parametrize("fault", ["fail 1 Cannot connect to the server", "garbage", "hang"])
def test_failed_query_is_no_news(cluster: MakeCluster, kind: str, fault: str) -> None:
    """A query that fails, prints rubbish or hangs raises, or leaves jobs alive; never does it end one."""
    site = cluster(kind)
    site.hold()
    provider = site.provider(cmd_timeout=1)
    id_ = provider.submit("true", 1)
    site.fault(site.query, f"always {fault}")
    for command in site.commands_of_history():
        site.fault(command, f"always {fault}")
    began = time.monotonic()
    for _ in range(2):
        with contextlib.suppress(ExecutionProviderException):
            assert status(provider, id_).state in (JobState.UNKNOWN, JobState.PENDING)
    assert time.monotonic() - began < 10
    for command in [site.query, *site.commands_of_history()]:
        site.fault(command)
    assert status(provider, id_).state is JobState.PENDING


@pytest.mark.parametrize("kind", KINDS)
def test_submit_that_hung_after_it_worked(cluster: MakeCluster, kind: str) -> None:
    """The job is found by its name, and not made a second time."""
    site = cluster(kind)
    site.hold()
    site.fault(site.submit, "make-and-hang")
    provider = site.provider(cmd_timeout=1)
    id_ = provider.submit("true", 1)
    for _ in range(3):
        assert status(provider, id_).state in (JobState.PENDING, JobState.UNKNOWN)
    assert len(site.jobs()) == 1
    site.hold(False)
    until(provider, id_, JobState.COMPLETED)


@pytest.mark.parametrize("kind", SOME)
def test_submit_that_hung_before_it_worked(cluster: MakeCluster, kind: str) -> None:
    """As long as nobody knows whether there is a job, its block is alive; then it is made, once."""
    site = cluster(kind)
    site.hold()
    site.fault(site.submit, "hang")
    site.fault(site.query, "hang", "hang")
    provider = site.provider(cmd_timeout=1)
    id_ = provider.submit("true", 1)
    found = status(provider, id_)
    assert found.state is JobState.UNKNOWN
    assert "not known whether there is a job" in str(found.message)
    assert site.jobs() == []
    wait(lambda: status(provider, id_).state is JobState.PENDING)
    for _ in range(3):
        status(provider, id_)
    assert len(site.jobs()) == 1
    site.hold(False)
    until(provider, id_, JobState.COMPLETED)


@pytest.mark.parametrize("kind", SOME)
def test_lost_submission_that_is_cancelled(cluster: MakeCluster, kind: str) -> None:
    """A job that may exist and is cancelled is ended as soon as it is found."""
    site = cluster(kind)
    site.hold()
    site.fault(site.submit, "make-and-hang")
    site.fault(site.query, "hang", "hang")
    provider = site.provider(cmd_timeout=1)
    id_ = provider.submit("true", 1)
    assert provider.cancel([id_]) == [False]
    until(provider, id_, JobState.CANCELLED)
    wait(lambda: not site.alive())
    assert len(site.jobs()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_refusals(cluster: MakeCluster, kind: str) -> None:
    """A refusal that may pass can be retried, another cannot; both keep the scheduler's words."""
    site = cluster(kind)
    provider = site.provider()
    passing, staying, lost = REFUSALS[kind]
    for text, retryable in ((passing, True), (staying, False)):
        site.fault(site.submit, f"fail {text}")
        with pytest.raises(SubmitException) as caught:
            provider.submit("true", 1)
        assert caught.value.retryable is retryable, text
        assert text.partition(" ")[2] in str(caught.value)
    site.fault(site.submit, f"fail {lost}")
    id_ = provider.submit("true", 1)
    until(provider, id_, JobState.COMPLETED)
    assert len(site.jobs()) == 1


@pytest.mark.parametrize("kind", SOME)
def test_refused_for_good_after_all(cluster: MakeCluster, kind: str) -> None:
    """A submission that was lost and is then refused for good is a failed block, with the scheduler's words."""
    site = cluster(kind)
    site.fault(site.submit, "hang", f"fail {REFUSALS[kind][1]}")
    provider = site.provider(cmd_timeout=1)
    id_ = provider.submit("true", 1)
    found = until(provider, id_, JobState.FAILED)
    assert REFUSALS[kind][1].partition(" ")[2] in found.message


@pytest.mark.parametrize("kind", SOME)
def test_vanished_job_with_accounting_or_exit_code(cluster: MakeCluster, kind: str) -> None:
    """What became of a job that left the queue is told by the accounting, or else by its own exit code."""
    site = cluster(kind)
    provider = site.provider()
    ids = [provider.submit(f"exit {code}", 1) for code in (0, 3)]
    wait(lambda: len(list((site.state / "history").glob("*.json"))) == 2 and not site.alive())
    for path in (site.state / "jobs").glob("*.json"):
        path.unlink()
    found = provider.status(ids)
    assert [(s.state, s.exit_code) for s in found] == [(JobState.COMPLETED, 0), (JobState.FAILED, 3)]
    assert provider.status(ids) == found


@pytest.mark.parametrize("kind", SOME)
def test_vanished_without_a_trace(cluster: MakeCluster, kind: str) -> None:
    """A job of which nothing is known counts as alive for a while; only then is it missing."""
    site = cluster(kind)
    site.hold()
    provider = site.provider()
    id_ = provider.submit("true", 1)
    (job,) = (site.state / "jobs").glob("*.json")
    job.rename(site.state / "kept")
    assert status(provider, id_).state is JobState.UNKNOWN
    (site.state / "kept").rename(job)
    assert status(provider, id_).state is JobState.PENDING
    job.unlink()
    assert status(provider, id_).state is JobState.UNKNOWN
    provider.vanished_after = 0.0
    found = status(provider, id_)
    assert found.state is JobState.MISSING
    assert "no exit code" in str(found.message)


@pytest.mark.parametrize("kind", SOME)
def test_odd_paths(cluster: MakeCluster, kind: str) -> None:
    """Script and output files may lie where names have spaces, quotes, percent signs and dollars."""
    site = cluster(kind)
    provider = site.provider()
    provider.script_dir = str(site.state.parent / 'my "scripts" 100% o\'$HOME {x}')
    id_ = provider.submit("echo here; exit 4", 1, "a b/c'd")
    found = until(provider, id_, JobState.FAILED)
    assert (found.exit_code, found.stdout_summary) == (4, "here\n")


@pytest.mark.parametrize("kind", KINDS)
def test_no_such_command(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the scheduler's commands the first submission says so, for good."""
    site = Cluster(kind, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SubmitException, match="is not there: is this a login node") as caught:
        site.provider().submit("true", 1)
    assert not caught.value.retryable


def test_script_dir_that_cannot_be_written(cluster: MakeCluster, tmp_path: Path) -> None:
    """The error names the script."""
    site = cluster("slurm")
    provider = site.provider()
    (tmp_path / "file").touch()
    provider.script_dir = str(tmp_path / "file" / "dir")
    with pytest.raises(ScriptPathError, match="file/dir"):
        provider.submit("true", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_constructor_checks(kind: str, tmp_path: Path) -> None:
    """Numbers, times and texts that make no sense are refused at once, with the parameter's name."""
    site = Cluster(kind, tmp_path)
    for name, value in (
        ("walltime", "soon"), ("walltime", 0), ("nodes_per_block", 0), ("cmd_timeout", 0), ("worker_init", ["a"]),
        ("parallelism", 2), ("status_polling_interval", -1), ("scheduler_options", None),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=name):
            site.provider(**{name: value})


def test_slurm_specials(cluster: MakeCluster) -> None:
    """A job that can never start is a failed block at once, is removed, and says why; no accounting does no harm."""
    site = cluster("slurm")
    (site.state / "no-accounting").touch()
    site.hold()
    provider = site.provider(partition="debug")
    id_ = provider.submit("true", 1)
    (path,) = (site.state / "jobs").glob("*.json")
    path.write_text(path.read_text().replace("Resources", "PartitionTimeLimit"))
    found = status(provider, id_)
    assert found.state is JobState.FAILED
    assert "it can never start: PartitionTimeLimit" in str(found.message)
    wait(lambda: not site.alive())
    with pytest.raises(SubmitException, match="invalid partition specified: nosuch"):
        site.provider(partition="nosuch").submit("true", 1)
