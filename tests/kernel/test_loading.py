"""Loading and clearing, the pool of concurrent.futures, and the pieces below the executors."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from flowlib.calling import run_call
from flowlib.concurrent import FlowlibPoolExecutor
from flowlib.config import Config
from flowlib.dataflow import loader
from flowlib.dataflow.crew import Crew
from flowlib.errors import AppTimeout, ConfigurationError, NoDataFlowKernelError
from flowlib.executors import ThreadPoolExecutor
from flowlib.executors.walltime import call_within
from tests.kernel.conftest import MakeKernel

DEADLINE = 20


def config(tmp_path: Path) -> Config:
    """Threads, in a directory of the test's own."""
    return Config(executors=[ThreadPoolExecutor()], run_dir=str(tmp_path / "runinfo"))


def test_load_once(tmp_path: Path) -> None:
    """A second load is refused and harms nothing; after the block the next is welcome."""
    with loader.load(config(tmp_path)) as kernel:
        assert loader.dfk() is kernel
        with pytest.raises(ConfigurationError, match="already"):
            loader.load(config(tmp_path))
        assert kernel.submit(abs, [-1]).result(DEADLINE) == 1
    with pytest.raises(NoDataFlowKernelError, match="load"):
        loader.dfk()
    with loader.load(config(tmp_path)) as kernel:
        loader.wait_for_current_tasks()
    loader.clear()


def test_clear_leaves_the_run_alone(tmp_path: Path) -> None:
    """clear() forgets the kernel, which goes on."""
    kernel = loader.load(config(tmp_path))
    loader.clear()
    with pytest.raises(NoDataFlowKernelError):
        loader.wait_for_current_tasks()
    assert kernel.submit(abs, [-1]).result(DEADLINE) == 1
    kernel.cleanup()


@pytest.mark.parametrize("wrong", [{"executors": []}, 5])
def test_load_of_something_else(wrong: object) -> None:
    """Only configurations and names of such are loaded."""
    with pytest.raises(TypeError, match="Config"):
        loader.load(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="local_threads"):
        loader.load("local_thread")


SCRIPT = """
import sys
from concurrent.futures import Future
from flowlib.config import Config
from flowlib.dataflow import loader
kernel = loader.load(Config(run_dir=sys.argv[1]))
future = kernel.submit(abs, [Future()])
print(kernel.submit(abs, [-1]).result(20))
"""


def test_exit_without_cleanup(tmp_path: Path) -> None:
    """A script that just ends leaves in time, and says how many tasks it left."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "1 task unfinished" in done.stderr
    assert "Traceback" not in done.stderr


def test_kernel_imports_nothing_heavy() -> None:
    """What decorators import loads neither asyncio nor any package from outside."""
    heavy = ["asyncio", "msgspec", "zmq", "dill", "psutil", "typeguard", "rich"]
    code = f"import sys, flowlib.dataflow.loader, flowlib.errors; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout.strip() == "[]"


def test_pool(tmp_path: Path) -> None:
    """The pool runs functions, keeps their order in map, and refuses them after its end."""
    with FlowlibPoolExecutor(config(tmp_path)) as pool:
        assert list(pool.map(pow, [1, 2, 3], [2, 2, 2])) == [1, 4, 9]
        futures = [pool.submit(divmod, 7, i) for i in (1, 2, 3)]
        assert {f.result() for f in concurrent.futures.as_completed(futures, DEADLINE)} == {(7, 0), (3, 1), (2, 1)}
        assert isinstance(pool.submit(divmod, 1, 0).exception(DEADLINE), ZeroDivisionError)
        assert pool.app_count == 2
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(abs, 1)


def test_pool_on_a_kernel(make_kernel: MakeKernel) -> None:
    """A pool on somebody's kernel leaves it running; both or neither of its arguments are refused."""
    kernel = make_kernel()
    label = next(iter(kernel.config.executors)).label
    with FlowlibPoolExecutor(dfk=kernel, executors=[label]) as pool:
        assert pool.submit(abs, -1).result(DEADLINE) == 1
        assert pool.get_app(abs).executors == [label]
    assert FlowlibPoolExecutor(dfk=kernel).get_app(abs).executors == "all" and not kernel.cleanup_called
    assert kernel.submit(abs, [-2]).result(DEADLINE) == 2
    with pytest.raises(ValueError, match="one of config or dfk"):
        FlowlibPoolExecutor()
    with pytest.raises(ValueError, match="one of config or dfk"):
        FlowlibPoolExecutor(Config(), dfk=kernel)


def test_pool_cancels(make_kernel: MakeKernel) -> None:
    """shutdown(cancel_futures=True) withdraws what has not started."""
    kernel = make_kernel()
    pool = FlowlibPoolExecutor(dfk=kernel)
    future = pool.submit(abs, Future())
    pool.shutdown(cancel_futures=True)
    assert future.cancelled()


def test_crew_grows_to_its_size() -> None:
    """A crew hires while there is work and nobody idle, up to its size, and reuses idle threads."""
    crew = Crew("test-crew", 3)
    gate, arrived = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        arrived.release()
        gate.wait(DEADLINE)

    for _ in range(5):
        crew.put(work)
    for _ in range(3):
        assert arrived.acquire(timeout=DEADLINE)
    assert len(crew.threads) == 3
    assert not arrived.acquire(blocking=False)
    gate.set()
    for _ in range(2):
        assert arrived.acquire(timeout=DEADLINE)
    assert crew.close(DEADLINE)
    with pytest.raises(RuntimeError, match="closed"):
        crew.put(work)


def test_crew_runs_what_waits_for_each_other() -> None:
    """Calls that need one another's threads never wait for a thread that is not hired."""
    crew = Crew("test-crew", 4)
    for _ in range(200):
        barrier = threading.Barrier(4)
        done = threading.Semaphore(0)

        def meet(barrier: threading.Barrier = barrier, done: threading.Semaphore = done) -> None:
            barrier.wait(DEADLINE)
            done.release()

        for _ in range(4):
            crew.put(meet)
        for _ in range(4):
            assert done.acquire(timeout=DEADLINE)
    assert crew.close(DEADLINE)


def test_walltime_never_strays() -> None:
    """Alarms that ring just as the call ends stop that call or nothing: no exception arrives later."""
    ended = stopped = 0
    for i in range(300):
        try:
            call_within(0.0005, sum, range(i * 60))
            ended += 1
        except AppTimeout:
            stopped += 1
        # Where a stray exception would arrive.
        for _ in range(50):
            pass
    assert ended + stopped == 300


def test_walltime_leaves_an_inner_timeout_alone() -> None:
    """An AppTimeout that the call itself raises is not taken for the alarm."""

    def body() -> None:
        raise AppTimeout("inner")

    with pytest.raises(AppTimeout, match="inner"):
        call_within(60, body)


def test_coroutine_inside_a_running_loop() -> None:
    """A coroutine function can be called where a loop runs already."""
    import asyncio

    async def value() -> int:
        return 3

    async def main() -> int:
        return int(run_call(value, (), {}))

    assert asyncio.run(main()) == 3
