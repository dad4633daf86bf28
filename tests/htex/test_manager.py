"""A manager process beside a small interchange: connecting, working, draining, ending, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.manager import LOST_CONTACT, NO_WORKERS, REJECTED, UNREACHABLE

from .node_side import FakeInterchange

TEMPLATE = "flowlib.executors.high_throughput.template"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[FakeInterchange]:
    """An interchange without encryption."""
    interchange = FakeInterchange(tmp_path)
    yield interchange
    interchange.close()


def _square(x: int) -> int:
    return x * x


def _nothing() -> None:
    return None


def _where() -> int:
    return os.getpid()


def _linger(path: str, seconds: float = 60) -> str:
    """Tell that it has begun, and stay until the file is removed."""
    Path(path).write_text(str(os.getpid()))
    deadline = time.monotonic() + seconds
    while Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    return "stayed"


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _template(process: subprocess.Popen[bytes]) -> psutil.Process:
    return next(child for child in psutil.Process(process.pid).children() if TEMPLATE in child.cmdline())


def _gone(family: list[psutil.Process], patience: float) -> None:
    _, alive = psutil.wait_procs(family, timeout=patience)
    assert not alive, f"alive after {patience} s: {alive}"


def _stderr(process: subprocess.Popen[bytes]) -> str:
    process.wait(20)
    assert process.stderr is not None
    return process.stderr.read().decode()


# -------------------------------------------------------------------------------------------------------- connecting


@pytest.mark.parametrize("encrypted", [False, True])
def test_works(tmp_path: Path, encrypted: bool) -> None:
    """It registers with what it is, runs tasks of all sizes, and says goodbye at the end."""
    home = FakeInterchange(tmp_path, encrypted=encrypted)
    try:
        process = home.start(max_workers_per_node=2, accelerators=["a", "b"], prefetch=5)
        home.until(lambda: home.register)
        assert home.register is not None
        facts = home.register
        assert (facts.protocol, facts.python, facts.slots, facts.prefetch) == (m.PROTOCOL, m.PYTHON, 2, 5)
        assert (facts.block, facts.gpus, facts.pid) == ("7", ["a", "b"], process.pid)
        assert facts.memory > 0
        assert "msgspec" in facts.packages
        assert [home.value(key) for key in home.tasks([(_square, (i,), {}) for i in range(300)])] == [
            i * i for i in range(300)
        ]
        large = b"x" * 3_000_000
        assert home.call(bytes.upper, large) == large.upper()
        home.send(m.Shutdown("done"))
        home.until(lambda: home.heard(m.Goodbye))
        assert process.wait(5) == 0
        assert not home.duplicates
    finally:
        home.close()


def test_first_address_that_answers_wins(home: FakeInterchange) -> None:
    """Addresses that nobody answers at do not keep it from the one that works."""
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))
        dead = [f"tcp://127.0.0.1:{s.getsockname()[1]}" for s in (silent, closed)]
        home.start(addresses=[*dead, home.address])
        assert home.call(_square, 3) == 9


def test_no_address_answers(home: FakeInterchange) -> None:
    """It ends, and names each address with what is wrong there."""
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))
        ports = [s.getsockname()[1] for s in (silent, closed)]
        process = home.start(addresses=[f"tcp://127.0.0.1:{port}" for port in ports], address_probe_timeout=0.5)
        text = _stderr(process)
    assert process.returncode == UNREACHABLE
    assert f"127.0.0.1:{ports[0]}: something listens there, but does not answer" in text
    assert f"127.0.0.1:{ports[1]}: connection refused" in text


def test_unknown_key_is_not_let_in(tmp_path: Path) -> None:
    """With another key than the issued one there is no connection, and the message says so."""
    home = FakeInterchange(tmp_path, encrypted=True)
    try:
        public, secret = zmq.curve_keypair()
        keys = {"client_public": public.decode(), "client_secret": secret.decode()}
        process = home.start(**keys, address_probe_timeout=2)
        home.until(lambda: process.poll() is not None)
        assert process.returncode == UNREACHABLE
        assert "does not know this block's key" in _stderr(process)
        assert home.register is None
    finally:
        home.close()


def test_rejection_is_printed(home: FakeInterchange) -> None:
    """A manager that is refused says why and ends, with its workers."""
    process = home.start()
    home.until(lambda: home.register)
    family = _family(process)
    home.send(m.Rejected("wrong version of everything"))
    assert "refuses this manager: wrong version of everything" in _stderr(process)
    assert process.returncode == REJECTED
    _gone(family, 5)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"cpu_affinity": "list:0:0:0"}, "lists the CPUs of 3 workers"),
        ({"addresses": []}, "names no address"),
        ({"heartbeat_period": "often"}, "is no block file"),
        ({"cwd": "/nowhere/at/all"}, "No such file"),
    ],
)
def test_bad_block_file(home: FakeInterchange, settings: dict[str, Any], text: str) -> None:
    """What makes no sense is refused before anything is started, in one line."""
    process = home.start(**settings)
    error = _stderr(process)
    assert text in error
    assert "Traceback" not in error
    assert process.returncode == 1


def test_comes_back_after_a_broken_connection(home: FakeInterchange) -> None:
    """It registers again and names what still runs; results of the time between are not lost."""
    path = home.tmp_path / "running"
    home.start()
    home.until(lambda: home.register)
    key = home.task(_linger, str(path))
    home.until(path.exists)
    home.router.unbind(home.address)
    home.router.close()
    home.poller.unregister(home.router)
    first, home.register = home.register, None
    home.router = home.context.socket(zmq.ROUTER)
    home.router.linger = 0
    home.until(lambda: _binds(home.router, home.address))
    home.poller.register(home.router, zmq.POLLIN)
    home.until(lambda: home.register)
    assert home.register is not None
    assert first is not None
    assert home.register.manager == first.manager
    assert home.register.running == [key]
    path.unlink()
    assert home.value(key) == "stayed"


def _binds(router: zmq.Socket[bytes], address: str) -> bool:
    """Whether the address could be bound: ZeroMQ closes the listener before it in a thread of its own."""
    try:
        router.bind(address)
    except zmq.ZMQError as e:
        if e.errno != zmq.EADDRINUSE:
            raise
        return False
    return True


def test_lease_ends_without_a_connection(home: FakeInterchange) -> None:
    """With the interchange gone for longer than the lease it ends with all it started."""
    process = home.start(lease=0.5)
    home.until(lambda: home.register)
    assert home.call(_square, 2) == 4
    family = _family(process)
    home.router.close()
    home.poller.unregister(home.router)
    began = time.monotonic()
    assert "no connection to the interchange for 0.5 s" in _stderr(process)
    assert process.returncode == LOST_CONTACT
    assert time.monotonic() - began < 5
    _gone(family, 5)
    home.identity = b""
    home.router = home.context.socket(zmq.ROUTER)


def test_heartbeats(home: FakeInterchange) -> None:
    """It sends heartbeats as often as the interchange wants."""
    home.start(heartbeat_period=60)
    home.until(lambda: len(home.heard(m.Heartbeat)) >= 2)


# --------------------------------------------------------------------------------------------------------- the end


def test_silence_of_the_driver_ends_it(home: FakeInterchange) -> None:
    """At end-of-file of the lifeline it ends within a second, whatever runs."""
    read, write = os.pipe()
    try:
        path = home.tmp_path / "running"
        process = home.start(environment={"FLOWLIB_LIFELINE": str(read)}, pass_fds=(read,))
        home.until(lambda: home.register)
        home.task(_linger, str(path))
        home.until(path.exists)
        family = _family(process)
    finally:
        os.close(read)
        os.close(write)
    began = time.monotonic()
    _gone(family, 5)
    assert process.wait(5) == 0
    assert time.monotonic() - began < 4


def test_killed_manager_leaves_nothing(home: FakeInterchange) -> None:
    """Its template kills all workers with their children and ends."""
    path = home.tmp_path / "running"

    def with_child(path: str) -> None:
        subprocess.Popen(["bash", "-c", "setsid sleep 6007 & sleep 6007"])
        deadline = time.monotonic() + 10
        while len(psutil.Process().children(recursive=True)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        Path(path).touch()
        time.sleep(60)

    process = home.start(max_workers_per_node=2)
    home.until(lambda: home.register)
    home.task(with_child, str(path))
    home.until(path.exists)
    family = _family(process)
    assert len(family) >= 6
    process.kill()
    process.wait(5)
    _gone(family, 5)
    home.identity = b""


def test_shutdown_does_not_wait(home: FakeInterchange) -> None:
    """What runs is killed and told to be lost."""
    path = home.tmp_path / "running"
    process = home.start()
    home.until(lambda: home.register)
    key = home.task(_linger, str(path))
    home.until(path.exists)
    home.send(m.Shutdown("enough"))
    assert "enough" in home.failure(key, m.Status.LOST, 5).message
    home.until(lambda: home.heard(m.Goodbye), 5)
    assert process.wait(5) == 0


def test_drain_finishes_what_runs(home: FakeInterchange) -> None:
    """Waiting tasks come back unstarted, the running one ends in its own time, then it says goodbye."""
    path = home.tmp_path / "running"
    process = home.start()
    home.until(lambda: home.register)
    running = home.task(_linger, str(path))
    waiting = home.tasks([(_square, (i,), {}) for i in range(5)])
    home.until(path.exists)
    home.send(m.Drain("block is not needed"))
    for key in waiting:
        assert home.result(key).status == m.Status.WITHDRAWN
    late = home.task(_nothing)
    assert home.result(late).status == m.Status.WITHDRAWN
    assert running not in home.results
    path.unlink()
    assert home.value(running) == "stayed"
    home.until(lambda: home.heard(m.Goodbye))
    assert process.wait(5) == 0


def test_drain_period(home: FakeInterchange) -> None:
    """When its time is over it tells the interchange, and leaves."""
    process = home.start(drain_period=0.2)
    home.until(lambda: home.heard(m.Goodbye))
    assert home.heard(m.Drain)
    assert process.wait(5) == 0


def test_sigterm_gives_running_tasks_a_moment(home: FakeInterchange) -> None:
    """As at the end of a batch job: what does not finish within the grace is lost, at nobody's cost but the node's."""
    read, write = os.pipe()
    try:
        path = home.tmp_path / "running"
        process = home.start(environment={"FLOWLIB_LIFELINE": str(read)}, pass_fds=(read,))
        home.until(lambda: home.register)
        key = home.task(_linger, str(path))
        behind = home.task(_nothing)
        home.until(path.exists)
        process.terminate()
        assert home.result(behind, 5).status == m.Status.WITHDRAWN
        assert "SIGTERM" in home.failure(key, m.Status.LOST, 5).message
        home.until(lambda: home.heard(m.Goodbye), 5)
        assert process.wait(5) == 0
    finally:
        os.close(read)
        os.close(write)


def test_sigterm_while_idle_ends_at_once(home: FakeInterchange) -> None:
    """Nothing to wait for."""
    process = home.start()
    home.call(_square, 2)
    process.terminate()
    home.until(lambda: home.heard(m.Goodbye), 5)
    assert process.wait(5) == 0


# ------------------------------------------------------------------------------------------- workers and template


def test_cancel(home: FakeInterchange) -> None:
    """A waiting task is withdrawn, a running one and an unknown one are not."""
    path = home.tmp_path / "running"
    home.start()
    home.until(lambda: home.register)
    running = home.task(_linger, str(path))
    waiting = home.task(_nothing)
    home.until(path.exists)
    home.send(m.Cancel([running, waiting, (999, 0)]))
    assert home.result(waiting).status == m.Status.WITHDRAWN
    home.until(lambda: home.heard(m.NotCancelled))
    assert sorted(home.heard(m.NotCancelled)[0].tasks) == [running, (999, 0)]
    path.unlink()
    assert home.value(running) == "stayed"


def test_tasks_behind_a_long_one_go_elsewhere(home: FakeInterchange) -> None:
    """A function known as short is sent in bundles; when one call is long, those behind it run on another worker."""
    path = home.tmp_path / "running"

    def either(path: str) -> int:
        if path:
            Path(path).touch()
            deadline = time.monotonic() + 30
            while Path(path).exists() and time.monotonic() < deadline:
                time.sleep(0.002)
        return os.getpid()

    home.start(max_workers_per_node=2)
    home.until(lambda: home.register)
    for _ in range(3):
        for key in home.tasks([(either, ("",), {})] * 20):
            home.value(key)
    keys = home.tasks([(either, (str(path),), {}), *[(either, ("",), {})] * 60])
    home.until(lambda: all(key in home.results for key in keys[1:]), 10)
    assert keys[0] not in home.results
    path.unlink()
    assert home.value(keys[0]) not in {home.value(key) for key in keys[40:]}
    assert not home.duplicates
    assert home.call(_square, 5) == 25


def test_killed_worker_costs_one_task(home: FakeInterchange) -> None:
    """The running task fails with what is known, those behind it run on, and so does the next worker."""
    path = home.tmp_path / "running"
    home.start()
    home.until(lambda: home.register)
    key = home.task(_linger, str(path))
    others = home.tasks([(_square, (i,), {}) for i in range(10)])
    before = time.time()
    home.until(lambda: path.exists() and path.read_text())
    os.kill(int(path.read_text()), signal.SIGKILL)
    failure = home.failure(key, m.Status.WORKER_LOST, 5)
    lost = home.result(key)
    assert before - 60 < lost.started < lost.ended <= time.time()
    assert failure.type_name == "flowlib.errors.WorkerLost"
    assert failure.arguments is not None
    rank, host, reason, log = failure.arguments
    assert (rank, host) == (0, socket.gethostname())
    assert reason.startswith("killed by SIGKILL")
    assert "the kernel's out-of-memory killer" in reason
    assert "largest memory use was" in reason
    assert Path(log).exists()
    assert [home.value(other) for other in others] == [i * i for i in range(10)]


def test_stopped_worker_is_killed(home: FakeInterchange) -> None:
    """A worker that a signal has stopped for longer than the heartbeat threshold does not keep its task for ever."""

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    home.start()
    home.until(lambda: home.register)
    home.send(m.Registered(heartbeat_period=0.2, heartbeat_threshold=1.5))
    key = home.task(stop)
    home.until(lambda: key in home.results or home.send(m.Heartbeat()), 10)
    assert "stopped by a signal for more than 1.5 s" in home.failure(key, m.Status.WORKER_LOST).message
    assert home.call(_square, 4) == 16


def test_walltime(home: FakeInterchange) -> None:
    """The task is stopped by an exception that names its walltime; the worker goes on."""
    home.start()
    home.until(lambda: home.register)
    before = home.call(_where)
    failure = home.failure(home.task(time.sleep, 60, needs=m.Needs(walltime=0.1)), m.Status.RAISED, 5)
    assert failure.type_name == "flowlib.errors.AppTimeout"
    assert "walltime of 0.1 s" in failure.message
    assert home.call(_where) == before


def test_walltime_of_a_task_that_does_not_heed_it(home: FakeInterchange) -> None:
    """It is killed with its worker some grace later."""

    def stubborn() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                time.sleep(60)
            except Exception:
                continue

    home.start()
    home.until(lambda: home.register)
    failure = home.failure(home.task(stubborn, needs=m.Needs(walltime=0.1)), m.Status.RAISED, 10)
    assert failure.type_name == "flowlib.errors.AppTimeout"
    assert "walltime of 0.1 s" in failure.message
    assert home.call(_square, 6) == 36


def test_a_walltime_that_is_kept_leaves_no_alarm(home: FakeInterchange) -> None:
    """The next task is not hit by it."""
    home.start()
    home.until(lambda: home.register)
    assert home.call(_square, 2, needs=m.Needs(walltime=1.0)) == 4
    assert home.call(time.sleep, 1.1) is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_lost_template_is_replaced(home: FakeInterchange, how: signal.Signals) -> None:
    """Running tasks are lost at the node's cost, waiting ones run on new workers; also when it is silent only."""
    path = home.tmp_path / "running"
    process = home.start()
    home.until(lambda: home.register)
    key = home.task(_linger, str(path))
    waiting = home.task(_square, 7)
    home.until(lambda: path.exists() and path.read_text())
    template = _template(process)
    template.send_signal(how)
    if how == signal.SIGKILL:
        failure = home.failure(key, m.Status.LOST, 30)
        assert "the process that forks workers was lost" in failure.message
    else:
        # Nobody waits for this worker any more: that is how the silence shows.
        os.kill(int(path.read_text()), signal.SIGKILL)
        assert "ended without a word" in home.failure(key, m.Status.WORKER_LOST, 30).message
    assert home.value(waiting) == 49
    _gone([template], 5)


