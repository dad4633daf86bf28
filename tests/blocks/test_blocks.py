"""The block manager: carries out what the core decides, and survives what providers do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flowlib.errors import (
    ConfigurationError,
    InternalConsistencyError,
    ScalingFailed,
    ScriptPathError,
    SubmitException,
    TooManyJobFailuresError,
)
from flowlib.jobs.error_handlers import noop_error_handler, simple_error_handler, windowed_error_handler
from flowlib.jobs.states import JobState, JobStatus

from .fakes import DEADLINE, Executor, FakeProvider

Start = Callable[..., Executor]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts an executor's blocks; closed at the end."""
    made: list[Executor] = []

    def begin(*args: Any, before: Callable[[Executor], None] = lambda e: None, **settings: Any) -> Executor:
        executor = Executor(*args, **settings)
        before(executor)
        made.append(executor)
        executor.manager.start()
        return executor

    yield begin
    for executor in made:
        if executor.provider.gate is not None:
            executor.provider.gate.set()
        executor.manager.close(time.monotonic() + DEADLINE)


def test_life_of_a_block(start: Start) -> None:
    """A block's changes are told in order, with the job's id; its end with the reason."""
    provider = FakeProvider()
    executor = start(provider)
    executor.wait(lambda: "submitted" in executor.changes("0"))
    assert provider.commands == ["manager 0"]
    executor.wait(lambda: "pending" in executor.changes("0"))
    provider.jobs["job-0"] = JobStatus(JobState.RUNNING)
    executor.wait(lambda: "running" in executor.changes("0"))
    executor.register("0")
    executor.wait(lambda: "registered" in executor.changes("0"))
    executor.loads.clear()
    provider.jobs["job-0"] = JobStatus(JobState.TIMEOUT, "walltime is over", exit_code=1)
    executor.wait(lambda: executor.ended)
    changes = ["submitting", "submitted", "pending", "running", "registered", "ended"]
    assert executor.changes("0") == changes
    assert executor.ended == [("0", "job job-0 TIMEOUT with exit code 1: walltime is over")]
    assert executor.manager.status() == {"0": provider.jobs["job-0"]}
    assert executor.bad is None


def test_poke_is_heard_at_once(start: Start) -> None:
    """New work is seen long before the next period, by a poke."""
    executor = start(FakeProvider(init_blocks=0, interval=1000), strategy_period=1000)
    executor.wait(lambda: executor.looks)
    executor.queued = 1
    executor.manager.poke()
    executor.wait(lambda: "submitted" in executor.changes("0"), 2)


def test_flood_of_pokes(start: Start) -> None:
    """However often it is poked, it decides only some times per second."""
    executor = start(FakeProvider(interval=1000), strategy_period=1000)
    executor.wait(lambda: executor.looks)
    until, before = time.monotonic() + 0.5, executor.looks
    while time.monotonic() < until:
        executor.manager.poke()
    assert executor.looks - before <= 12


def test_one_query_for_all(start: Start) -> None:
    """All jobs are asked for together, no more often than the provider wants, however busy it is otherwise."""
    provider = FakeProvider(init_blocks=5, max_blocks=5, interval=0.2)
    executor = start(provider, strategy_period=0.005)
    began = time.monotonic()
    executor.wait(lambda: executor.looks > 60)
    assert 1 <= provider.queries <= 1 + (time.monotonic() - began) / 0.2


def test_failed_query_is_no_end(start: Start) -> None:
    """While the provider cannot tell, blocks count as alive, and no others are started."""
    provider = FakeProvider()
    executor = start(provider)
    executor.wait(lambda: "submitted" in executor.changes("0"))
    provider.broken_query = RuntimeError("scheduler is down")
    executor.queued = 100
    before = provider.queries
    executor.wait(lambda: provider.queries > before + 2)
    assert (executor.ended, len(provider.commands)) == ([], 1)
    provider.broken_query = None
    provider.jobs["job-0"] = JobStatus(JobState.RUNNING)
    executor.wait(lambda: "running" in executor.changes("0"))


