"""Nothing hangs: parts of a run are killed, stopped and continued at random points with a thousand tasks out."""

from __future__ import annotations

import collections
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import BadStateException, DependencyError, FlowlibError, LostError, WorkerLost
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider

from .processes import find
from .sampling import SEED, sample

TASKS = 1000
THRESHOLD = 5
DEADLINE = THRESHOLD + 5

Loader = Callable[..., AbstractContextManager[flowlib.DataFlowKernel]]


@python_app
def count(path: str, i: int, *_: int) -> int:
    """Leaves one line per execution."""
    import os
    import time

    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % i)
    os.close(fd)
    time.sleep(0.002)
    return i


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    """Loads a kernel with short heartbeats."""

    @contextmanager
    def load(
        blocks: int = 1, way: str = "short", restarts: int = 3, prefetch: int = 0, **config: Any
    ) -> Iterator[flowlib.DataFlowKernel]:
        executor = HighThroughputExecutor(
            label="fragile",
            address="127.0.0.1",
            max_workers_per_node=2,
            heartbeat_period=1,
            heartbeat_threshold=THRESHOLD,
            prefetch_capacity=prefetch,
            provider=LocalProvider(init_blocks=blocks, min_blocks=blocks, max_blocks=blocks),
        )
        executor.short_way = way == "short"
        executor.interchange_restarts = restarts
        with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runinfo"), **config)) as dfk:
            yield dfk

    return load


def _submit(tmp_path: Path) -> tuple[Path, list[Any]]:
    path = tmp_path / "executions"
    return path, [count(str(path), i) for i in range(TASKS)]


def _wait_for_lines(path: Path, lines: int) -> None:
    """Returns when the counter file has that many lines; it grows on every execution."""
    deadline = time.monotonic() + 30
    ticker = threading.Event()
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < deadline, "no progress"
        ticker.wait(0.005)


def _signal(kind: str, number: int, rng: random.Random) -> psutil.Process:
    processes = find(kind)
    assert processes, f"no {kind}"
    victim = rng.choice(processes)
    os.kill(victim.pid, number)
    return victim


POINTS = [
    (kind, how, way, point)
    for way in ("short", "zmq")
    for kind in ("worker", "manager", "template", "interchange")
    for how in ("KILL", "STOP")
    for point in range(5)
]


