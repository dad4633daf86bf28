"""A loaded kernel as a user would have it, in a directory that is gone afterwards, and the apps of all rows."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flowlib
from flowlib import bash_app, python_app

WORKERS = 2


def nothing(*args: object) -> None:
    """What the baselines run."""


@python_app
def noop(*args: object) -> None:
    """Does nothing."""


@python_app
def increment(number: int) -> int:
    """The least that depends on its argument."""
    return number + 1


@python_app
def count(*things: object) -> int:
    """The end of many."""
    return len(things)


@bash_app
def true() -> str:
    """The shortest command."""
    return "true"


@contextmanager
def processes(blocks: int = 1, workers: int = WORKERS) -> Iterator[Any]:
    """A kernel with worker processes on this machine, warm: each block has run tasks."""
    from flowlib.config import Config
    from flowlib.executors import HighThroughputExecutor
    from flowlib.providers import LocalProvider

    executor = HighThroughputExecutor(
        label="processes",
        address="127.0.0.1",
        max_workers_per_node=workers,
        provider=LocalProvider(init_blocks=blocks, min_blocks=blocks, max_blocks=blocks),
    )
    with loaded(Config(executors=[executor])):
        for _ in range(3):
            for future in [noop() for _ in range(100)]:
                future.result(60)
        yield executor


@contextmanager
def threads() -> Iterator[None]:
    """A kernel with threads."""
    from flowlib.config import Config
    from flowlib.executors import ThreadPoolExecutor

    executor = ThreadPoolExecutor(label="threads", max_threads=WORKERS)
    with loaded(Config(executors=[executor])):
        for future in [noop() for _ in range(1000)]:
            future.result(60)
        yield


@contextmanager
def loaded(config: Any) -> Iterator[None]:
    """A kernel in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        config.run_dir = os.path.join(directory, "runinfo")
        with flowlib.load(config):
            yield


def rate(count: int, run: Callable[[], object]) -> float:
    """How many per second, if ``run`` does ``count``."""
    began = time.perf_counter()
    run()
    return count / (time.perf_counter() - began)


def each(count: int, run: Callable[[], object]) -> list[float]:
    """Seconds that each of ``count`` runs took."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times
