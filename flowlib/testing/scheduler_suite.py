"""The tests of providers whose scheduler can be broken at will: what they do when it answers late, wrongly, not at all.

For providers of batch schedulers, on ``flowlib.testing.FakeScheduler``.  ``SubmissionSuite`` is about orders whose
answer is a refusal or is lost, ``OutageSuite`` about questions that nobody answers and jobs that vanish.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowlib.errors import ConfigurationError, ExecutionProviderException, ScriptPathError, SubmitException
from flowlib.jobs.states import JobState
from flowlib.testing.provider_suite import Backend
from flowlib.testing.schedulers import FakeScheduler
from flowlib.testing.waiting import status_of, wait_for_state, wait_until


@dataclass(frozen=True)
class Refusals:
    """Words of a scheduler that refuses a job, each as a fault of its submit command: "1 sbatch: error: ...".

    Attributes:
        passing: May be no more in a minute.
        staying: Will be the same next time.
        lost: After these nobody knows whether there is a job.
    """

    passing: str
    staying: str
    lost: str


REFUSALS = {
    "slurm": Refusals(
        "1 sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "1 sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "1 sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    ),
    "pbspro": Refusals(
        "162 qsub: cannot connect to server pbshost (errno=15010)",
        "170 qsub: Unknown queue",
        "1 qsub: End of File",
    ),
    "torque": Refusals(
        "38 qsub: would exceed queue generic's per-user limit",
        "159 qsub: Unauthorized Request",
        "1 qsub: End of File",
    ),
    "lsf": Refusals(
        "255 LSF is down. Please wait ...",
        "255 nosuch: No such queue. Job not submitted.",
        "255 Failed in an LSF library call: Communication time out",
    ),
    "grid_engine": Refusals(
        "1 error: commlib error: got select error (Connection refused)",
        '1 Unable to run job: Job was rejected because job requests unknown queue "nosuch.q"',
        "1 Unable to run job: Error reading answer list from qmaster",
    ),
    "condor": Refusals(
        "1 ERROR: Failed to connect to local queue manager",
        "1 ERROR: Invalid value for request_cpus",
        "1 ERROR: Failed to commit job submission into the queue.",
    ),
    "flux": Refusals(
        "1 flux-batch: ERROR: Unable to connect to Flux: ENOENT: No such file or directory",
        "1 flux-batch: ERROR: [Errno 22] Invalid queue 'nosuch' specified",
        "1 flux-batch: ERROR: [Errno 110] Connection timed out",
    ),
}
"""By kind of scheduler."""


class FakeBackend(Backend):
    """A provider on a fake scheduler, whose commands are on PATH.

    Args:
        scheduler: Which.
    """

    def __init__(self, scheduler: FakeScheduler) -> None:
        self.scheduler = scheduler

    @property
    def refusals(self) -> Refusals:
        """What its refusals sound like."""
        return REFUSALS[self.scheduler.kind]

    def provider(self, **options: Any) -> Any:
        """A provider of its kind."""
        return self.scheduler.provider(**options)

    def provider_with_walltime(self) -> Any:
        """A minute of the scheduler's clock, which is made to go as fast as needed for that to be a second."""
        self.scheduler.change(speed=60.0)
        return self.provider(walltime="1m")

    def start_foreign(self) -> Callable[[], bool]:
        """A job by another provider, which the tested one has never heard of."""
        job = self.provider().submit("sleep 1000", 1, "foreign")
        name = self.scheduler.jobs()[-1].name
        assert job is not None
        return lambda: any(other.name == name and not other.ended for other in self.scheduler.jobs())


