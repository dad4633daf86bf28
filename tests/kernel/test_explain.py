"""``future.explain()`` on the executors of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from flowlib.dataflow.kernel import DataFlowKernel, Function
from flowlib.errors import FlowlibError
from flowlib.executors import InlineExecutor, ThreadPoolExecutor
from flowlib.explain import Explanation, Reason
from flowlib.options import TaskOptions
from tests.kernel.conftest import MakeKernel

DEADLINE = 20.0


class Gate:
    """A task that runs until it is let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.open = threading.Event()

    def __call__(self, *inputs: Any) -> int:
        self.began.set()
        assert self.open.wait(DEADLINE)
        return 1


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the end, whatever happened."""
    made = Gate()
    yield made
    made.open.set()


def nothing(*inputs: Any) -> int:
    """A task."""
    return 0


def tiled(told: Explanation) -> None:
    """The intervals are a whole life."""
    at = told.intervals[0].since
    for interval in told.intervals:
        assert interval.since == at
        at = told.now if interval.until is None else interval.until
    assert at == pytest.approx(told.now)
    assert sum(told.seconds.values()) == pytest.approx(told.total)


def test_waiting_for_an_input(make_kernel: MakeKernel, gate: Gate) -> None:
    """A task tells how many of its inputs are done, and which task holds it up in the end."""
    kernel = make_kernel()
    held, ready = kernel.submit(gate, ()), kernel.submit(nothing, ())
    between = kernel.submit(nothing, (held,))
    last = kernel.submit(nothing, (between, ready, 3))
    ready.result(DEADLINE)
    assert gate.began.wait(DEADLINE)
    told = last.explain()
    assert (told.reason, told.live, told.done) == (Reason.DEPENDENCY, True, False)
    detail = told.intervals[-1].detail
    assert (detail["done"], detail["inputs"], detail["waiting_for"]) == (1, 2, [between.tid])
    assert [(root["task"], root["reason"]) for root in detail["roots"]] == [(held.tid, "running")]
    assert f"1 of 2 inputs are done; task {held.tid} (Gate) has been running for" in str(told)
    tiled(told)


def test_no_free_thread(make_kernel: MakeKernel, gate: Gate) -> None:
    """Who waits for a thread is told its place, and who has it that it runs, since when."""
    kernel = make_kernel(executors=[ThreadPoolExecutor("one", max_threads=1)])
    running = kernel.submit(gate, ())
    assert gate.began.wait(DEADLINE)
    first, second = kernel.submit(nothing, ()), kernel.submit(nothing, ())
    told = running.explain()
    assert told.reason is Reason.RUNNING
    assert str(told).startswith(f"task {running.tid} (Gate) has been running for")
    for place, future in enumerate((first, second), 1):
        told = future.explain()
        assert told.reason is Reason.CAPACITY
        assert (told.intervals[-1].detail["position"], told.intervals[-1].detail["queue"]) == (place, 2)
        tiled(told)
    gate.open.set()
    second.result(DEADLINE)
    told = second.explain()
    assert told.reason is Reason.DONE
    assert told.seconds[Reason.CAPACITY] > 0
    assert told.seconds[Reason.RUNNING] > 0
    tiled(told)


def test_future_from_elsewhere(make_kernel: MakeKernel) -> None:
    """A future that is no task is a reason of its own."""
    kernel = make_kernel()
    other: Future[int] = Future()
    future = kernel.submit(nothing, (other,))
    assert future.explain().reason is Reason.EXTERNAL
    other.set_result(1)
    future.result(DEADLINE)
    assert Reason.EXTERNAL in future.explain().seconds


def test_join(make_kernel: MakeKernel, gate: Gate) -> None:
    """A join tells what its body returned and waits for."""
    kernel = make_kernel()
    inner: list[Any] = []

    def body() -> Any:
        inner.append(kernel.submit(gate, ()))
        return inner[0]

    joined = kernel.submit(body, (), join=True)
    assert gate.began.wait(DEADLINE)
    until(lambda: joined.explain().reason is Reason.JOIN)
    assert joined.explain().intervals[-1].detail["waiting_for"] == [inner[0].tid]
    gate.open.set()
    assert joined.result(DEADLINE) == 1
    assert Reason.JOIN in joined.explain().seconds


def test_retries(make_kernel: MakeKernel) -> None:
    """A task that was tried twice tells of both tries and of the error between them."""
    kernel = make_kernel(retries=1)
    calls: list[int] = []

    def once_bad() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("not yet")
        return 5

    future = kernel.submit(once_bad, ())
    assert future.result(DEADLINE) == 5
    told = future.explain()
    assert told.attempts == 2
    between = [interval for interval in told.intervals if interval.reason is Reason.BACKOFF]
    assert [interval.detail["error"] for interval in between] == ["ValueError: not yet"]
    tiled(told)


@pytest.mark.parametrize("executor", [InlineExecutor, ThreadPoolExecutor])
def test_where_the_time_went(make_kernel: MakeKernel, executor: Callable[[str], Any]) -> None:
    """A finished task's time is split into what it was spent on; running is most of it."""
    kernel = make_kernel(executors=[executor("main")])

    def work() -> None:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass

    future = kernel.submit(work, ())
    future.result(DEADLINE)
    told = future.explain()
    assert told.seconds[Reason.RUNNING] >= 0.045
    assert "ended with a value" in str(told)
    tiled(told)


