"""What a worker gives to a task, and what a task cannot do to the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import flowlib
from flowlib.executors.high_throughput import hygiene
from flowlib.executors.high_throughput import messages as m

from . import poisons
from .node_side import FakeInterchange


@pytest.fixture
def home(tmp_path: Path) -> Iterator[FakeInterchange]:
    """An interchange with a manager of one worker."""
    interchange = FakeInterchange(tmp_path)
    interchange.start(sys_path=[str(tmp_path / "extra")])
    interchange.until(lambda: interchange.register)
    yield interchange
    interchange.close()


def _look() -> dict[str, Any]:
    """The state of the worker, as the next task finds it."""
    import builtins
    import gc
    import resource

    stat = [os.fstat(fd) for fd in (0, 1, 2)]
    return {
        "pid": os.getpid(),
        "directory": os.getcwd(),
        "umask": os.umask(os.umask(0o22)),
        "environment": dict(os.environ),
        "native environment": subprocess.run(["env", "-0"], capture_output=True, check=True).stdout.count(b"\0"),
        "handlers": [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1)],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "path": list(sys.path),
        "streams": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
        "closed": [sys.stdin.closed, sys.stdout.closed, sys.stderr.closed],
        "descriptors": [(s.st_dev, s.st_ino) for s in stat],
        "builtins": sorted(vars(builtins)),
        "len": len("abc"),
        "recursion": sys.getrecursionlimit(),
        "collecting": gc.isenabled(),
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "trace": sys.gettrace(),
        "excepthook": sys.excepthook is sys.__excepthook__,
    }


# --------------------------------------------------------------------------------------------- what a task is given


def test_environment_of_a_worker(tmp_path: Path) -> None:
    """Rank, count, pool and block are in the environment, and each worker has an accelerator of its own."""
    home = FakeInterchange(tmp_path)
    try:
        home.start(max_workers_per_node=2, accelerators=["3", "5"], environment={"SITE": "here"}, block="b9")
        names = ["RANK", "COUNT", "POOL_ID", "BLOCK_ID"]
        wanted = [*(f"FLOWLIB_WORKER_{name}" for name in names), "CUDA_VISIBLE_DEVICES", "SITE"]

        def variables() -> list[str]:
            time.sleep(0.1)
            return [os.environ[name] for name in wanted]

        found = sorted(home.value(key) for key in home.tasks([(variables, (), {})] * 2))
        assert home.register is not None
        name = home.register.manager
        assert found == [["0", "2", name, "b9", "3", "here"], ["1", "2", name, "b9", "5", "here"]]
    finally:
        home.close()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU binding on this system")
def test_cpu_binding(tmp_path: Path) -> None:
    """A bound worker may use its CPUs only, and numerical libraries are told so."""
    cpu = max(os.sched_getaffinity(0))
    home = FakeInterchange(tmp_path)
    try:
        home.start(cpu_affinity=f"list:{cpu}")

        def bound() -> tuple[list[int], str, int]:
            return sorted(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"], flowlib.current().cores

        assert home.call(bound) == ([cpu], "1", 1)
    finally:
        home.close()


def test_variables_of_a_task(home: FakeInterchange) -> None:
    """They are there while it runs, and only then."""
    needs = m.Needs(environment={"MINE": "1"}, resources={"num_nodes": 3})

    def variables() -> tuple[str | None, str | None]:
        return os.environ.get("MINE"), os.environ.get("FLOWLIB_NUM_NODES")

    assert home.call(variables, needs=needs) == ("1", "3")
    assert home.call(variables) == (None, None)


def test_modules_beside_the_script(home: FakeInterchange) -> None:
    """What the driver's path holds can be imported."""
    extra = home.tmp_path / "extra"
    extra.mkdir()
    (extra / "beside_the_script.py").write_text("VALUE = 42\n")

    def use() -> int:
        import beside_the_script  # type: ignore[import-not-found]

        value: int = beside_the_script.VALUE
        return value

    assert home.call(use) == 42


def test_context(home: FakeInterchange) -> None:
    """A task sees itself, in its threads too, and what it says arrives before its result."""

    def talk() -> tuple[int, int, str, str, int | None, bool]:
        me = flowlib.current()
        me.progress(1, 2, "half")
        thread = threading.Thread(target=lambda: flowlib.current().emit([1, 2]))
        thread.start()
        thread.join()
        me.progress(2, 2)
        return me.task_id, me.attempt, me.app, me.executor, me.worker_rank, me.tmpdir.is_dir()

    key = home.task(talk)
    assert home.value(key) == (*key, "talk", "test", 0, True)
    notes = home.heard(m.Note)
    assert [note.kind for note in notes] == ["progress", "emit", "progress"]
    assert {(note.task, note.attempt) for note in notes} == {key}
    last = max(i for i, message in enumerate(home.messages) if isinstance(message, m.Note))
    assert last < next(i for i, message in enumerate(home.messages) if isinstance(message, m.Results))


