"""What remembering costs: keys, hits, a store of many entries, and ``cache=True`` on the way of a no-op task.

``python -m benchmarks.memory [entries]`` prints a line for each.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter, time
from types import SimpleNamespace
from typing import Any


def best(call: Callable[[], Any], times: int = 5) -> float:
    """Seconds of the fastest of several calls."""
    found = []
    for _ in range(times):
        start = perf_counter()
        call()
        found.append(perf_counter() - start)
    return min(found)


def small(x: int, name: str, ratio: float = 0.5) -> int:
    """A function that does nothing."""
    return x


def keys() -> None:
    """Keys of a small call and of an array."""
    import numpy as np

    from flowlib.memory.calls import Keys
    from flowlib.options import TaskOptions

    maker: Any = Keys()

    def task(*args: Any) -> Any:
        return SimpleNamespace(
            app=SimpleNamespace(func=small), options=TaskOptions(cache=True), args=args, kwargs={}, rare=None
        )

    one, array = task(17, "something"), task(np.zeros(1 << 20), "array")
    seconds = best(lambda: [maker.key(one) for _ in range(10_000)]) / 10_000
    print(f"key of a small call: {seconds * 1e6:.1f} us")
    print(f"key of an 8 MB array: {(8 << 20) / best(lambda: maker.key(array)) / 1e9:.2f} GB/s")


def store(count: int) -> None:
    """A store of many entries."""
    from flowlib.memory.store import INLINE, Facts, Store

    with tempfile.TemporaryDirectory() as directory:
        filled = Store(directory)
        facts, batch = Facts(INLINE, "benchmark.app", time(), 5, bytes(32), {"x": b"12345678"}, "/run", 1), 100
        names = [os.urandom(32) for _ in range(count)]
        start = perf_counter()
        for at in range(0, count, batch):
            filled.put([(key, facts, b"value") for key in names[at : at + batch]])
        print(f"writer, {batch} at a time: {count / (perf_counter() - start):.0f} results/s")
        filled.close()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = perf_counter()
        opened = Store(directory)
        taken = perf_counter() - start
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"a store of {count} entries opens in {taken:.3f} s, {more:.0f} MB more at most")
        asked = names[:: max(1, count // 20_000)]
        start = perf_counter()
        found = sum([opened.get(key) is not None for key in asked])
        print(f"hits: {found / (perf_counter() - start):.0f}/s, {found} of {len(asked)} found")
        opened.close()


def throughput(count: int = 20_000) -> None:
    """No-op tasks through worker processes, with and without remembering; then again, remembered."""
    import flowlib
    from flowlib.config import Config
    from flowlib.executors import HighThroughputExecutor

    plain = flowlib.python_app(small)
    cached = flowlib.python_app(small, cache=True)
    with tempfile.TemporaryDirectory() as directory:
        executor = HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=2)
        with flowlib.load(Config([executor], run_dir=directory)):
            plain(1, "first").result()
            rates = []
            for name, app in (("plain", plain), ("cache=True", cached), ("remembered", cached)):
                start = perf_counter()
                for future in [app(i, "task") for i in range(count)]:
                    future.result()
                rates.append(count / (perf_counter() - start))
                print(f"no-op tasks, {name}: {rates[-1]:.0f}/s")
            print(f"cache=True costs {100 - 100 * rates[1] / rates[0]:.0f} %")


if __name__ == "__main__":
    keys()
    store(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    throughput()