def test_idle_blocks_are_drained_then_gone(start: Start) -> None:
    """An idle block's managers are asked to leave; its end is then recorded as wanted."""
    provider = FakeProvider()
    executor = start(provider, max_idletime=0.1)
    executor.wait(lambda: executor.changes("0"))
    executor.register("0")
    executor.wait(lambda: executor.drained)
    assert provider.cancelled == []
    provider.jobs["job-0"] = JobStatus(JobState.COMPLETED, exit_code=0)
    executor.wait(lambda: executor.ended)
    assert executor.manager.status()["0"].state is JobState.SCALED_IN
    assert executor.changes("0")[-2:] == ["draining", "ended"]


def test_idle_blocks_are_cancelled_where_nobody_drains(start: Start) -> None:
    """An executor that cannot drain has its idle blocks cancelled."""
    provider = FakeProvider()
    executor = start(provider, drains=False, max_idletime=0.1)
    executor.wait(lambda: executor.changes("0"))
    executor.register("0")
    executor.wait(lambda: executor.ended)
    assert provider.cancelled == ["job-0"]
    assert executor.manager.status()["0"].state is JobState.SCALED_IN


# --------------------------------------------------------------------------------------------------- by hand


def test_scale_out_and_in_by_hand(start: Start) -> None:
    """Blocks can be started and ended by hand, within max_blocks."""
    provider = FakeProvider(init_blocks=0, max_blocks=2)
    executor = start(provider, strategy="none")
    assert executor.manager.scale_out(2) == ["0", "1"]
    executor.wait(lambda: len(provider.commands) == 2)
    with pytest.raises(ScalingFailed, match=r"1 more block.* 2 alive.*max_blocks=2"):
        executor.manager.scale_out()
    executor.manager.scale_in(["0", "7"])
    executor.wait(lambda: executor.ended)
    assert provider.cancelled == ["job-0"]
    assert executor.manager.scale_out() == ["2"]
    executor.wait(lambda: len(provider.commands) == 3)
    executor.manager.scale_in(["2"], drain=True)
    executor.wait(lambda: executor.drained == ["2"])
    assert executor.bad is None


def test_promises_count(start: Start) -> None:
    """Blocks that were asked for but not submitted yet count towards max_blocks."""
    provider = FakeProvider(init_blocks=0, max_blocks=2)
    provider.gate = threading.Event()
    executor = start(provider)
    executor.queued = 100
    executor.manager.scale_out(1)
    executor.manager.scale_out(1)
    with pytest.raises(ScalingFailed):
        executor.manager.scale_out(1)
    provider.gate.set()
    executor.wait(lambda: len(provider.commands) == 2)
    looks = executor.looks
    executor.wait(lambda: executor.looks > looks + 5)
    assert len(provider.commands) == 2


def test_close_cancels_everything(start: Start) -> None:
    """After close no block is left, no thread, and no further block can be asked for."""
    provider = FakeProvider(init_blocks=3, max_blocks=3)
    executor = start(provider)
    executor.wait(lambda: len(provider.commands) == 3)
    assert executor.manager.close(time.monotonic() + DEADLINE) == []
    assert provider.cancelled == ["job-0", "job-1", "job-2"]
    assert "flowlib-blocks-fake" not in [t.name for t in threading.enumerate()]
    assert {s.state for s in executor.manager.status().values()} == {JobState.SCALED_IN}
    with pytest.raises(ScalingFailed):
        executor.manager.scale_out()
    assert executor.manager.close(time.monotonic()) == []
    executor.manager.poke()
    executor.manager.scale_in(["0"])


def test_close_without_start() -> None:
    """An executor that failed to start can be closed."""
    assert Executor(FakeProvider()).manager.close(time.monotonic()) == []