def test_output_goes_to_the_log(home: FakeInterchange) -> None:
    """Of Python, of the descriptor, and of child processes."""

    def speak() -> None:
        print("from python", flush=False)
        os.write(2, b"from the descriptor\n")
        subprocess.run(["echo", "from a child"], check=True)

    home.call(speak)
    (log,) = home.tmp_path.rglob("worker_0.log")
    assert log.stat().st_mode & 0o077 == 0
    assert set(log.read_text().splitlines()) >= {"from python", "from the descriptor", "from a child"}


def test_function_that_cannot_be_rebuilt(home: FakeInterchange) -> None:
    """It fails its task, each time it is used; the worker goes on."""
    home.send(m.Tasks([m.Task(100, 0, 77, b"x")], [m.Function(77, "broken", b"no pickle at all")]))
    for attempt in (0, 1):
        if attempt:
            home.send(m.Tasks([m.Task(100, 1, 77, b"x")]))
        failure = home.failure((100, attempt), m.Status.RAISED)
        assert failure.type_name == "flowlib.errors.DeserializationError"
    assert home.call(max, 1, 2) == 2


def test_function_that_was_never_sent(home: FakeInterchange) -> None:
    """Its task fails and says so, instead of waiting for ever."""
    home.send(m.Tasks([m.Task(100, 0, 78, b"x")]))
    assert "78" in home.failure((100, 0), m.Status.RAISED).message


def test_coroutines(home: FakeInterchange) -> None:
    """An async function is run to its end."""

    async def double(x: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return 2 * x

    assert home.call(double, 4) == 8


# ------------------------------------------------------------------------------------------------- what it leaves


HARMLESS = [
    poisons.change_directory,
    poisons.remove_directory,
    poisons.change_umask,
    poisons.change_environment,
    poisons.replace_environment,
    poisons.change_handlers,
    poisons.arm_timer,
    poisons.change_path,
    poisons.replace_path,
    poisons.close_streams,
    poisons.detach_stream,
    poisons.replace_streams,
    poisons.close_descriptors,
    poisons.redirect_descriptors,
    poisons.patch_builtins,
    poisons.change_interpreter,
    poisons.change_limits,
    poisons.leave_a_zombie,
    poisons.leave_a_daemon_thread,
]


def test_what_can_be_put_right_is(home: FakeInterchange) -> None:
    """After each of these the same worker looks as it did before."""
    # The first call also imports this module there, and on Python 3.10 what pytest needs changes sys.excepthook.
    home.call(_look)
    before = home.call(_look)
    for harm in HARMLESS:
        assert home.call(harm) is None, harm.__name__
        after = home.call(_look)
        changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
        assert not changed, f"{harm.__name__}: {changed}"
    time_to_ring = home.call(time.sleep, 0.3)
    assert time_to_ring is None


@pytest.mark.parametrize(
    "leave",
    [
        poisons.leave_threads,
        poisons.leave_a_child,
        poisons.leave_a_daemon,
        poisons.leave_open_files,
        poisons.leave_shared_memory,
    ],
)
def test_what_cannot_be_put_right_ends_the_worker(home: FakeInterchange, leave: Callable[[], int]) -> None:
    """The task succeeds all the same, what it left is gone with its result, and another worker goes on at once."""
    shared = set(os.listdir("/dev/shm"))
    manager = psutil.Process(home.processes[0].pid)
    innocents = [(str.upper, ("a",), {})] * 5
    key = home.task(leave)
    others = home.tasks(innocents)
    pid = home.value(key)
    assert [home.value(other) for other in others] == ["A"] * 5
    children = {child.pid for child in manager.children(recursive=True)}
    assert "sleep" not in [p.info["name"] for p in psutil.process_iter(["name"]) if p.pid in children]
    assert home.call(os.getpid) != pid
    assert set(os.listdir("/dev/shm")) <= shared


def _gone(pid: int, deadline: float) -> bool:
    """Whether a process ends, or is only waited for, before a moment."""
    while time.monotonic() < deadline:
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            process.wait(0.1)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            continue
    return False


def test_forked_child_that_returns_speaks_for_nobody(home: FakeInterchange) -> None:
    """Only the worker answers."""
    assert home.call(poisons.fork_and_return) == 1
    assert home.call(max, 1, 2) == 2
    assert not home.duplicates


@pytest.mark.parametrize("harm", [poisons.close_everything, poisons.close_and_reuse, poisons.close_and_stay])
def test_broken_link(home: FakeInterchange, harm: Callable[[], None]) -> None:
    """A task that breaks its worker's connection fails, soon, and says what it did."""
    failure = home.failure(home.task(harm), m.Status.WORKER_LOST, 8)
    assert "descriptor" in failure.message
    assert home.call(max, 1, 2) == 2


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        ("os._exit(3)", "exit code 3"),
        ("os._exit(0)", "exit code 0"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("os.kill(os.getpid(), 15)", "killed by SIGTERM"),
        ("__import__('ctypes').string_at(0)", "killed by SIGSEGV (segmentation fault in native code)"),
        ("os.abort()", "killed by SIGABRT"),
    ],
)
def test_deaths_are_named(home: FakeInterchange, harm: str, text: str) -> None:
    """The failure says how the worker ended; native crashes leave a stack in the log, which is quoted."""
    failure = home.failure(home.task(exec, f"import os; {harm}"), m.Status.WORKER_LOST, 8)
    assert text in failure.message
    if "SEGV" in text or "ABRT" in text:
        assert "Fatal Python error" in failure.message


