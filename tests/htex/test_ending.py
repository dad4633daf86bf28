"""Running tasks that are ended from outside, on real processes: walltime, cancellation, memory; neighbours unharmed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import psutil
import pytest

import flowlib
from flowlib import bash_app, python_app
from flowlib.config import Config
from flowlib.errors import AppTimeout, DependencyError, OutOfMemory
from flowlib.executors import HighThroughputExecutor
from flowlib.executors.high_throughput import messages as m
from flowlib.providers import LocalProvider

from .node_side import FakeInterchange

PATIENCE = 20.0
MB = 1 << 20


@pytest.fixture
def home(tmp_path: Path) -> Iterator[FakeInterchange]:
    """An interchange without encryption."""
    interchange = FakeInterchange(tmp_path)
    yield interchange
    interchange.close()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flowlib.DataFlowKernel]:
    """Two workers, three tries for each task: none of those that are ended is tried again."""
    executor = HighThroughputExecutor(
        label="main",
        address="127.0.0.1",
        max_workers_per_node=2,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    run_dir = tmp_path_factory.mktemp("runinfo")
    with flowlib.load(Config(executors=[executor], run_dir=str(run_dir), retries=2)) as dfk:
        yield dfk


def _until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(0.005)


def _read(path: Path) -> str:
    _until(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text()


def _gone(*pids: int) -> None:
    def alive() -> list[int]:
        return [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]

    _until(lambda: not alive(), 5)


def _in_c(path: str) -> None:
    """Native code that never comes back to Python, and never lets go of the interpreter."""
    import ctypes

    Path(path).write_text(f"{os.getpid()}\n")
    libc = ctypes.PyDLL(None)
    while_waiting = ctypes.PYFUNCTYPE(ctypes.c_int)
    assert while_waiting
    # pause() in a row: each signal that has a handler ends one of them only.
    libc.sigsuspend.argtypes = [ctypes.c_void_p]
    mask = (ctypes.c_ulong * 16)()
    mask[0] = 1 << (signal.SIGALRM - 1)
    libc.sigsuspend(ctypes.byref(mask))


def _stubborn(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).write_text(f"{os.getpid()}\n")
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


def _tidy(path: str, made: str) -> str:
    """Clean up when asked to end."""

    def clean(number: int, frame: Any) -> None:
        os.remove(made)
        sys.exit(0)

    signal.signal(signal.SIGTERM, clean)
    Path(made).touch()
    Path(path).write_text(f"{os.getpid()}\n")
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


def _nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def _witness(path: str, seconds: float) -> int:
    """A neighbour: notes each time that it is begun."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return os.getpid()


# ---------------------------------------------------------------------------------------------------------- walltime


def test_walltime_in_native_code(home: FakeInterchange, tmp_path: Path) -> None:
    """No exception can reach it there; SIGTERM ends it at once, long before the grace is over, and says where it was."""
    home.start(max_workers_per_node=2, kill_grace=30)
    home.until(lambda: home.register)
    neighbour = home.task(_nap, 2.5)
    began = time.monotonic()
    key = home.task(_in_c, str(tmp_path / "pid"), needs=m.Needs(walltime=0.3))
    failure = home.failure(key, m.Status.RAISED, 10)
    assert time.monotonic() - began < 8
    assert failure.type_name == "flowlib.errors.AppTimeout"
    assert "walltime of 0.3 s" in failure.message and os.uname().nodename in failure.message
    _gone(int(_read(tmp_path / "pid")))
    assert home.value(neighbour)
    assert home.call(_nap, 0)


def test_walltime_of_a_task_that_ignores_the_signal(home: FakeInterchange, tmp_path: Path) -> None:
    """SIGKILL comes when the grace is over; its children die with it; what it printed is in the error."""

    def nest(path: str, child: str) -> None:
        import subprocess

        print("the last words", flush=True)
        # In a session of its own, and it ignores the signal too.
        inner = subprocess.Popen(
            ["bash", "-c", "trap '' TERM; sleep 300 & echo $$ $! > $0; wait", child], start_new_session=True
        )
        assert inner
        _stubborn(path)

    home.start(kill_grace=1.5, max_workers_per_node=2)
    home.until(lambda: home.register)
    neighbour = home.task(_nap, 5.0)
    child = tmp_path / "child"
    key = home.task(nest, str(tmp_path / "pid"), str(child), needs=m.Needs(walltime=0.5))
    failure = home.failure(key, m.Status.RAISED, 10)
    assert "the last words" in failure.message
    _gone(int(_read(tmp_path / "pid")), *map(int, _read(child).split()))
    assert home.value(neighbour)
    assert home.call(_nap, 0)


