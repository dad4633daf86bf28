"""The end of a run tells of failures that nobody looked at, and only of those."""

# Tasks here are started so that they fail.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from flowlib.data_provider.files import File
from flowlib.dataflow.futures import AppFuture
from flowlib.dataflow.kernel import DataFlowKernel, Function
from flowlib.executors import HighThroughputExecutor
from flowlib.options import TaskOptions
from tests.kernel.conftest import MakeKernel

DEADLINE = 20


def fail(text: Any = "no such year") -> Any:
    """Raises."""
    raise ValueError(text)


def echo(x: Any) -> Any:
    """Its argument."""
    return x


def told(kernel: DataFlowKernel, capsys: pytest.CaptureFixture[str]) -> str:
    """What the end of the run says."""
    kernel.wait_for_current_tasks()
    kernel.cleanup()
    return capsys.readouterr().err


def test_told_once(kernel: DataFlowKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that failed by themselves are counted, in one line with an example and where to read more."""
    for _ in range(3):
        kernel.submit(echo, [kernel.submit(fail, ["bad\nyear"])])
    text = told(kernel, capsys)
    assert text.startswith("flowlib: 3 tasks failed and nobody looked at them, such as task 0 (fail): ValueError: bad")
    assert text.count("\n") == 1
    assert f"see: flowlib events {kernel.run_dir} --failed" in text


def by_result(future: AppFuture[Any]) -> None:
    """Ask for the value."""
    with pytest.raises(ValueError, match="year"):
        future.result()


def by_await(future: AppFuture[Any]) -> None:
    """Await it."""

    async def main() -> None:
        with pytest.raises(ValueError, match="year"):
            await future

    asyncio.run(main())


def by_callback(future: AppFuture[Any]) -> None:
    """Ask in a callback."""
    asked = threading.Event()
    future.add_done_callback(lambda f: (f.exception(), asked.set()))
    assert asked.wait(DEADLINE)


LOOKS: dict[str, Callable[[AppFuture[Any]], object]] = {
    "result": by_result,
    "exception": lambda future: future.exception(),
    "await": by_await,
    "callback": by_callback,
    "status": lambda future: concurrent.futures.wait([future], DEADLINE) and future.task_status(),
    "part": lambda future: future["x"].exception(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_looked_at(kernel: DataFlowKernel, capsys: pytest.CaptureFixture[str], look: Callable[..., object]) -> None:
    """However the failure is learned from the future, it is not told again."""
    look(kernel.submit(fail, []))
    assert told(kernel, capsys) == ""


def test_looked_at_through_others(kernel: DataFlowKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Looking at what depends on a failure, far behind it, at a join or at an output file, is looking at the failure."""
    chain = kernel.submit(fail, [])
    for _ in range(5):
        chain = kernel.submit(echo, [[chain]])
    assert chain.exception() is not None
    joined = kernel.submit(lambda: [kernel.submit(fail, []), kernel.submit(echo, [1])], [], join=True)
    assert joined.exception() is not None
    made = kernel.submit(fail, [], app_kwargs={"outputs": [File("/nowhere/file")]})
    assert made.outputs[0].exception() is not None
    assert told(kernel, capsys) == ""


def test_not_failures(kernel: DataFlowKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Successes, cancelled tasks and what depends on these are nothing to tell."""
    gate: concurrent.futures.Future[int] = concurrent.futures.Future()
    waiting = kernel.submit(echo, [gate])
    kernel.submit(echo, [waiting])
    kernel.submit(echo, [1])
    assert waiting.cancel()
    assert told(kernel, capsys) == ""


def test_retried(make_kernel: MakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that failed at first and then did well is nothing to tell."""
    kernel = make_kernel(retries=1)
    tries = iter([ValueError, None])

    def second_time_lucky() -> None:
        error = next(tries)
        if error is not None:
            raise error

    kernel.submit(second_time_lucky, [])
    assert told(kernel, capsys) == ""


def test_keeps_nothing_alive(make_kernel: MakeKernel) -> None:
    """An exception goes with its future, though nobody looked at it."""
    kernel = make_kernel()
    seen: list[weakref.ref[BaseException]] = []

    class Own(Exception):
        def __init__(self) -> None:
            super().__init__()
            seen.append(weakref.ref(self))

    def own() -> None:
        raise Own

    future = kernel.submit(own, [])
    concurrent.futures.wait([future], DEADLINE)
    del future
    gone = threading.Event()
    weakref.finalize(seen[0](), gone.set) if seen[0]() is not None else gone.set()
    gc.collect()
    assert gone.wait(DEADLINE)
    assert kernel.engine.unseen.report().endswith("task 0 (own): Own:")


def test_remote(make_kernel: MakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """The failure of a worker process is told without its exception being rebuilt."""

    class Own(Exception):
        pass

    def remote() -> None:
        raise Own("over there")

    kernel = make_kernel(executors=[HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=1)])
    kernel.submit(remote, [])
    kernel.wait_for_current_tasks()
    future = kernel.submit_app(Function(fail), TaskOptions(), (), {})
    assert isinstance(future.exception(DEADLINE), ValueError)
    text = told(kernel, capsys)
    assert text.startswith("flowlib: 1 task failed and nobody looked at it: task 0 (remote): ")
    assert "Own: over there; see: flowlib events" in text


def test_who_cancelled(make_kernel: MakeKernel) -> None:
    """A CancelledError names the task and who cancelled it."""
    kernel = make_kernel()
    gate: concurrent.futures.Future[int] = concurrent.futures.Future()
    waiting, other, left = (kernel.submit(echo, [gate]) for _ in range(3))
    assert waiting.cancel()
    with pytest.raises(
        concurrent.futures.CancelledError, match=r"task 0 \(echo\) was cancelled by cancel\(\) at test_"
    ):
        waiting.result()
    behind = kernel.submit(echo, [waiting])
    error = behind.exception(DEADLINE)
    assert "task 0 (echo) was cancelled by" in repr(error)
    assert repr(error).startswith("DependencyError(")
    assert kernel.cancel_all() == 2
    with pytest.raises(concurrent.futures.CancelledError, match=r"by cancel_all\(\)"):
        other.exception()
    last = kernel.submit(echo, [concurrent.futures.Future()])
    kernel.cleanup()
    with pytest.raises(concurrent.futures.CancelledError, match="because the run ended"):
        last.result()
    assert left.cancelled()