def test_death_loses_no_result_of_a_bundle(home: FakeInterchange) -> None:
    """Of short tasks that were sent together, only the one that kills the worker is lost, and none runs twice."""
    ran = home.tmp_path / "ran"

    def short(path: str, i: int, die: bool) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\n" % i)
        os.close(fd)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    for i in range(3):
        home.call(short, str(home.tmp_path / "known"), i, False)
    for key in home.tasks([(short, (str(home.tmp_path / "known"), i, False), {}) for i in range(50)]):
        home.value(key)
    keys = home.tasks([(short, (str(ran), i, i % 20 == 10), {}) for i in range(60)])
    for i, key in enumerate(keys):
        if i % 20 == 10:
            home.failure(key, m.Status.WORKER_LOST)
        else:
            assert home.value(key) == i
    assert sorted(map(int, ran.read_text().split())) == list(range(60))
    assert not home.duplicates


def test_results_before_a_long_task_do_not_wait_for_it(home: FakeInterchange) -> None:
    """They are collected where the worker has put them."""

    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    for _ in range(3):
        for key in home.tasks([(nap, (0.0,), {})] * 20):
            home.value(key)
    keys = home.tasks([*[(nap, (0.0,), {})] * 8, (nap, (20.0,), {}), *[(nap, (0.0,), {})] * 8])
    assert [home.value(key, 5) for key in keys[:8]] == [0.0] * 8
    home.send(m.Cancel(keys[9:]))
    assert [home.result(key, 5).status for key in keys[9:]] == [m.Status.WITHDRAWN] * 8
    assert keys[8] not in home.results


def test_death_takes_children_along(home: FakeInterchange) -> None:
    """Also those in sessions of their own."""
    pids = home.tmp_path / "pids"

    def die(pids: str) -> None:
        command = f"setsid sleep {poisons.FOREVER} & echo $! $$ > {pids}.part; mv {pids}.part {pids}; wait"
        subprocess.Popen(["bash", "-c", command])
        while not os.path.exists(pids):
            os.sched_yield()
        os._exit(1)

    home.failure(home.task(die, str(pids)), m.Status.WORKER_LOST, 8)
    assert home.call(max, 1, 2) == 2
    for pid in map(int, pids.read_text().split()):
        assert _gone(pid, time.monotonic() + 3), pid


@pytest.mark.parametrize(
    "how",
    ["raise SystemExit(3)", "raise KeyboardInterrupt", "import os; os.kill(os.getpid(), 2); [0 for _ in range(10**6)]"],
)
def test_what_ends_programs_ends_the_task_only(home: FakeInterchange, how: str) -> None:
    """The worker survives."""
    before = home.call(os.getpid)
    assert home.failure(home.task(exec, how), m.Status.RAISED).type_name == "flowlib.errors.AppAborted"
    assert home.call(os.getpid) == before


def test_a_flood_of_output_is_cut(home: FakeInterchange) -> None:
    """The log keeps the end of it."""

    def flood() -> None:
        for i in range(30):
            print(f"{i:02}" + "x" * 1_000_000)
        print("the end")

    home.call(flood)
    (log,) = home.tmp_path.rglob("worker_0.log")
    # Cut after the result has left; the next task runs after that.
    home.call(os.getpid)
    text = log.read_text()
    assert len(text) < hygiene.LOG_KEPT + 1000
    assert text.startswith("[flowlib: the first ")
    assert text.endswith("the end\n")


def test_context_variables_do_not_stay(home: FakeInterchange) -> None:
    """A decimal context, for example, is the task's own."""

    def change() -> int:
        import decimal

        before = decimal.getcontext().prec
        decimal.getcontext().prec = 5
        return before

    assert home.call(change) == home.call(change)


def test_stray_signals_between_tasks(home: FakeInterchange) -> None:
    """An interrupt or alarm that hits an idle worker is ignored."""
    pid = home.call(os.getpid)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGALRM)
    assert home.call(os.getpid) == pid
