"""Large results that are lost with the only node that had them: they are made again, or the error says why not."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import ObjectLost
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider
from flowlib.store.home import HOME

from .processes import find

np = pytest.importorskip("numpy")

DEADLINE = 40.0
SIZE = 1 << 18
"""Numbers in an array: 2 MB."""

Loader = Callable[..., AbstractContextManager[flowlib.DataFlowKernel]]


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Loader]:
    """Loads a kernel with two nodes of one worker each, in blocks that are replaced."""

    @contextmanager
    def load(**config: Any) -> Iterator[flowlib.DataFlowKernel]:
        executor = HighThroughputExecutor(
            label="fragile",
            address="127.0.0.1",
            max_workers_per_node=1,
            heartbeat_period=1,
            heartbeat_threshold=5,
            provider=LocalProvider(init_blocks=2, min_blocks=2, max_blocks=2),
        )
        with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runinfo"), **config)) as dfk:
            yield dfk

    yield load
    gc.collect()
    assert not len(HOME), "objects are left in the table"


@python_app
def make(log: str, value: float, *before: Any) -> Any:
    """Writes down that it runs; an array of the value and of what was before."""
    import os

    import numpy as np

    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{value:g}\n".encode())
    os.close(fd)
    return np.full(1 << 18, value + sum(float(array[0]) for array in before))


@python_app
def first(array: Any) -> float:
    """The first number of an array."""
    return float(array[0])


def until(condition: Callable[[], object], what: str) -> None:
    """Returns when something is true."""
    deadline, ticker = time.monotonic() + DEADLINE, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        ticker.wait(0.01)


def kill_holders() -> None:
    """Kill every manager that has an object, and see that the driver has heard of it."""
    killed = [manager for manager in find("manager") if _holds(manager)]
    assert killed, "no manager has an object"
    for manager in killed:
        manager.kill()
    until(lambda: all(e.lost for e in HOME._entries.values() if e.holder is not None), "nobody has noticed")


def _holds(manager: psutil.Process) -> bool:
    folder = f"/proc/{manager.pid}/fd"
    return any("flowlib-object-" in os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder))


def runs(log: Path) -> dict[str, int]:
    """How often each task ran."""
    lines = log.read_text().split()
    return {line: lines.count(line) for line in lines}


def test_what_is_lost_is_made_again(loaded: Loader, tmp_path: Path) -> None:
    """The script and other tasks get values though the only nodes that had them are gone; each task ran twice."""
    log = tmp_path / "log"
    with loaded():
        made = [make(str(log), float(n)) for n in range(3)]
        for one in made:
            until(one.done, "no result")
        kill_holders()
        users = [first(made[n]) for n in (0, 0, 1)]
        assert made[1].result()[-1] == 1.0
        assert made[2].result()[-1] == 2.0
        assert [user.result(DEADLINE) for user in users] == [0.0, 0.0, 1.0]
        assert runs(log) == {"0": 2, "1": 2, "2": 2}
        del made, users, one


def test_tasks_that_were_under_way(loaded: Loader, tmp_path: Path) -> None:
    """Tasks that were given out when the node died, before anybody had noticed, go on as well."""
    log = tmp_path / "log"
    with loaded():
        made = make(str(log), 1.0)
        until(made.done, "no result")
        (holder,) = [manager for manager in find("manager") if _holds(manager)]
        holder.suspend()
        users = [first(made) for _ in range(4)]
        later = first(make(str(log), 10.0, made))
        holder.kill()
        assert [user.result(DEADLINE) for user in users] == [1.0] * 4
        assert later.result(DEADLINE) == 11.0
        assert runs(log)["1"] == 2 and runs(log)["10"] <= 2
        del made, users, later


def test_a_chain_is_made_again_from_its_beginning(loaded: Loader, tmp_path: Path) -> None:
    """What it was made from has been dropped by the script, and is made again as well: each task once."""
    log = tmp_path / "log"
    with loaded():
        one = make(str(log), 1.0)
        two = make(str(log), 10.0, one)
        end = make(str(log), 100.0, two, one)
        until(end.done, "no result")
        del one, two
        # What is kept of them for the case of a loss is not their values.
        until(lambda: gc.collect() >= 0 and len(HOME) == 1, "values that nobody refers to are kept")
        kill_holders()
        assert first(end).result(DEADLINE) == 112.0
        assert end.result()[0] == 112.0
        assert runs(log) == {"1": 2, "10": 2, "100": 2}
        del end


def test_the_budget_is_that_of_the_infrastructure(loaded: Loader, tmp_path: Path) -> None:
    """A task is run again as often as ``lost_retries`` says; then the error names task, host and budget."""
    log = tmp_path / "log"
    with loaded(lost_retries=1):
        made = make(str(log), 5.0)
        until(made.done, "no result")
        kill_holders()
        user = first(made)
        assert user.result(DEADLINE) == 5.0
        kill_holders()
        with pytest.raises(
            ObjectLost, match=r"result of task 0 .*host .*is lost: .*run again 1 times.*lost_retries is 1"
        ):
            made.result()
        refused = first(made).exception(DEADLINE)
        assert isinstance(refused, ObjectLost) and "lost_retries is 1" in str(refused)
        assert runs(log) == {"5": 2}
        del made, user


def test_the_second_run_fails(loaded: Loader, tmp_path: Path) -> None:
    """Its failure is told with the loss, to the script and to tasks that need the value."""

    @python_app
    def once(mark: str) -> Any:
        import os

        import numpy as np

        os.mkdir(mark)
        return np.ones(1 << 18)

    with loaded():
        made = once(str(tmp_path / "mark"))
        until(made.done, "no result")
        kill_holders()
        error = first(made).exception(DEADLINE)
        assert isinstance(error, ObjectLost) and "ran again as task" in str(error) and "FileExistsError" in str(error)
        with pytest.raises(ObjectLost, match="FileExistsError"):
            made.result()
        del made


def test_the_second_run_comes_to_something_else(loaded: Loader, tmp_path: Path) -> None:
    """A value that is small this time, or a new one that was lost in turn, takes the place of the old one as well."""

    @python_app
    def shrinking(mark: str) -> Any:
        import os

        import numpy as np

        size = 3 if os.path.exists(mark) else 1 << 18
        open(mark, "w").close()
        return np.full(size, 7.0)

    @python_app
    def both(arrays: list[Any]) -> list[int]:
        return [len(array) for array in arrays]

    log = tmp_path / "log"
    with loaded():
        made = shrinking(str(tmp_path / "mark"))
        other = make(str(log), 1.0)
        for one in (made, other):
            until(one.done, "no result")
        kill_holders()
        assert both([made, other]).result(DEADLINE) == [3, SIZE]
        assert made.result().tolist() == [7.0] * 3
        kill_holders()
        assert both([made, other]).result(DEADLINE) == [3, SIZE]
        assert runs(log) == {"1": 3}
        del made, other, one


def test_large_arguments_are_not_kept_for_it(loaded: Loader) -> None:
    """A task with a large argument is not run again, and the error tells how to do better; with ``put`` it is."""

    @python_app
    def double(array: Any) -> Any:
        return array * 2

    with loaded():
        plain = double(np.ones(SIZE))
        until(plain.done, "no result")
        kill_holders()
        with pytest.raises(ObjectLost, match=r"arguments were too large to be kept; give large ones by flowlib.put"):
            plain.result()
        assert "too large to be kept" in str(first(plain).exception(DEADLINE))
        ref = flowlib.put(np.ones(SIZE))
        made = double(ref)
        until(made.done, "no result")
        kill_holders()
        assert first(made).result(DEADLINE) == 2.0
        gone = double(flowlib.put(np.ones(SIZE)))
        until(gone.done, "no result")
        gc.collect()
        kill_holders()
        with pytest.raises(ObjectLost, match=r"cannot run again without object .* which is gone"):
            gone.result()
        del plain, made, gone, ref


def test_after_the_run_nothing_is_made_again(loaded: Loader, tmp_path: Path) -> None:
    """A value that is asked for when the run is over, and was lost before, is an error at once."""
    log = tmp_path / "log"
    with loaded():
        made = make(str(log), 1.0)
        until(made.done, "no result")
        kill_holders()
    with pytest.raises(ObjectLost, match=r"is lost: .*; the run is over"):
        made.result()
    assert runs(log) == {"1": 1}
    del made