def test_a_task_sees_its_deadline(home: FakeInterchange) -> None:
    """In the environment as Unix time, and in the context; the next task sees none."""

    def look() -> tuple[str | None, float | None]:
        return os.environ.get("FLOWLIB_DEADLINE"), flowlib.current().remaining

    home.start()
    home.until(lambda: home.register)
    began = time.time()
    text, left = home.call(look, needs=m.Needs(walltime=50.0))
    assert text is not None and left is not None
    assert began + 50 - 0.01 <= float(text) <= time.time() + 50
    assert 40 < left <= 50
    assert home.call(look) == (None, None)


def test_a_command_sees_its_deadline_and_its_error_what_it_said(kernel: flowlib.DataFlowKernel) -> None:
    """A bash app has the variable too; the error of one that was stopped has the last lines of its stderr."""

    @bash_app
    def late(walltime: float = 1.0) -> str:
        return 'test "$FLOWLIB_DEADLINE" && echo "until $FLOWLIB_DEADLINE" >&2; sleep 300'

    with pytest.raises(AppTimeout, match=r"until \d{9}"):
        late().result(PATIENCE)


# ------------------------------------------------------------------------------------------------------------ cancel


def _cancel_running(app: Any, tmp_path: Path, *args: Any, grace: float = 5.0) -> tuple[Any, int]:
    path = tmp_path / "pid"
    future = python_app(app)(str(path), *args)
    pid = int(_read(path))
    assert future.cancel() is False
    began = time.monotonic()
    assert future.cancel(running=True, grace=grace) is True
    assert time.monotonic() - began < 1.5
    return future, pid


def test_cancel_of_a_running_task(kernel: flowlib.DataFlowKernel, tmp_path: Path) -> None:
    """It ends cancelled when it is dead, at once, without another try; those that depend on it say which task it was."""
    neighbour = python_app(_nap)(1.0)
    future, pid = _cancel_running(_in_c, tmp_path, grace=30)
    dependent = python_app(lambda x: x)(future)
    with pytest.raises(CancelledError, match=f"task {future.tid} "):
        future.result(5)
    assert future.cancelled() and not psutil.pid_exists(pid)
    assert future.task_status() == "cancelled"
    assert future.cancel(running=True) is True
    with pytest.raises(DependencyError) as failed:
        dependent.result(PATIENCE)
    assert isinstance(failed.value.__cause__, CancelledError)
    assert f"task {future.tid} " in str(failed.value.__cause__)
    assert neighbour.result(PATIENCE)
    assert neighbour.cancel(running=True) is False
    assert len({f.result(PATIENCE) for f in [python_app(_nap)(0.3) for _ in range(4)]}) == 2, "there are two workers"


def test_cancel_lets_a_task_clean_up(kernel: flowlib.DataFlowKernel, tmp_path: Path) -> None:
    """A handler of SIGTERM has its grace; that it then exits is not told as a failure."""
    made = tmp_path / "made"
    future, _ = _cancel_running(_tidy, tmp_path, str(made), grace=30)
    with pytest.raises(CancelledError):
        future.result(10)
    assert not made.exists()


def test_cancel_of_a_task_that_ignores_the_signal(kernel: flowlib.DataFlowKernel, tmp_path: Path) -> None:
    """Its future is pending until it is dead, after the grace."""
    future, pid = _cancel_running(_stubborn, tmp_path, grace=0.5)
    assert not future.done()
    with pytest.raises(CancelledError):
        future.result(10)
    assert not psutil.pid_exists(pid)


def test_cancel_of_a_command_and_all_it_has_started(kernel: flowlib.DataFlowKernel, tmp_path: Path) -> None:
    """The command may clean up; its children die, those that have left its session too."""
    pids, said = tmp_path / "pids", tmp_path / "said"
    begun = tmp_path / "begun"
    neighbour = python_app(_witness)(str(begun), 4.0)
    pid = int(_read(begun))

    @bash_app
    def nest(pids: str, said: str) -> str:
        return (
            f"trap 'echo bye > {said}; exit 3' TERM; setsid sleep 300 & (trap '' TERM; sleep 301) & "
            f"sleep 302 & echo $$ $! > {pids}; jobs -p >> {pids}; wait"
        )

    future = nest(str(pids), str(said))
    _until(lambda: pids.exists() and len(pids.read_text().split()) == 5)
    began = time.monotonic()
    assert future.cancel(running=True, grace=1.5)
    with pytest.raises(CancelledError):
        future.result(10)
    assert time.monotonic() - began > 1.5, "one of them ignores the signal"
    assert said.read_text() == "bye\n"
    assert (neighbour.result(PATIENCE), begun.read_text()) == (pid, f"{pid}\n"), "it runs on, and only once"
    _gone(*map(int, pids.read_text().split()))