class _OnFake:
    @pytest.fixture
    def backend(self) -> Iterator[FakeBackend]:
        """What is tested; a subclass must say."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture named backend")


class SubmissionSuite(_OnFake):
    """Orders that are refused, or whose answer is lost: no second job, and the scheduler's own words."""

    def test_pending_first(self, backend: FakeBackend) -> None:
        """A job is pending as long as it does not run; both kinds of jobs are ended by one command."""
        site = backend.scheduler
        provider = backend.provider(max_blocks=10)
        running = provider.submit("sleep 1000", 1)
        wait_for_state(provider, running, JobState.RUNNING)
        site.hold()
        pending = provider.submit("sleep 1000", 1)
        assert status_of(provider, pending).state is JobState.PENDING
        before = len(site.calls(site.cancel_command))
        assert provider.cancel([running, pending, "999999"]) == [True, True, False]
        assert len(site.calls(site.cancel_command)) == before + 1
        for job in (running, pending):
            wait_for_state(provider, job, JobState.CANCELLED)
        wait_until(lambda: not site.alive())
        assert provider.cancel([running]) == [True], "it has ended"

    def test_names_for_the_scheduler(self, backend: FakeBackend) -> None:
        """The scheduler and the job call the job by the same name, which is no other job's; exit codes are kept."""
        provider = backend.provider(max_blocks=10)
        jobs = [provider.submit(f'echo "$JOBNAME"; exit {code}', 1, "flowlib.htex.block-0") for code in (0, 7)]
        ends = [wait_for_state(provider, job) for job in jobs]
        assert [(end.state, end.exit_code) for end in ends] == [(JobState.COMPLETED, 0), (JobState.FAILED, 7)]
        said = [(end.stdout_summary or "").strip() for end in ends]
        assert said == [provider.resources[job]["job_name"] for job in jobs]
        assert sorted(job.name for job in backend.scheduler.jobs()) == sorted(set(said))

    def test_answer_that_never_came(self, backend: FakeBackend) -> None:
        """The job of a submission that hung after it worked is found by its name, and not made a second time."""
        site = backend.scheduler
        site.hold()
        site.fault(site.submit_command, "make-and-hang")
        provider = backend.provider(cmd_timeout=1)
        job = provider.submit("true", 1)
        for _ in range(3):
            assert status_of(provider, job).state in (JobState.PENDING, JobState.UNKNOWN)
        assert len(site.jobs()) == 1
        site.hold(False)
        wait_for_state(provider, job, JobState.COMPLETED)

    def test_refusals(self, backend: FakeBackend) -> None:
        """A refusal that may pass can be retried, another cannot; both keep the scheduler's words."""
        site = backend.scheduler
        provider = backend.provider()
        for text, retryable in ((backend.refusals.passing, True), (backend.refusals.staying, False)):
            site.fault(site.submit_command, f"fail {text}")
            with pytest.raises(SubmitException) as caught:
                provider.submit("true", 1)
            assert caught.value.retryable is retryable, text
            assert text.partition(" ")[2] in str(caught.value)
        site.fault(site.submit_command, f"fail {backend.refusals.lost}")
        job = provider.submit("true", 1)
        wait_for_state(provider, job, JobState.COMPLETED)
        assert len(site.jobs()) == 1

    def test_no_such_command(self, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Without the scheduler's commands the first submission says so, for good."""
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SubmitException, match="is not there: is this a login node") as caught:
            backend.provider().submit("true", 1)
        assert not caught.value.retryable

    def test_wrong_values(self, backend: FakeBackend) -> None:
        """Times and texts that make no sense are refused at once, with the parameter's name."""
        for name, value in (
            ("walltime", "soon"), ("walltime", 0), ("cmd_timeout", 0), ("worker_init", ["a"]),
            ("status_polling_interval", -1), ("scheduler_options", None),
        ):  # fmt: skip
            with pytest.raises(ConfigurationError, match=name):
                backend.provider(**{name: value})