def test_close_does_not_wait_for_a_stuck_provider(start: Start) -> None:
    """A provider that hangs costs close no more than its deadline, which tells what is left; it is ended later."""
    provider = FakeProvider(init_blocks=2, max_blocks=2)
    executor = start(provider)
    executor.wait(lambda: len(provider.commands) == 2)
    provider.gate = threading.Event()
    provider.jobs["job-0"] = JobStatus(JobState.RUNNING)
    executor.register("1")
    provider.jobs["job-1"] = JobStatus(JobState.FAILED)
    executor.queued = 10
    executor.wait(lambda: executor.changes("2") == ["submitting"])
    began = time.monotonic()
    assert executor.manager.close(began + 0.2) == ["0", "2"]
    assert time.monotonic() - began < 1
    provider.gate.set()
    executor.wait(lambda: provider.cancelled == ["job-0", "job-2"])


def test_script_dir_is_lent(start: Start, tmp_path: Path) -> None:
    """A provider without a script directory has the run's one for the time of the run; one with its own keeps that."""
    provider = FakeProvider()
    executor = Executor(provider)
    executor.manager._script_dir = str(tmp_path / "submit_scripts")
    executor.manager.start()
    assert provider.script_dir == str(tmp_path / "submit_scripts")
    assert (tmp_path / "submit_scripts").is_dir()
    executor.manager.close(time.monotonic() + DEADLINE)
    assert provider.script_dir is None


# -------------------------------------------------------------------------------------------------- failures


def test_failed_block_ends_the_executor(start: Start, tmp_path: Path) -> None:
    """A block that comes to nothing is reported with everything that helps to find out why."""
    (tmp_path / "err").write_text("first line\nmodule: command not found\n")
    provider = FakeProvider()
    executor = start(provider)
    executor.queued = 1
    executor.wait(lambda: provider.jobs)
    provider.jobs["job-0"] = JobStatus(
        *(JobState.FAILED, "its last command failed", 127, None, str(tmp_path / "err"), "/somewhere/job.sh")
    )
    executor.wait(lambda: executor.bad)
    assert isinstance(executor.bad, TooManyJobFailuresError)
    text = str(executor.bad)
    for part in ("executor fake", "job job-0", "EXIT CODE: 127", "/somewhere/job.sh", "module: command not found"):
        assert part in text
    assert executor.changes("0")[-1] == "failed"
    looks = executor.looks
    executor.wait(lambda: executor.looks > looks + 5)
    assert len(provider.commands) == 1


def test_completed_without_a_manager_is_missing(start: Start) -> None:
    """A job that succeeded without a manager is shown as missing, and fails the executor, too."""
    provider = FakeProvider()
    executor = start(provider)
    executor.wait(lambda: provider.jobs)
    provider.jobs["job-0"] = JobStatus(JobState.COMPLETED, exit_code=0)
    executor.wait(lambda: executor.bad)
    assert executor.manager.status()["0"].state is JobState.MISSING
    assert "MISSING" in str(executor.bad) or "COMPLETED" in str(executor.bad)


@pytest.mark.parametrize(
    "error", [ConfigurationError("no such partition"), ValueError("a bug in a provider"), KeyboardInterrupt()]
)
def test_submit_that_can_never_work(start: Start, error: BaseException) -> None:
    """A provider that refuses for good ends the executor at once, with its error in the text, and at hand."""
    provider = FakeProvider()
    provider.refuse = error
    executor = start(provider)
    executor.wait(lambda: executor.bad)
    assert executor.bad is not None
    assert error in (executor.bad.__cause__, executor.bad.__context__)
    assert str(error) in str(executor.bad)


def test_submit_that_works_later(start: Start) -> None:
    """A refusal that may pass is tried again."""
    provider = FakeProvider()
    provider.refuse = SubmitException("job", "too many jobs in the queue")
    executor = start(provider)
    executor.wait(lambda: executor.changes("0") == ["submitting", "failed"])
    assert executor.ended == [("0", str(provider.refuse))]
    assert "too many jobs" in str(executor.manager.status()["0"].message)
    provider.refuse = None
    executor.queued = 1
    executor.wait(lambda: "submitted" in executor.changes("1"))
    assert executor.bad is None


