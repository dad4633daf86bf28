"""Every task ends: also when what decides about it breaks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

import flowlib
from flowlib.dataflow.memoization import BasicMemoizer
from flowlib.dataflow.states import States
from flowlib.errors import DependencyError, InternalConsistencyError
from flowlib.executors import ThreadPoolExecutor


def test_interrupted_launch_leaves_no_task(load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupt reaches the caller, and no task stays for which the run would wait for ever."""
    executor = ThreadPoolExecutor()
    kernel = load(executor)

    def launch(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(executor, "launch", launch)
        with pytest.raises(KeyboardInterrupt):
            kernel.submit(abs, (-1,))
    assert not kernel.tasks
    assert kernel.task_state_counts[States.failed] == 1
    assert kernel.submit(abs, (-2,)).result(10) == 2


class Unwatchable(Future[int]):
    """A future from elsewhere that takes no callbacks."""

    def add_done_callback(self, fn: Any) -> None:
        raise OSError("the other side is gone")


class Unaskable(Future[int]):
    """A future from elsewhere that is done, and breaks when it is asked how."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        raise OSError("the outcome is gone")


@flowlib.python_app
def first(x: Any) -> Any:
    """Its argument."""
    return x


@flowlib.join_app
def joining(x: Any) -> Any:
    """Joins what it is given."""
    return x


def test_future_that_cannot_be_watched(load: Callable[..., Any]) -> None:
    """Its task fails with what it raised, as does a join that returned it."""
    kernel = load(ThreadPoolExecutor())
    with pytest.raises(OSError, match="the other side is gone"):
        first(Unwatchable()).result(10)
    with pytest.raises(OSError, match="the other side is gone"):
        joining([Unwatchable()]).result(10)
    assert not kernel.tasks


def test_future_that_cannot_be_asked(load: Callable[..., Any]) -> None:
    """What asking raises is the dependency's error."""
    kernel = load(ThreadPoolExecutor())
    broken = Unaskable()
    task = first(broken)
    broken.set_result(1)
    with pytest.raises(DependencyError, match="the outcome is gone"):
        task.result(10)
    assert not kernel.tasks


def test_retry_handler_that_ends_the_process(load: Callable[..., Any]) -> None:
    """``sys.exit`` in a retry handler fails the task, and says so."""

    def handler(error: BaseException, record: Any) -> float:
        sys.exit(3)

    kernel = load(ThreadPoolExecutor(), retries=2, retry_handler=handler)
    task = kernel.submit(divmod, (1, 0))
    with pytest.raises(InternalConsistencyError, match=r"decides about task 0 \(divmod\) raised SystemExit: 3"):
        task.result(10)
    assert kernel.submit(abs, (-2,)).result(10) == 2


def test_memoizer_that_ends_the_process(load: Callable[..., Any]) -> None:
    """Neither does a memoizer keep a task from ending."""

    class Exiting(BasicMemoizer):
        def update_memo_result(self, task: Any, result: Any) -> None:
            raise SystemExit(4)

    kernel = load(ThreadPoolExecutor(), memoizer=Exiting())
    task = kernel.submit(abs, (-1,), cache=True)
    with pytest.raises(InternalConsistencyError, match="SystemExit: 4"):
        task.result(10)
    assert not kernel.tasks
