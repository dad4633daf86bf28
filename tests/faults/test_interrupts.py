"""Ctrl-C, again and again, at random moments of a loop that submits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, random, signal, threading, time
from concurrent.futures import CancelledError, Future
import flowlib
from flowlib.config import Config
from flowlib.errors import DependencyError
from flowlib.executors import HighThroughputExecutor, ThreadPoolExecutor
from flowlib.providers import LocalProvider

signal.signal(signal.SIGINT, signal.default_int_handler)
THREADS = ThreadPoolExecutor(max_threads=2)
HTEX = HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=1, provider=LocalProvider(init_blocks=1))

@flowlib.python_app
def add(x, *others):
    return x + 1

rng = random.Random({seed})
go = threading.Event()
futures = []
kernel = flowlib.load(Config(executors=[{executor}], run_dir="runinfo"))
add(0).result(60)
foreign = Future()
foreign.set_result(1)

def submit(n):
    kind = n % 4
    if kind == 0:
        future = add(n)
    elif kind == 1 and futures:
        future = add(futures[-1], futures[n % len(futures)])
    elif kind == 2:
        future = add(foreign, n)
    else:
        future = add(n)
        future.cancel()
    futures.append(future)

def interrupt():
    # One at a time, so that each meets the loop and none the code around it.
    for _ in range({number}):
        go.wait()
        go.clear()
        time.sleep(rng.choice([0.0001, 0.0005, 0.003]) * rng.random())
        os.kill(os.getpid(), signal.SIGINT)

thread = threading.Thread(target=interrupt, daemon=True)
thread.start()
n = interrupts = 0
while interrupts < {number}:
    try:
        go.set()
        while True:
            n += 1
            submit(n)
    except KeyboardInterrupt:
        interrupts += 1
thread.join()
end = time.monotonic() + 60
for future in futures:
    try:
        future.result(max(0, end - time.monotonic()))
    except TimeoutError:
        print("not done:", future, future.task_record.status)
        os._exit(1)
    except Exception as e:
        assert isinstance(e, (DependencyError, CancelledError)), repr(e)
kernel.wait_for_current_tasks()
assert not kernel.tasks, kernel.tasks
kernel.engine.graph.check_invariants()
assert add(1).result(60) == 2
# What an interrupted call had launched ends on its own, and nobody waits for it.
while {executor}.outstanding():
    assert time.monotonic() < end, {executor}.outstanding()
    time.sleep(0.01)
kernel.cleanup()
print("submitted", len(futures), "interrupted", interrupts)
"""


@pytest.mark.parametrize("executor", ["THREADS", "HTEX"])
@pytest.mark.parametrize("seed", range(3))
def test_interrupted_submissions(tmp_path: Path, executor: str, seed: int) -> None:
    """No task waits for ever, the books balance, and the run takes further tasks."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(seed=seed, executor=executor, number=150))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "interrupted 150" in done.stdout