class OutageSuite(_OnFake):
    """Questions that nobody answers, jobs that vanish, paths with odd names."""

    def test_one_query_for_many(self, backend: FakeBackend) -> None:
        """All living jobs are asked of by one command; ended ones are not asked of again."""
        site = backend.scheduler
        site.hold()
        provider = backend.provider(max_blocks=30)
        jobs = [provider.submit("true", 1) for _ in range(5)]
        before = len(site.calls())
        assert {s.state for s in provider.status(jobs)} == {JobState.PENDING}
        assert len(site.calls()) == before + 1
        site.hold(False)
        wait_until(lambda: {s.state for s in provider.status(jobs)} == {JobState.COMPLETED})
        before = len(site.calls())
        provider.status(jobs)
        assert len(site.calls()) == before

    @pytest.mark.parametrize("fault", ["fail 1 Cannot connect to the server", "garbage", "hang", "outage"])
    def test_failed_query_is_no_news(self, backend: FakeBackend, fault: str) -> None:
        """A query that fails, prints rubbish or hangs raises, or leaves jobs alive; never does it end one."""
        site = backend.scheduler
        site.hold()
        provider = backend.provider(cmd_timeout=1)
        job = provider.submit("true", 1)
        commands = [site.query_command, *site.history_commands]
        if fault == "outage":
            site.outage()
        else:
            for command in commands:
                site.fault(command, f"always {fault}")
        began = time.monotonic()
        for _ in range(2):
            with contextlib.suppress(ExecutionProviderException):
                assert status_of(provider, job).state in (JobState.UNKNOWN, JobState.PENDING)
        assert time.monotonic() - began < 15, "each command has a deadline"
        site.outage(False)
        for command in commands:
            site.fault(command)
        assert _once_answered(provider, job) is JobState.PENDING

    def test_order_that_hung_before_it_worked(self, backend: FakeBackend) -> None:
        """As long as nobody knows whether there is a job, its block is alive; then it is made, once."""
        site = backend.scheduler
        site.hold()
        site.fault(site.submit_command, "hang")
        site.fault(site.query_command, "hang", "hang")
        provider = backend.provider(cmd_timeout=1)
        job = provider.submit("true", 1)
        found = status_of(provider, job)
        assert found.state is JobState.UNKNOWN
        assert "not known whether there is a job" in str(found.message)
        assert site.jobs() == []
        wait_for_state(provider, job, JobState.PENDING)
        for _ in range(3):
            status_of(provider, job)
        assert len(site.jobs()) == 1
        site.hold(False)
        wait_for_state(provider, job, JobState.COMPLETED)

    def test_lost_submission_that_is_cancelled(self, backend: FakeBackend) -> None:
        """A job that may exist and is cancelled is ended as soon as it is found."""
        site = backend.scheduler
        site.hold()
        site.fault(site.submit_command, "make-and-hang")
        site.fault(site.query_command, "hang", "hang")
        provider = backend.provider(cmd_timeout=1)
        job = provider.submit("true", 1)
        assert provider.cancel([job]) == [False]
        wait_for_state(provider, job, JobState.CANCELLED)
        wait_until(lambda: not site.alive())
        assert len(site.jobs()) == 1

    def test_refused_for_good_after_all(self, backend: FakeBackend) -> None:
        """A submission that was lost and is then refused for good is a failed block, with the scheduler's words."""
        site = backend.scheduler
        site.fault(site.submit_command, "hang", f"fail {backend.refusals.staying}")
        provider = backend.provider(cmd_timeout=1)
        job = provider.submit("true", 1)
        found = wait_for_state(provider, job, JobState.FAILED)
        assert backend.refusals.staying.partition(" ")[2] in str(found.message)

    def test_vanished_job_with_accounting_or_exit_code(self, backend: FakeBackend) -> None:
        """What became of a job that left the queue is told by the accounting, or else by its own exit code."""
        site = backend.scheduler
        provider = backend.provider()
        jobs = [provider.submit(f"exit {code}", 1) for code in (0, 3)]
        wait_until(lambda: len(site.ended()) == 2 and not site.alive())
        for job in site.jobs():
            site.forget(job.n)
        found = provider.status(jobs)
        assert [(s.state, s.exit_code) for s in found] == [(JobState.COMPLETED, 0), (JobState.FAILED, 3)]
        assert provider.status(jobs) == found

    def test_vanished_without_a_trace(self, backend: FakeBackend) -> None:
        """A job of which nothing is known counts as alive for a while; only then is it missing."""
        site = backend.scheduler
        site.hold()
        provider = backend.provider()
        job = provider.submit("true", 1)
        (kept,) = site.jobs()
        site.forget(kept.n)
        assert status_of(provider, job).state is JobState.UNKNOWN
        site.remember(kept)
        assert status_of(provider, job).state is JobState.PENDING
        site.forget(kept.n)
        assert status_of(provider, job).state is JobState.UNKNOWN
        provider.vanished_after = 0.0
        found = status_of(provider, job)
        assert found.state is JobState.MISSING
        assert "no exit code" in str(found.message)

    def test_odd_paths(self, backend: FakeBackend) -> None:
        """Script and output files may lie where names have spaces, quotes, percent signs and dollars."""
        provider = backend.provider()
        provider.script_dir = str(backend.scheduler.directory / 'my "scripts" 100% o\'$HOME {x}')
        found = wait_for_state(provider, provider.submit("echo here; exit 4", 1, "a b/c'd"), JobState.FAILED)
        assert (found.exit_code, found.stdout_summary) == (4, "here\n")

    def test_script_dir_that_cannot_be_written(self, backend: FakeBackend, tmp_path: Path) -> None:
        """The error names the script."""
        provider = backend.provider()
        (tmp_path / "file").touch()
        provider.script_dir = os.path.join(tmp_path, "file", "dir")
        with pytest.raises(ScriptPathError, match="file/dir"):
            provider.submit("true", 1)


def _once_answered(provider: Any, job: Any) -> JobState:
    """The job's state, now that the scheduler answers; on a busy machine a command may be too slow for its deadline."""

    def ask() -> JobState | None:
        try:
            return status_of(provider, job).state
        except ExecutionProviderException:
            return None

    found = wait_until(ask)
    assert found is not None
    return found