def test_workers_that_do_not_come_up(home: FakeInterchange) -> None:
    """After three in a row it ends, and says why; it never loops."""
    # Allowed as far as the manager can see: the workers find out that there is no such CPU.
    code = "import flowlib.executors.high_throughput.node as n; n.usable_cpus = lambda: [0, 1000]\n"
    (home.tmp_path / "sitecustomize.py").write_text(code)
    path = f"{home.tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    process = home.start(cpu_affinity="list:1000", environment={"PYTHONPATH": path})
    home.until(lambda: home.heard(m.Goodbye))
    text = _stderr(process)
    assert process.returncode == NO_WORKERS
    assert "3 workers in a row did not come up" in text
    assert "did not come up" in home.heard(m.Goodbye)[0].reason


def test_template_keeps_signals_of_the_scheduler_out(home: FakeInterchange) -> None:
    """A SIGTERM to every process of a job does not take the template from under a manager that is still draining."""
    process = home.start()
    home.call(_square, 1)
    template = _template(process)
    template.send_signal(signal.SIGTERM)
    template.send_signal(signal.SIGINT)
    assert home.call(_square, 3) == 9
    assert template.is_running()


def test_forgotten_functions(home: FakeInterchange) -> None:
    """After a function is forgotten it can be sent again and means the new thing."""
    home.start()
    home.until(lambda: home.register)
    assert home.call(_square, 3) == 9
    home.send(m.Forget([1]))
    functions: dict[Callable[..., Any], int] = home._functions
    functions.clear()
    assert home.call(str.upper, "abc") == "ABC"
