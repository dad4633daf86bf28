"""Large objects and dying processes: nothing hangs, nothing is left in memory or on disk, errors name what is gone."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
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
from flowlib.errors import FlowlibError, ObjectLost, WorkerLost
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider
from flowlib.store.home import HOME

from .processes import find

np = pytest.importorskip("numpy")

THRESHOLD = 5
DEADLINE = 30.0
MB = 1 << 20

Loader = Callable[..., AbstractContextManager[flowlib.DataFlowKernel]]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loader]:
    """Loads a kernel with short heartbeats; with ``pieces`` nothing can be opened, so that everything is sent."""

    @contextmanager
    def load(
        blocks: int = 1, workers: int = 2, way: str = "short", pieces: bool = False, **config: Any
    ) -> Iterator[flowlib.DataFlowKernel]:
        executor = HighThroughputExecutor(
            label="fragile",
            address="127.0.0.1",
            max_workers_per_node=workers,
            heartbeat_period=1,
            heartbeat_threshold=THRESHOLD,
            provider=LocalProvider(init_blocks=blocks, min_blocks=blocks, max_blocks=blocks),
        )
        executor.short_way = way == "short"
        if pieces:
            monkeypatch.setattr(HOME, "host", "elsewhere")
        with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runinfo"), **config)) as dfk:
            yield dfk

    yield load
    gc.collect()
    assert not len(HOME)


@python_app
def make(size: int, value: float = 1.0) -> Any:
    """An array."""
    import numpy as np

    return np.full(size, value)


@python_app
def total(*arrays: Any) -> float:
    """The sum of arrays."""
    return float(sum(array.sum() for array in arrays))


@python_app
def slow(path: str, array: Any) -> float:
    """Says that it runs, then waits for the word to go on."""
    import os
    import threading
    import time

    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"x")
    os.close(fd)
    end = time.monotonic() + 60
    ticker = threading.Event()
    while not os.path.exists(path + ".go") and time.monotonic() < end:
        ticker.wait(0.01)
    return float(array.sum())


@python_app
def fall(array: Any) -> None:
    """Dies while it has the array mapped and written to."""
    import os

    array[:] = 3
    os._exit(7)


def until(condition: Callable[[], object], what: str, patience: float = DEADLINE) -> None:
    """Returns when something is true."""
    deadline, ticker = time.monotonic() + patience, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        ticker.wait(0.01)


def holders(pids: list[int] | None = None) -> dict[int, int]:
    """For each process that has stored objects open: how many."""
    found: dict[int, int] = {}
    for pid in pids if pids is not None else psutil.pids():
        try:
            names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        count = sum("flowlib-object-" in name for name in names)
        if count:
            found[pid] = count
    return found


# -------------------------------------------------------------------------------------------------- who has the only one


def test_the_only_node_with_a_result_dies(loaded: Loader) -> None:
    """Asking for a result that died with its node, or a task that needs it, fails soon with who made it and where."""
    with loaded(lost_retries=0):
        made = make(MB)
        assert made.exception is not None
        until(made.done, "no result")
        (manager,) = find("manager")
        manager.kill()
        began = time.monotonic()
        with pytest.raises(ObjectLost, match=r"task 0 .* was kept on host .* is lost.*lost_retries is 0"):
            made.result()
        error = total(made).exception(DEADLINE)
        assert "is lost" in str(error) and isinstance(error, FlowlibError)
        assert time.monotonic() - began < THRESHOLD + 5
        assert total(flowlib.put(np.ones(MB))).result(DEADLINE) == MB


def test_a_result_that_was_fetched_survives_its_node(loaded: Loader) -> None:
    """What the script has seen it keeps, and tasks on other nodes get it from there."""
    with loaded(pieces=True):
        made = make(MB, 2.0)
        value = made.result(DEADLINE)
        (manager,) = find("manager")
        manager.kill()
        assert made.result() is value
        assert total(made, made).result(DEADLINE) == 4.0 * MB


@pytest.mark.parametrize("pieces", [False, True])
def test_arguments_survive_any_node(loaded: Loader, tmp_path: Path, pieces: bool) -> None:
    """A node dies with tasks that use what was put: they run again elsewhere, on what is sent once more."""
    path = tmp_path / "running"
    with loaded(blocks=2, workers=1, pieces=pieces):
        ref = flowlib.put(np.ones(2 * MB))
        futures = [slow(str(path), ref) for _ in range(4)]
        until(lambda: path.exists() and path.stat().st_size == 2, "two run")
        find("manager")[0].kill()
        Path(f"{path}.go").touch()
        assert [f.result(DEADLINE) for f in futures] == [2.0 * MB] * 4


# ---------------------------------------------------------------------------------------------------- on the way


@pytest.mark.parametrize("way", ["short", "zmq"])
def test_the_interchange_dies_while_objects_move(loaded: Loader, way: str) -> None:
    """With arguments, results and chains on their way nothing is lost, nothing hangs, and nothing is computed wrongly."""
    with loaded(way=way, pieces=True):
        assert total(np.ones(10)).result(DEADLINE) == 10
        refs = [flowlib.put(np.full(3 * MB, float(n))) for n in range(4)]
        made = [make(2 * MB, float(n)) for n in range(4)]
        ends = [total(refs[n % 4], made[n // 4]) for n in range(16)]
        until(made[0].done, "nothing has begun")
        find("interchange")[0].kill()
        assert [f.result(DEADLINE) for f in ends] == [3.0 * MB * (n % 4) + 2.0 * MB * (n // 4) for n in range(16)]
        find("interchange")[0].kill()
        assert [float(f.result(DEADLINE)[-1]) for f in made] == [0.0, 1.0, 2.0, 3.0]
        del refs, made, ends
        gc.collect()
        manager = find("manager")[0].pid
        until(lambda: not holders([manager]), "the manager keeps what nobody refers to")


def test_frees_that_died_with_an_interchange(loaded: Loader) -> None:
    """What was freed while nobody listened is freed when the manager is back."""
    with loaded(pieces=True):
        made = [make(MB) for _ in range(3)]
        flowlib.wait_for_current_tasks()
        manager, interchange = find("manager")[0], find("interchange")[0]
        assert holders([manager.pid]) == {manager.pid: 3}
        manager.suspend()
        try:
            made.clear()
            gc.collect()
            interchange.kill()
            until(lambda: find("interchange")[:1] not in ([], [interchange]), "no other interchange")
        finally:
            manager.resume()
        until(lambda: not holders([manager.pid]), "the manager keeps what nobody refers to")


def test_freed_while_a_task_uses_it(loaded: Loader, tmp_path: Path) -> None:
    """A script that drops its reference takes nothing from the tasks that were given it."""
    path = tmp_path / "running"
    with loaded(workers=1):
        futures = [slow(str(path), flowlib.put(np.full(MB, float(n)))) for n in range(3)]
        until(path.exists, "none runs")
        gc.collect()
        Path(f"{path}.go").touch()
        assert [f.result(DEADLINE) for f in futures] == [0.0, 1.0 * MB, 2.0 * MB]


def test_a_worker_dies_with_an_object_mapped(loaded: Loader) -> None:
    """Its task fails; those beside and behind it find the object as it was."""
    with loaded():
        ref = flowlib.put(np.ones(MB))
        futures = [fall(ref) if n % 5 == 0 else total(ref) for n in range(20)]
        for n, future in enumerate(futures):
            if n % 5 == 0:
                assert isinstance(future.exception(DEADLINE), WorkerLost)
            else:
                assert future.result(DEADLINE) == MB


def test_a_worker_dies_while_it_stores_its_result(loaded: Loader) -> None:
    """The memory that was reserved for its result is given back."""

    @python_app
    def vanish() -> Any:
        import os

        class Last:
            def __reduce__(self) -> Any:
                os._exit(3)

        return [bytes(2 * MB), Last()]

    with loaded():
        assert isinstance(vanish().exception(DEADLINE), WorkerLost)
        assert holders([find("manager")[0].pid]) == {}


def test_nobody_waits_for_a_large_result(loaded: Loader, tmp_path: Path) -> None:
    """The result of a task that was cancelled while it ran is not kept anywhere."""
    path = tmp_path / "running"

    @python_app
    def late(path: str) -> Any:
        import os
        import threading
        import time

        open(path, "w").close()
        end, ticker = time.monotonic() + 60, threading.Event()
        while os.path.exists(path) and time.monotonic() < end:
            ticker.wait(0.01)
        return bytes(2 * MB)

    with loaded():
        future = late(str(path))
        until(path.exists, "it does not run")
        assert future.cancel(running=True, grace=0)
        path.unlink()
        until(future.done, "it does not end")
        assert total(np.ones(3)).result(DEADLINE) == 3
        assert holders([find("manager")[0].pid]) == {}


# ------------------------------------------------------------------------------------------------ nothing is left


SCRIPT = """
    import os, sys, time
    import numpy as np
    import flowlib
    from flowlib.config import Config
    from flowlib.executors import HighThroughputExecutor
    from flowlib.providers import LocalProvider

    @flowlib.python_app
    def make(n):
        import numpy as np
        return np.full(n, 1.0)

    @flowlib.python_app
    def hold(array, other):
        import threading
        array[:] = 2
        threading.Event().wait(60)

    if __name__ == "__main__":
        executor = HighThroughputExecutor(
            label="x", address="127.0.0.1", max_workers_per_node=2, object_memory="5MB", object_directory=sys.argv[1],
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        flowlib.load(Config(executors=[executor], run_dir=sys.argv[2]))
        refs = [flowlib.put(np.ones(400_000)) for _ in range(4)]
        made = [make(400_000) for _ in range(4)]
        for future in made:
            future.exception  # not fetched
        running = [hold(refs[0], made[0])]
        while not all(f.done() for f in made):
            time.sleep(0.01)
        print("ready", flush=True)
        sys.stdin.read()
"""


def shared_memory() -> set[str]:
    """What is in shared memory, but for the semaphores that other programs of this machine have there."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")}


