"""Poisons and kills once more, with resources, memory limits, pinning, large objects, recycling and encryption on."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import BadStateException, DependencyError, LostError
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider

from .poisons import POISONS, Poison
from .processes import find
from .sampling import SEED, sample

THRESHOLD = 5
TASKS = 300
NUMBERS = 100_000
"""Floats of a large object; 800 kB."""

Loader = Callable[..., AbstractContextManager[flowlib.DataFlowKernel]]


@contextmanager
def everything(run_dir: Path, blocks: int, way: str, **config: Any) -> Iterator[flowlib.DataFlowKernel]:
    """A kernel with all that can be switched on."""
    executor = HighThroughputExecutor(
        label="everything",
        address="127.0.0.1",
        max_workers_per_node=2,
        heartbeat_period=1,
        heartbeat_threshold=THRESHOLD,
        encrypted=True,
        cpu_affinity="block",
        mem_per_worker=1,
        enforce_memory=True,
        max_tasks_per_worker=20,
        max_memory_per_worker=1,
        labels={"licence": 4},
        object_threshold=100_000,
        object_memory="32MB",
        provider=LocalProvider(init_blocks=blocks, min_blocks=blocks, max_blocks=blocks),
    )
    executor.short_way = way == "short"
    with flowlib.load(Config(executors=[executor], run_dir=str(run_dir), **config)) as dfk:
        yield dfk


def note(path: str, i: int) -> int:
    """Leaves a line for each execution."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % i)
    os.close(fd)
    time.sleep(0.004)
    return i


@python_app
def plain(path: str, i: int) -> int:
    """A small task."""
    return note(path, i)


@python_app
def reads(path: str, i: int, numbers: Any) -> int:
    """A task with a large argument, in which it may write."""
    assert numbers.sum() == NUMBERS, "what others wrote is not seen here"
    numbers[:] = 7
    return note(path, i)


@python_app
def makes(path: str, i: int) -> Any:
    """A task with a large result."""
    return np.full(NUMBERS, float(note(path, i)))


@python_app
def takes(i: int, numbers: Any) -> int:
    """A task that needs it."""
    assert (numbers == i).all()
    return i


def submit(path: Path, count: int) -> list[Any]:
    """Tasks of all kinds, the i-th with the value i."""
    shared = flowlib.put(np.ones(NUMBERS))
    small = plain.options(resources={"cores": 0.5, "licence": 1})
    kinds: list[Callable[[int], Any]] = [
        lambda i: plain(str(path), i),
        lambda i: small(str(path), i),
        lambda i: plain.options(resources={"cores": 1, "memory": "300MB"})(str(path), i),
        lambda i: reads(str(path), i, shared),
        lambda i: takes(i, makes(str(path), i)),
    ]
    return [kinds[i % len(kinds)](i) for i in range(count)]


def lines(path: Path) -> int:
    """Executions so far."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


POINTS = [
    (kind, how, way, point)
    for way in ("short", "zmq")
    for kind in ("worker", "manager", "template", "interchange")
    for how in ("KILL", "STOP")
    for point in range(3)
]


@pytest.mark.parametrize(("kind", "how", "way", "point"), sample(POINTS, 3), ids=lambda v: str(v))
def test_kills(tmp_path: Path, kind: str, how: str, way: str, point: int) -> None:
    """Each future ends in time, with its value; only a worker's own task may be lost, and what depends on it."""
    rng = random.Random(f"{SEED}-{kind}-{how}-{way}-{point}")
    with everything(tmp_path / "runinfo", blocks=2, way=way):
        path = tmp_path / "executions"
        futures = submit(path, TASKS)
        deadline, enough = time.monotonic() + 60, rng.randrange(1, TASKS // 2)
        while lines(path) < enough:
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.005)
        victim = rng.choice(find(kind))
        victim.send_signal(getattr(signal, f"SIG{how}"))
        try:
            _, pending = wait(futures, timeout=THRESHOLD + 60)
            assert not pending, f"{len(pending)} futures are not done"
        finally:
            if victim.is_running():
                victim.send_signal(signal.SIGCONT)
        errors = {i: error for i, future in enumerate(futures) if (error := future.exception()) is not None}
        assert [f.result() for i, f in enumerate(futures) if i not in errors] == [
            i for i in range(TASKS) if i not in errors
        ]
        assert all(isinstance(e, (LostError, BadStateException, DependencyError)) for e in errors.values()), errors
        assert len(errors) <= (kind == "worker"), errors


@pytest.mark.parametrize("poison", sample(POISONS, 5), ids=lambda p: p.run.__name__)
def test_poisons(tmp_path: Path, poison: Poison) -> None:
    """A poison fails alone or succeeds; the tasks of all kinds around it succeed."""
    with everything(tmp_path / "runinfo", blocks=1, way="zmq", retries=0):
        path = tmp_path / "executions"
        before = submit(path, 10)
        bad = python_app(poison.run)()
        after = submit(path, 10)
        deadline = time.monotonic() + poison.timeout + 20
        for futures in (before, after):
            assert [f.result(max(0.0, deadline - time.monotonic())) for f in futures] == list(range(10))
        error = bad.exception(max(0.0, deadline - time.monotonic()))
        if poison.fails:
            assert isinstance(error, poison.fails), repr(error)
        else:
            assert error is None
