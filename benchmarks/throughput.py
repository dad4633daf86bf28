"""Rows about how many tasks get through, and how fast a single one."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import statistics
import threading
from typing import Any

from benchmarks.kernels import WORKERS, count, each, increment, noop, nothing, processes, rate, threads, true
from benchmarks.measured import Measured, scaled
from benchmarks.pipeline import Pipeline


def noop_rate(scale: float) -> Measured:
    """Calls that do nothing."""
    n = scaled(20_000, scale)
    with processes():
        value = rate(n, lambda: [f.result() for f in [noop() for _ in range(n)]])
    with Pipeline() as pipeline:
        plain = rate(n, lambda: pipeline.run([(nothing, ())] * n))
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        pool.submit(nothing).result()
        fewer = max(10, n // 10)
        stdlib = rate(fewer, lambda: [f.result() for f in [pool.submit(nothing) for _ in range(fewer)]])
    return Measured(value, "tasks/s", {"ZeroMQ pipeline": plain, "ProcessPoolExecutor": stdlib})


def latency(scale: float) -> Measured:
    """One call at a time."""
    n = scaled(1000, scale)

    def milliseconds(times: list[float]) -> float:
        return statistics.median(times) * 1000

    with processes():
        times = each(n, lambda: noop().result())
    with Pipeline() as pipeline:
        plain = milliseconds(each(n, lambda: pipeline.run([(nothing, ())])))
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        pool.submit(nothing).result()
        stdlib = milliseconds(each(n, lambda: pool.submit(nothing).result()))
    worst = sorted(times)[int(0.99 * len(times))] * 1000
    against = {"ZeroMQ pipeline": plain, "ProcessPoolExecutor": stdlib}
    return Measured(milliseconds(times), "ms", against, {"99 % below, ms": worst})


def chain(scale: float) -> Measured:
    """Each call takes the result of the one before."""
    n = scaled(500, scale)

    def linked() -> None:
        last: Any = 0
        for _ in range(n):
            last = increment(last)
        assert last.result() == n

    def by_hand() -> None:
        last = 0
        for _ in range(n):
            last = increment(last).result()
        assert last == n

    with processes():
        return Measured(rate(n, linked), "tasks/s", {"one at a time": rate(n, by_hand)})


def fan_in(scale: float) -> Measured:
    """Many calls, and one that takes all their results."""
    n = scaled(5000, scale)

    def joined() -> None:
        assert count(*[increment(i) for i in range(n)]).result() == n

    with processes():
        apart = rate(n, lambda: [f.result() for f in [increment(i) for i in range(n)]])
        return Measured(rate(n, joined), "tasks/s", {"without the last": apart})


def thread_rate(scale: float) -> Measured:
    """Calls that do nothing, in threads of this process."""
    n = scaled(20_000, scale)
    with threads():
        value = rate(n, lambda: [f.result() for f in [noop() for _ in range(n)]])
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        pool.submit(nothing).result()
        stdlib = rate(n, lambda: [f.result() for f in [pool.submit(nothing) for _ in range(n)]])
    return Measured(value, "tasks/s", {"stdlib's pool": stdlib})


def map_rate(scale: float) -> Measured:
    """One app over many items."""
    import multiprocessing

    n = scaled(100_000, scale)
    with processes():
        value = rate(n, lambda: sum(1 for _ in noop.map(range(n))))
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.map(nothing, range(100))
        stdlib = rate(n, lambda: pool.map(nothing, range(n)))
    return Measured(value, "items/s", {"multiprocessing.Pool.map": stdlib})


def bash_rate(scale: float) -> Measured:
    """The shortest shell command."""
    n = scaled(600, scale)
    bash = shutil.which("bash") or "/bin/bash"

    def spawn() -> None:
        for _ in range(n // WORKERS):
            os.waitpid(os.posix_spawn(bash, ["bash", "-c", "true"], os.environ), 0)

    def both() -> None:
        loops = [threading.Thread(target=spawn) for _ in range(WORKERS)]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join()

    with processes():
        [f.result() for f in [true() for _ in range(10)]]
        value = rate(n, lambda: [f.result() for f in [true() for _ in range(n)]])
    return Measured(value, "tasks/s", {"posix_spawn in two threads": rate(n, both)})


def million(scale: float) -> Measured:
    """A long run: whether it slows down."""
    block = 20_000
    blocks = scaled(50, scale)
    with processes():
        rates = [rate(block, lambda: [f.result() for f in [noop() for _ in range(block)]]) for _ in range(blocks)]
    tenth = max(1, blocks // 10)

    def overall(some: list[float]) -> float:
        return len(some) / sum(1 / r for r in some)

    return Measured(
        overall(rates[-tenth:]),
        "tasks/s",
        {"the first tenth": overall(rates[:tenth])},
        {"all, tasks/s": overall(rates)},
    )