@pytest.mark.parametrize("victim", ["driver", "interchange", "manager", "template", "all"])
def test_nothing_is_left_after_a_kill(tmp_path: Path, victim: str) -> None:
    """Whoever is killed with objects in memory and on disk: soon no process holds any, and no file was ever there."""
    spill = tmp_path / "spill"
    spill.mkdir()
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    shared = shared_memory()
    driver = subprocess.Popen(
        [sys.executable, str(script), str(spill), str(tmp_path / "runinfo")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    try:
        assert driver.stdout is not None and driver.stdin is not None
        assert driver.stdout.readline() == b"ready\n"
        assert not os.listdir(spill) and shared_memory() <= shared
        family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        assert holders([p.pid for p in family])
        for process in family[::-1] if victim == "all" else [_member(family, victim)]:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        driver.stdin.close()
        driver.wait(DEADLINE)
    finally:
        driver.kill()
        driver.wait(10)
        for stream in (driver.stdin, driver.stdout):
            if stream is not None:
                stream.close()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    assert not os.listdir(spill) and shared_memory() <= shared


def _member(family: list[psutil.Process], kind: str) -> psutil.Process:
    if kind == "driver":
        return family[0]
    return next(p for p in family[1:] if f"flowlib.executors.high_throughput.{kind}" in p.cmdline())