def test_launch_command_that_cannot_be_made(start: Start) -> None:
    """An error of the command line is the block's failure."""

    def no_command(block: str) -> str:
        raise ScriptPathError(f"block-{block}.json", "disk is full")

    executor = start(FakeProvider(), before=lambda e: setattr(e, "command", no_command))
    executor.wait(lambda: executor.ended)
    assert "block-0.json" in executor.ended[0][1]


@pytest.mark.parametrize("handler", [False, noop_error_handler])
def test_handlers_that_never_give_up(start: Start, handler: Any) -> None:
    """Without a handler failing blocks are replaced, slower and slower."""
    provider = FakeProvider()
    executor = start(provider, handler)
    executor.queued = 1
    for block in ("0", "1"):
        executor.wait(lambda block=block: f"job-{block}" in provider.jobs)  # type: ignore[misc]
        provider.jobs[f"job-{block}"] = JobStatus(JobState.FAILED)
    executor.wait(lambda: len(executor.ended) == 2)
    assert executor.bad is None


@pytest.mark.parametrize("handler", [simple_error_handler, partial(windowed_error_handler, threshold=2)])
def test_handlers_that_give_up(start: Start, handler: Any) -> None:
    """The ready-made handlers get the executor and all blocks' status, and give up with the failures' story."""
    provider = FakeProvider(init_blocks=2, max_blocks=2)
    executor = start(provider, handler)
    executor.wait(lambda: len(provider.jobs) == 2)
    provider.jobs = dict.fromkeys(provider.jobs, JobStatus(JobState.FAILED, "no luck", 9))
    executor.wait(lambda: executor.bad)
    assert "blocks 0, 1: FAILED, EXIT CODE: 9: no luck" in str(executor.bad)


def test_handler_that_fails(start: Start) -> None:
    """An error in the user's handler breaks the executor, visibly, and not the thread."""

    def handler(executor: Any, status: dict[str, JobStatus]) -> None:
        raise LookupError("my own mistake")

    executor = start(FakeProvider(), handler)
    executor.wait(lambda: executor.bad)
    assert "block_error_handler raised LookupError: my own mistake" in str(executor.bad)


def test_thread_that_fails(start: Start) -> None:
    """If the thread itself fails, the executor hears of it, and the blocks are ended."""
    provider = FakeProvider()
    executor = start(provider)
    executor.wait(lambda: "submitted" in executor.changes("0"))
    executor.load = None  # type: ignore[assignment,method-assign]
    executor.manager._load = lambda: 1 / 0  # type: ignore[assignment,return-value]
    executor.wait(lambda: executor.bad)
    assert isinstance(executor.bad, InternalConsistencyError)
    executor.wait(lambda: provider.cancelled)


def test_halt(start: Start) -> None:
    """A halted manager starts nothing more, and keeps what is there."""
    provider = FakeProvider(max_blocks=5)
    executor = start(provider)
    executor.wait(lambda: "submitted" in executor.changes("0"))
    executor.manager.halt()
    executor.queued = 100
    looks = executor.looks
    executor.wait(lambda: executor.looks > looks + 5)
    assert (len(provider.commands), provider.cancelled) == (1, [])


def test_memory_of_ended_blocks_is_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest ended blocks are kept."""
    monkeypatch.setattr("flowlib.executors.blocks.KEEP_ENDED", 3)
    provider = FakeProvider(init_blocks=0, max_blocks=1)
    executor = start(provider, strategy="none")
    for i in range(8):
        (block,) = executor.manager.scale_out()
        executor.wait(lambda i=i: f"job-{i}" in provider.jobs)  # type: ignore[misc]
        executor.manager.scale_in([block])
        executor.wait(lambda i=i: len(executor.ended) == i + 1)  # type: ignore[misc]
        executor.wait(lambda: not executor.manager._scaler.blocks)
    assert 3 <= len(executor.manager.status()) <= 4
    assert len(executor.manager.jobs()) <= 4
