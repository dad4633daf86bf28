"""Rows about what flowlib costs beside the tasks: memory, start, end, idling."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.kernels import noop, processes
from benchmarks.measured import Measured, scaled


def _resident() -> int:
    """Bytes of memory that this process has now."""
    import psutil

    gc.collect()
    return int(psutil.Process().memory_info().rss)


def waiting_memory(scale: float) -> Measured:
    """Tasks that wait for another."""
    n = scaled(100_000, scale, least=20_000)
    with processes():
        gate: concurrent.futures.Future[None] = concurrent.futures.Future()
        before = _resident()
        tasks = [noop(gate) for _ in range(n)]
        value = (_resident() - before) / n
        gate.set_result(None)
        for task in tasks:
            task.result()
    del tasks
    before = _resident()
    bare = [concurrent.futures.Future[None]() for _ in range(n)]
    stdlib = (_resident() - before) / n
    del bare
    return Measured(value, "bytes", {"bare stdlib Future": stdlib})


def finished_memory(scale: float) -> Measured:
    """Tasks that are done and forgotten."""
    block = 10_000
    blocks = scaled(20, scale, least=5)

    def run() -> None:
        for task in [noop() for _ in range(block)]:
            task.result()

    with processes():
        for _ in range(3):  # after these, pools and caches have the size that they need
            run()
        before = _resident()
        for _ in range(blocks):
            run()
        return Measured((_resident() - before) / (block * blocks), "bytes")


IMPORT = "import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"


def import_time(scale: float) -> Measured:
    """``import flowlib`` in a fresh interpreter."""

    def timed(module: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", IMPORT.format(module=module)], capture_output=True, text=True, check=True, timeout=60
        )
        return float(done.stdout)

    timed("flowlib")  # the files are in the machine's cache then, in both measurements
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
    bare = time.perf_counter() - began
    return Measured(timed("flowlib"), "s", {"a bare interpreter's life": bare}, {"asyncio, s": timed("asyncio")})


FLOWLIB = """\
import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider

@python_app
def seven():
    return 7

executor = HighThroughputExecutor(
    label="e", address="127.0.0.1", max_workers_per_node=2, provider=LocalProvider(init_blocks=1, max_blocks=1)
)
with flowlib.load(Config(executors=[executor])):
    print(seven().result(), flush=True)
    {wait}
    print("leaving", flush=True)
"""

STDLIB = """\
from concurrent.futures import ProcessPoolExecutor

def seven():
    return 7

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        print(pool.submit(seven).result(), flush=True)
        print("leaving", flush=True)
"""


def _life(script: str) -> tuple[float, float]:
    """Seconds from the start of a script to its first result, and from its last line to its end."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "script.py")
        with open(path, "w") as file:
            file.write(script)
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, path], cwd=directory, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            at_first = time.perf_counter()
            last = process.stdout.readline()
            at_last = time.perf_counter()
            process.wait(60)
            ended = time.perf_counter()
        finally:
            process.kill()
            process.communicate()
    if (first, last) != ("7\n", "leaving\n"):
        raise RuntimeError(f"the script printed {first!r}, {last!r}")
    return at_first - began, ended - at_last


def first_result(scale: float) -> Measured:
    """From nothing to the first result."""
    return Measured(_life(FLOWLIB.format(wait=""))[0], "s", {"ProcessPoolExecutor": _life(STDLIB)[0]})


def exit_time(scale: float) -> Measured:
    """From the last line to the end."""
    return Measured(_life(FLOWLIB.format(wait=""))[1], "s", {"ProcessPoolExecutor": _life(STDLIB)[1]})


def idle(scale: float) -> Measured:
    """A run that waits, with many managers."""
    import psutil

    megabyte = 2**20
    fit = int(psutil.virtual_memory().available * 0.6 / (100 * megabyte))
    managers = scaled(min(100, fit), scale, least=2)
    seconds = 20.0
    with processes(blocks=managers, workers=1) as executor:
        deadline = time.monotonic() + 300
        while len(executor.connected_managers()) < managers:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(executor.connected_managers())} of {managers} managers came")
            time.sleep(0.5)
        me = psutil.Process()
        interchanges = [p for p in me.children(recursive=True) if any("interchange" in part for part in p.cmdline())]
        if not interchanges:
            raise RuntimeError("no interchange found")
        watched = [me, *interchanges]
        time.sleep(2.0)

        def used() -> list[float]:
            return [t.user + t.system for t in (p.cpu_times() for p in watched)]

        before, began = used(), time.monotonic()
        time.sleep(seconds)
        after, took = used(), time.monotonic() - began
    shares = [100 * (b - a) / took for a, b in zip(before, after, strict=True)]
    return Measured(sum(shares), "% of a core", {}, {"managers": managers, "driver, %": shares[0]})