def test_cancel_all(kernel: flowlib.DataFlowKernel, tmp_path: Path) -> None:
    """Queued tasks and running ones are cancelled, and the workers go on with what comes next."""
    running = [python_app(_in_c)(str(tmp_path / f"{i}")) for i in range(2)]
    for i in range(2):
        _read(tmp_path / f"{i}")
    queued = [python_app(_nap)(60) for _ in range(20)]
    later = python_app(lambda x: x)(queued[0])
    assert flowlib.cancel_all() == 21
    assert all(future.cancelled() for future in (*queued, later))
    assert not any(future.done() for future in running)
    assert flowlib.cancel_all(running=True) == 2
    for future in running:
        with pytest.raises(CancelledError):
            future.result(10)
    assert flowlib.cancel_all(running=True) == 0
    assert python_app(_nap)(0).result(PATIENCE)


def test_cancel_hits_no_innocent_short_task(kernel: flowlib.DataFlowKernel) -> None:
    """Among tasks that take microseconds and go in bundles, each is either cancelled or has its value."""

    @python_app
    def short(i: int) -> int:
        return i

    for future in [short(i) for i in range(50)]:
        future.result(PATIENCE)
    futures = [short(i) for i in range(2000)]
    doomed = {i: futures[i].cancel(running=True) for i in range(0, 2000, 97)}
    for i, future in enumerate(futures):
        if doomed.get(i):
            with pytest.raises(CancelledError):
                future.result(PATIENCE)
        else:
            assert future.result(PATIENCE) == i


def test_threads_cannot_be_killed(tmp_path: Path) -> None:
    """A task that runs in a thread is not cancelled, and says so."""
    from flowlib.executors import ThreadPoolExecutor

    path = tmp_path / "on"

    def wait(path: str) -> int:
        Path(path).write_text("1\n")
        _until(lambda: not Path(path).exists())
        return 7

    with flowlib.DataFlowKernel(Config(executors=[ThreadPoolExecutor()], run_dir=str(tmp_path / "run"))) as threads:
        future = python_app(wait, data_flow_kernel=threads)(str(path))
        _read(path)
        assert future.cancel(running=True) is False
        path.unlink()
        assert future.result(PATIENCE) == 7


# ------------------------------------------------------------------------------------------------------------ memory


def _hog(megabytes: int, seconds: float) -> int:
    block = bytearray(os.urandom(1024)) * (megabytes * 1024)
    time.sleep(seconds)
    return len(block)


def _hog_in_a_child(megabytes: int) -> None:
    import subprocess

    code = f"import time; block = bytearray(b'x') * {megabytes * MB}; time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("hog", [lambda: _hog(300, 60), lambda: _hog_in_a_child(300)], ids=["itself", "child"])
def test_a_task_over_its_memory_is_killed_alone(home: FakeInterchange, hog: Callable[[], Any]) -> None:
    """It fails with what it asked for, what it used and where; those beside it, as large, never notice."""
    home.start(max_workers_per_node=3)
    home.until(lambda: home.register)
    innocent = [home.task(_hog, 150, 2.0), home.task(_hog, 150, 2.0, needs=m.Needs(resources={"memory": 1 << 30}))]
    key = home.task(hog, needs=m.Needs(resources={"memory": 200 * MB}))
    failure = home.failure(key, m.Status.RAISED, 10)
    assert failure.type_name == "flowlib.errors.OutOfMemory" and failure.arguments is not None
    _, host, requested, peak, _, _ = failure.arguments
    assert (host, requested) == (os.uname().nodename, 200 * MB)
    assert 200 * MB < peak < 450 * MB
    assert [home.value(one) for one in innocent] == [150 * MB] * 2
    assert home.call(_nap, 0)


def test_enforced_share_of_memory(tmp_path: Path) -> None:
    """With enforce_memory, mem_per_worker counts for tasks that ask for nothing; a MemoryError stays what it is."""
    executor = HighThroughputExecutor(
        label="capped",
        address="127.0.0.1",
        max_workers_per_node=1,
        mem_per_worker=0.2,
        enforce_memory=True,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )

    def fail() -> None:
        raise MemoryError("mine")

    with flowlib.DataFlowKernel(Config(executors=[executor], run_dir=str(tmp_path))) as capped:
        app = python_app(_hog, data_flow_kernel=capped)
        assert app(10, 0.5).result(PATIENCE) == 10 * MB
        with pytest.raises(OutOfMemory, match="requested: 205 MiB") as failed:
            app(400, 60).result(PATIENCE)
        assert failed.value.requested == int(0.2 * (1 << 30)) < failed.value.peak
        with pytest.raises(MemoryError, match="mine"):
            python_app(fail, data_flow_kernel=capped)().result(PATIENCE)


def test_enforce_memory_needs_a_share() -> None:
    """Without mem_per_worker there is nothing to enforce."""
    with pytest.raises(ValueError, match="needs mem_per_worker"):
        HighThroughputExecutor(enforce_memory=True)