def test_failed_and_cancelled(make_kernel: MakeKernel, gate: Gate) -> None:
    """Tasks that ended without a value say how."""
    kernel = make_kernel(executors=[ThreadPoolExecutor("one", max_threads=1)])
    failed = kernel.submit(divmod, (1, 0))
    dependent = kernel.submit(nothing, (failed,))
    assert isinstance(failed.exception(DEADLINE), ZeroDivisionError)
    assert dependent.exception(DEADLINE) is not None
    assert f"task {failed.tid} (divmod) failed after" in str(failed.explain())
    assert "was not run, because something that it needs failed" in str(dependent.explain())
    kernel.submit(gate, ())
    assert gate.began.wait(DEADLINE)
    waiting = kernel.submit(nothing, ())
    assert waiting.cancel()
    told = waiting.explain()
    assert "was cancelled" in str(told)
    assert Reason.CAPACITY in told.seconds


def test_after_the_run(make_kernel: MakeKernel) -> None:
    """A future explains itself when its run is long over, at once."""
    kernel = make_kernel()
    future = kernel.submit(nothing, ())
    future.result(DEADLINE)
    kernel.cleanup()
    began = time.monotonic()
    assert future.explain().reason is Reason.DONE
    assert time.monotonic() - began < 1.5


def test_without_events(make_kernel: MakeKernel, gate: Gate) -> None:
    """Without an event log the kernel's own knowledge is left: what it does now, and the whole time."""
    kernel = make_kernel(events=False)
    running = kernel.submit(gate, ())
    assert gate.began.wait(DEADLINE)
    child = kernel.submit(nothing, (running,))
    assert running.explain().reason is Reason.RUNNING
    told = child.explain()
    assert (told.reason, told.intervals[-1].detail["waiting_for"]) == (Reason.DEPENDENCY, [running.tid])
    gate.open.set()
    child.result(DEADLINE)
    told = child.explain()
    assert told.reason is Reason.DONE
    assert told.seconds[Reason.DEPENDENCY] > 0
    tiled(told)


def test_remembered(make_kernel: MakeKernel) -> None:
    """A value out of the memo table took no executor."""
    kernel = make_kernel()
    app, options = Function(nothing), TaskOptions(cache=True)
    kernel.submit_app(app, options, (), {}).result(DEADLINE)
    future = kernel.submit_app(app, options, (), {})
    future.result(DEADLINE)
    told = future.explain()
    assert "was remembered after" in str(told)
    assert set(told.seconds) == {Reason.PREPARING}


def test_part_of_a_value(make_kernel: MakeKernel, gate: Gate) -> None:
    """A part of a value is explained by its task."""
    kernel = make_kernel()
    future = kernel.submit(gate, ())
    assert gate.began.wait(DEADLINE)
    assert future[0].explain().task == future.tid


def until(condition: Callable[[], Any]) -> None:
    """Wait for something that nobody announces."""
    ticker, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        ticker.wait(0.01)


def test_executors_that_cannot_tell(make_kernel: MakeKernel, gate: Gate) -> None:
    """An executor written for ``submit`` alone has the task, and no more is known."""
    from concurrent.futures import ThreadPoolExecutor as Pool

    from flowlib.executors.base import FlowlibExecutor

    class Plain(FlowlibExecutor):
        label = "plain"

        def start(self) -> None:
            self.pool = Pool(1)

        def submit(self, func: Callable[..., Any], resource_specification: Any, *args: Any, **kwargs: Any) -> Any:
            return self.pool.submit(func, *args, **kwargs)

        def shutdown(self) -> None:
            self.pool.shutdown(wait=False)

    kernel: DataFlowKernel = make_kernel(executors=[Plain()])
    future = kernel.submit(gate, ())
    assert gate.began.wait(DEADLINE)
    told = future.explain()
    assert (told.reason, told.live) == (Reason.EXECUTOR, False)
    assert "executor 'plain' has it" in str(told)


def test_a_log_that_is_gone(make_kernel: MakeKernel) -> None:
    """A log that cannot be read is an error that names it."""
    import os

    kernel = make_kernel()
    future = kernel.submit(nothing, ())
    future.result(DEADLINE)
    os.rename(f"{kernel.run_dir}/events.log", f"{kernel.run_dir}/moved.log")
    with pytest.raises((OSError, FlowlibError), match="events.log"):
        future.explain()
