"""A call of an app that Ctrl-C interrupts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowlib.dataflow.states import States
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