@pytest.mark.parametrize(("kind", "how", "way", "point"), sample(POINTS, 8), ids=lambda v: str(v))
def test_every_future_is_done(loaded: Loader, tmp_path: Path, kind: str, how: str, way: str, point: int) -> None:
    """Whatever is killed or stopped, each future ends in time, with its value or a typed error that says why."""
    rng = random.Random(f"{SEED}-{kind}-{how}-{way}-{point}")
    with loaded(blocks=2, way=way):
        path, futures = _submit(tmp_path)
        _wait_for_lines(path, rng.randrange(1, TASKS * 3 // 4))
        victim = _signal(kind, getattr(signal, f"SIG{how}"), rng)
        try:
            # Work that goes on elsewhere needs its own time beside the threshold.
            _, pending = wait(futures, timeout=DEADLINE + 20)
            assert not pending, f"{len(pending)} futures are not done"
        finally:
            if victim.is_running():
                victim.send_signal(signal.SIGCONT)
        errors = [f.exception() for f in futures]
        for i, (future, error) in enumerate(zip(futures, errors, strict=True)):
            if error is None:
                assert future.result() == i
            else:
                assert isinstance(error, FlowlibError), repr(error)
                assert isinstance(error, (LostError, BadStateException)), repr(error)
        lost = sum(e is not None for e in errors)
        if kind == "interchange":
            assert lost == 0, "another interchange takes over"
        elif kind == "worker":
            assert lost <= 1, "a worker loses at most the task that it ran"
        elif kind in ("manager", "template"):
            assert lost == 0, "the infrastructure budget pays for a manager"


def test_killed_workers_cost_one_retry_each(loaded: Loader, tmp_path: Path) -> None:
    """With retries, killed workers lose nothing, and hardly anything runs twice."""
    rng = random.Random(SEED)
    kills = 8
    with loaded(retries=kills):
        path, futures = _submit(tmp_path)
        for n in range(kills):
            _wait_for_lines(path, (n + 1) * TASKS // (kills + 2))
            _signal("worker", signal.SIGKILL, rng)
        assert [f.result(30) for f in futures] == list(range(TASKS))
        executions = collections.Counter(path.read_text().split())
        assert len(executions) == TASKS
        assert sum(executions.values()) <= TASKS + kills


def test_retries_off_worker_loss_is_named(loaded: Loader, tmp_path: Path) -> None:
    """Without retries the task on a killed worker fails with WorkerLost, and only that one."""
    with loaded():
        path, futures = _submit(tmp_path)
        _wait_for_lines(path, 50)
        _signal("worker", signal.SIGKILL, random.Random(SEED))
        wait(futures, timeout=30)
        errors = [e for f in futures if (e := f.exception(0)) is not None]
        assert [type(e) for e in errors] in ([WorkerLost], [])


def test_short_silence_is_forgiven(loaded: Loader, tmp_path: Path) -> None:
    """A manager that stops for less than the threshold and comes back has lost nothing."""
    with loaded():
        path, futures = _submit(tmp_path)
        _wait_for_lines(path, 50)
        victim = _signal("manager", signal.SIGSTOP, random.Random(SEED))
        threading.Event().wait(THRESHOLD / 2)
        victim.send_signal(signal.SIGCONT)
        assert [f.result(30) for f in futures] == list(range(TASKS))
        executions = collections.Counter(path.read_text().split())
        assert sum(executions.values()) == TASKS


def test_late_return_sets_nothing_twice(loaded: Loader, tmp_path: Path) -> None:
    """A manager that comes back after it was given up does no harm."""
    with loaded(blocks=2):
        path, futures = _submit(tmp_path)
        _wait_for_lines(path, 50)
        victim = _signal("manager", signal.SIGSTOP, random.Random(SEED))
        assert [f.result(DEADLINE + 30) for f in futures] == list(range(TASKS))
        victim.send_signal(signal.SIGCONT)
        more = [count(str(path), i) for i in range(100)]
        assert [f.result(30) for f in more] == list(range(100))


@pytest.mark.parametrize("way", ["short", "zmq"])
@pytest.mark.parametrize("how", ["KILL", "STOP"])
def test_another_interchange_takes_over(loaded: Loader, tmp_path: Path, how: str, way: str) -> None:
    """Again and again: no result is lost, what ran goes on running, and nothing runs twice but what was on its way."""
    rng = random.Random(f"{SEED}-{how}-{way}")
    with loaded(blocks=2, way=way):
        path, futures = _submit(tmp_path)
        behind = [count(str(path), TASKS + i, futures[i]) for i in range(100)]
        for n in range(3 if how == "KILL" else 1):
            _wait_for_lines(path, (n + 1) * TASKS // 5)
            _signal("interchange", getattr(signal, f"SIG{how}"), rng)
        assert [f.result(DEADLINE + 30) for f in [*futures, *behind]] == list(range(TASKS + 100))
        executions = collections.Counter(path.read_text().split())
        assert len(executions) == TASKS + 100
        assert sum(executions.values()) == TASKS + 100, "a task that its manager has is not launched again"
        assert all(f.task_record["try_id"] <= 3 for f in futures)
        more = [count(str(path), i) for i in range(100)]
        assert [f.result(30) for f in more] == list(range(100))


def test_interchange_death_breaks_the_executor_loudly(loaded: Loader, tmp_path: Path) -> None:
    """When none takes over, pending tasks fail at once, dependents too, and later calls are refused."""
    with loaded(restarts=0):
        path, futures = _submit(tmp_path)
        behind = count(str(path), futures[-1])
        _wait_for_lines(path, 50)
        began = time.monotonic()
        _signal("interchange", signal.SIGKILL, random.Random(SEED))
        _, pending = wait([*futures, behind], timeout=DEADLINE)
        assert not pending
        assert time.monotonic() - began < 3, "death is noticed at once, not at a heartbeat"
        assert isinstance(futures[-1].exception(), BadStateException)
        assert "interchange" in str(futures[-1].exception())
        assert isinstance(behind.exception(), DependencyError)
        assert isinstance(count(str(path), 1).exception(DEADLINE), BadStateException)


def test_manager_killed_until_the_budget_is_spent(loaded: Loader, tmp_path: Path) -> None:
    """A task that kills its manager each time fails with ManagerLost once the budget is spent."""

    def kill_manager() -> None:
        import psutil as ps

        worker = ps.Process()
        parents = [p for p in worker.parents() if "flowlib.executors.high_throughput.manager" in p.cmdline()]
        parents[0].kill()
        worker.suspend()

    with loaded(lost_retries=1):
        error = python_app(kill_manager)().exception(60)
        assert isinstance(error, LostError), repr(error)
        assert python_app(os.getpid)().result(30) > 0


@python_app
def begin(path: str, i: int) -> int:
    """Leaves a line when it begins, another a while later, and takes its time."""
    import os
    import time

    for name, seconds in ((path, 0.1), (path + "-settled", 0.9)):
        fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\n" % i)
        os.close(fd)
        time.sleep(seconds)
    return i


@pytest.mark.parametrize(("how", "way"), sample([*itertools.product(["KILL", "TERM", "STOP"], ["short", "zmq"])], 2))
def test_unstarted_tasks_pay_nothing(loaded: Loader, tmp_path: Path, how: str, way: str) -> None:
    """With no budget for losses, a lost manager costs what its workers had begun, and what only waited there runs on."""
    path = tmp_path / "begun"
    with loaded(blocks=2, way=way, prefetch=6, lost_retries=0):
        futures = [begin(str(path), i) for i in range(16)]
        _wait_for_lines(tmp_path / "begun-settled", 4)
        victim = _signal("manager", getattr(signal, f"SIG{how}"), random.Random(SEED))
        try:
            _, pending = wait(futures, timeout=DEADLINE + 20)
            assert not pending, f"{len(pending)} futures are not done"
        finally:
            if victim.is_running():
                victim.send_signal(signal.SIGCONT)
        lost = {i for i, f in enumerate(futures) if f.exception() is not None}
        assert all(isinstance(futures[i].exception(), LostError) for i in lost)
        assert [f.result() for i, f in enumerate(futures) if i not in lost] == [i for i in range(16) if i not in lost]
        runs = collections.Counter(map(int, path.read_text().split()))
        assert lost <= set(runs), "what fails had begun, and was not tried again"
        assert len(lost) <= 2, "a manager of two workers runs two tasks"
        assert how == "STOP" or set(runs.values()) == {1}, "what had begun is not begun again"
        assert how != "KILL" or len(lost) == 2
