"""The high-throughput executor with an interchange of its own and managers that are stand-ins."""

from __future__ import annotations

import inspect
import os
import platform
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowlib.dataflow.outcomes import Blame, Failed
from flowlib.errors import (
    BadStateException,
    ExecutorError,
    InterchangeLost,
    InvalidResourceSpecification,
    ManagerLost,
    SerializationError,
    TooManyJobFailuresError,
    VersionMismatch,
)
from flowlib.events.schema import Code
from flowlib.executors import HighThroughputExecutor
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.link import Link
from flowlib.jobs.error_handlers import noop_error_handler, simple_error_handler
from flowlib.jobs.states import JobState, JobStatus
from flowlib.options import PLAIN, TaskOptions
from flowlib.providers import LocalProvider
from flowlib.serialize.arguments import dump_call

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0
FAKE = f"env PYTHONPATH={ROOT} {sys.executable} -m tests.htex.fake_manager {{blockfile}}"


class Kernel:
    """Takes reports and events."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[int, int], Any] = {}
        self.changed = threading.Condition()
        self.events: list[tuple[Any, ...]] = []

    def report(self, batch: Any) -> None:
        with self.changed:
            for record, attempt, outcome in batch:
                assert (record.id, attempt) not in self.outcomes, "reported twice"
                self.outcomes[record.id, attempt] = outcome
            self.changed.notify_all()

    def wait_for(self, *ids: int) -> list[Any]:
        """The outcomes of first attempts."""
        keys = [(n, 0) for n in ids]
        with self.changed:
            assert self.changed.wait_for(lambda: all(k in self.outcomes for k in keys), DEADLINE)
            return [self.outcomes[k] for k in keys]


def record(number: int, **options: Any) -> Any:
    """As much of a task as an executor looks at."""
    walltime = options.pop("walltime", None)
    specification = options.pop("specification", {})
    return SimpleNamespace(
        id=number,
        app=SimpleNamespace(name="f", kind="python"),
        options=TaskOptions(**options) if options else PLAIN,
        walltime=walltime,
        resource_specification=specification,
        rare=None,
        depends=False,
    )


@pytest.fixture
def kernel() -> Kernel:
    """A kernel's ears."""
    return Kernel()


@pytest.fixture
def make(tmp_path: Path, kernel: Kernel) -> Iterator[Callable[..., HighThroughputExecutor]]:
    """Makes executors that are shut down afterwards."""
    made: list[HighThroughputExecutor] = []

    def build(start: bool = True, **options: Any) -> HighThroughputExecutor:
        executor = HighThroughputExecutor(**{"label": "htex", "launch_cmd": FAKE, "object_threshold": None, **options})
        executor.run_dir = str(tmp_path / "run")
        executor.report, executor.emit = kernel.report, kernel.events.append
        executor.strategy_period = 0.5
        made.append(executor)
        if start:
            executor.start()
        return executor

    yield build
    for executor in made:
        executor.shutdown()


def block_for(path: str) -> int:
    """Says that it runs, and runs until a file is there; gives up after a while."""
    Path(f"{path}.waiting").touch()
    deadline = time.monotonic() + 15
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    return 1


def raise_value_error(text: str) -> None:
    """Fails."""
    raise ValueError(text)


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that nobody announces."""
    ticker, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        ticker.wait(0.01)


# ------------------------------------------------------------------------------------------------------- constructor


def test_constructor_touches_nothing() -> None:
    """Making an executor opens no file, no socket, starts no process and looks up no name."""
    program = (
        "import sys\n"
        "from flowlib.executors import HighThroughputExecutor\n"
        "from flowlib.providers import LocalProvider\n"
        "seen = []\n"
        "def audit(event, arguments):\n"
        "    if event.startswith(('open', 'socket', 'subprocess', 'os.mkdir', 'os.fork', 'os.posix_spawn')):\n"
        "        seen.append(event)\n"
        "HighThroughputExecutor(provider=LocalProvider())\n"
        "sys.addaudithook(audit)\n"
        "HighThroughputExecutor(provider=LocalProvider())\n"
        "print(seen)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_workers": 3}, TypeError, ["max_workers", "max_workers_per_node"]),
        ({"labl": "x"}, TypeError, ["label"]),
        ({"label": 3}, TypeError, ["label", "string", "int"]),
        ({"label": ""}, ValueError, ["label"]),
        ({"label": "a/b"}, ValueError, ["label", "directory"]),
        ({"cores_per_worker": "many"}, TypeError, ["cores_per_worker", "number"]),
        ({"cores_per_worker": 0}, ValueError, ["cores_per_worker", "above 0"]),
        ({"max_workers_per_node": 0}, ValueError, ["max_workers_per_node", "1"]),
        ({"max_workers_per_node": 1.5}, TypeError, ["max_workers_per_node", "whole"]),
        ({"cpu_affinity": "alternate"}, ValueError, ["alternating"]),
        ({"cpu_affinity": "list:3-1"}, ValueError, ["list:"]),
        ({"available_accelerators": "0"}, TypeError, ["available_accelerators"]),
        ({"available_accelerators": ["a", "a"]}, ValueError, ["once"]),
        ({"worker_port_range": (60000, 50000)}, ValueError, ["worker_port_range"]),
        ({"worker_port_range": 5}, TypeError, ["worker_port_range"]),
        ({"heartbeat_period": 5, "heartbeat_threshold": 5}, ValueError, ["heartbeat_threshold", "heartbeat_period"]),
        ({"manager_selector": "random"}, TypeError, ["RandomManagerSelector"]),
        ({"provider": "slurm"}, TypeError, ["LocalProvider"]),
        ({"block_error_handler": "no"}, TypeError, ["block_error_handler"]),
        ({"encrypted": 1}, TypeError, ["encrypted"]),
        ({"launch_cmd": "pool.py {addresses}"}, ValueError, ["addresses", "{command}"]),
        ({"launch_cmd": "pool.py"}, ValueError, ["{command}"]),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_mistakes_are_refused(options: dict[str, Any], error: type[Exception], words: list[str]) -> None:
    """Unknown names, wrong types and impossible values are refused, with what is allowed."""
    with pytest.raises(error) as caught:
        HighThroughputExecutor(**options)
    for word in words:
        assert word in str(caught.value)


def test_every_parameter_of_the_field() -> None:
    """All parameters that configurations of the field use are accepted; those without effect say so."""
    from flowlib.executors.high_throughput.manager_selector import BlockIdManagerSelector

    with pytest.warns(UserWarning, match="no effect") as told:
        executor = HighThroughputExecutor(
            label="all", provider=LocalProvider(), launch_cmd="nice {command}", interchange_launch_cmd=["x"],
            address="127.0.0.1", loopback_address="127.0.0.1", worker_port=54321, worker_port_range=(50000, 51000),
            interchange_port_range=(40000, 41000), storage_access=[], working_dir="/tmp", worker_debug=True,
            cores_per_worker=0.5, mem_per_worker=2, max_workers_per_node=float("inf"), cpu_affinity="list:0,1:2-3",
            available_accelerators=2, prefetch_capacity=1, heartbeat_threshold=10, heartbeat_period=2, drain_period=60,
            poll_period=20, address_probe_timeout=5, worker_logdir_root="/tmp/x",
            manager_selector=BlockIdManagerSelector(), block_error_handler=False, encrypted=False,
            remote_monitoring_radio=object(),
        )  # fmt: skip
    assert {str(w.message).partition("(")[2].partition("=")[0] for w in told} == {
        "interchange_port_range", "poll_period", "remote_monitoring_radio",
    }  # fmt: skip
    assert told[0].filename == __file__
    assert all(hasattr(executor, name) for name in inspect.signature(HighThroughputExecutor).parameters)
    assert executor.available_accelerators == ["0", "1"] and executor.max_workers_per_node is None
    assert "label='all'" in repr(executor) and "secret" not in repr(executor)


def test_names_of_the_field() -> None:
    """Error handlers and the check of specifications are there under the names that the field uses."""
    assert HighThroughputExecutor().block_error_handler is simple_error_handler
    assert HighThroughputExecutor(block_error_handler=False).block_error_handler is noop_error_handler
    calls: list[Any] = []
    executor = HighThroughputExecutor(block_error_handler=lambda *given: calls.append(given))
    status = {"0": JobStatus(JobState.FAILED)}
    executor.handle_errors(status)
    assert calls == [(executor, status)] and executor.status_facade == {}
    executor.validate_resource_spec({"priority": 2})
    with pytest.raises(InvalidResourceSpecification):
        executor.validate_resource_spec({"num_nodes": 2})


# --------------------------------------------------------------------------------------------------------- in action


@pytest.mark.parametrize("encrypted", [True, False])
def test_calls_come_back(make: Any, encrypted: bool) -> None:
    """Values and exceptions of calls come back, large ones too, and everything ends in time."""
    executor = make(encrypted=encrypted)
    futures = [executor.submit(divmod, {}, n, 7) for n in range(1000)]
    assert [f.result(DEADLINE) for f in futures] == [divmod(n, 7) for n in range(1000)]
    big = executor.submit(bytes, {}, 10_000_000).result(DEADLINE)
    assert executor.submit(len, {}, big).result(DEADLINE) == 10_000_000
    error = executor.submit(raise_value_error, {}, "why").exception(DEADLINE)
    assert isinstance(error, ValueError) and str(error) == "why" and "raise_value_error" in str(error.__cause__)
    offset = 5
    assert executor.submit(lambda x: x + offset, {"priority": 3}, 1).result(DEADLINE) == 6
    assert executor.outstanding() == 0
    began = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - began < 2
    executor.shutdown()
    with pytest.raises(ExecutorError, match="not running"):
        executor.submit(abs, {}, 1)


def test_attempts_of_a_kernel(make: Any, kernel: Kernel) -> None:
    """Launched attempts are reported once, pickled as they came, with the blame; the event log hears of each."""
    executor = make()
    for n in range(100):
        executor.launch(record(n), 0, divmod, (n, 7), {})
    executor.launch(record(100, walltime=5.0), 0, raise_value_error, ("x",), {})
    *values, failed = kernel.wait_for(*range(101))
    assert [v.value() for v in values] == [divmod(n, 7) for n in range(100)]
    assert isinstance(failed, Failed) and failed.blame is Blame.USER and isinstance(failed.error, ValueError)
    assert failed.error is failed.error
    until(lambda: sum(e[0] == Code.TRY_ENDED for e in kernel.events) == 101, "events are missing")
    last = next(e for e in kernel.events if e[0] == Code.TRY_ENDED and e[2] == 100)
    assert last[4] == 1 and last[9:] == ("builtins.ValueError", "x")
    assert [e[4] for e in kernel.events if e[0] == Code.MANAGER][:1] == [next(iter(executor._here().fleet.members))]


def test_unsendable_things_are_refused_at_once(make: Any) -> None:
    """What cannot be pickled raises in the call, and leaves nothing behind."""
    executor = make()
    with pytest.raises(SerializationError, match="argument 0"):
        executor.submit(len, {}, threading.Lock())
    lock = threading.Lock()
    with pytest.raises(SerializationError, match="lock"):
        executor.submit(lambda: lock, {})
    assert executor.outstanding() == 0


def test_priorities_reach_the_queue(make: Any, kernel: Kernel, tmp_path: Path) -> None:
    """Higher ``priority`` first; a resource specification's priority, lower first, before all without one."""
    executor = make()
    order = tmp_path / "order"
    gate = str(tmp_path / "gate")
    executor.launch(record(0), 0, block_for, (gate,), {})
    until(lambda: executor.connected_managers() and executor.connected_managers()[0]["tasks"] == 1, "no worker")

    def note(n: int) -> None:
        with order.open("a") as file:
            file.write(f"{n} ")

    asked = [{}, {"priority": 2}, {"specification": {"priority": 9}}, {"specification": {"priority": 1}},
             {"priority": -1}, {"specification": {"priority": float("inf")}}]  # fmt: skip
    for n, options in enumerate(asked, 1):
        executor.launch(record(n, **options), 0, note, (n,), {})
    executor.connected_managers()
    open(gate, "w").close()
    kernel.wait_for(*range(len(asked) + 1))
    assert order.read_text().split() == ["4", "3", "2", "1", "6", "5"]
    with pytest.raises(InvalidResourceSpecification, match="one of them"):
        executor.launch(record(50, priority=1, specification={"priority": 1}), 0, note, (1,), {})


@pytest.mark.parametrize(
    ("specification", "word"),
    [({"cores": -2}, "at least 0"), ({"gpus": 1.5}, "give 1 or 2"), ({"prioritty": 1}, "did you mean 'priority'"), ({"priority": "x"}, "number"),
     ({"priority": float("nan")}, "number"), ({"priority": 1, "color": 2}, "color")],
)  # fmt: skip
def test_resource_specifications(specification: dict[str, Any], word: str) -> None:
    """What makes no sense is refused, and named."""
    executor = HighThroughputExecutor()
    executor.validate_resources({})
    executor.validate_resources({"priority": 1.5, "cores": 2})
    with pytest.raises(InvalidResourceSpecification, match=word):
        executor.validate_resources(specification)


def test_cancel(make: Any, kernel: Kernel, tmp_path: Path) -> None:
    """Attempts that wait are withdrawn, at the interchange and at a manager; the one that runs is not."""
    executor = make(prefetch_capacity=2)
    gate = str(tmp_path / "gate")
    records = [record(n) for n in range(6)]
    for each in records:
        executor.launch(each, 0, block_for, (gate,), {})
    until(lambda: executor.connected_managers() and executor.connected_managers()[0]["tasks"] == 3, "no tasks there")
    until(lambda: os.path.exists(f"{gate}.waiting"), "none runs")
    assert executor.cancel(records[5], 0)
    assert executor.cancel(records[5], 0) is False, "it is gone"
    assert executor.cancel(record(77), 0) is False
    assert executor.cancel(records[0], 0) is False, "it runs, or nobody answers in a second"
    open(gate, "w").close()
    kernel.wait_for(0, 1, 2, 3, 4)
    assert (5, 0) not in kernel.outcomes
    assert executor.outstanding() == 0


def test_what_scripts_ask(make: Any) -> None:
    """Managers, their packages, blocks and workers can be asked for; held blocks get nothing more."""
    executor = make(provider=LocalProvider(init_blocks=2, max_blocks=2))
    until(lambda: len(executor.connected_managers()) == 2, "two managers")
    managers = executor.connected_managers()
    assert {"manager", "block_id", "worker_count", "tasks", "idle_duration", "active", "draining", "python_version",
            "flowlib_version"} <= managers[0].keys()  # fmt: skip
    assert sorted(executor.connected_blocks()) == ["0", "1"]
    assert {m["python_version"] for m in managers} == {platform.python_version()}
    assert set(executor.connected_managers_packages()) == {m["manager"] for m in managers}
    assert executor.workers_per_node == 1
    assert set(executor.status()) == {"0", "1"} == set(executor.blocks_to_job_id)
    assert executor.job_ids_to_block[executor.blocks_to_job_id["1"]] == "1"
    assert len(executor._hold_block("0")) == 1
    assert {m["block_id"]: m["active"] for m in executor.connected_managers()} == {"0": False, "1": True}
    assert executor.scale_in(["0"]) == ["0"]
    until(lambda: len(executor.connected_managers()) == 1, "block 0 ends")


def test_blocks_that_are_told_to_end_get_nothing_more(make: Any) -> None:
    """What is submitted after ``scale_in`` goes to other blocks, however long the managers of that one live."""
    executor = make(provider=LocalProvider(init_blocks=1, max_blocks=2))
    until(lambda: len(executor.connected_managers()) == 1, "a manager")
    executor._here().blocks.scale_in = lambda *args, **options: None
    assert executor.scale_in(1) == ["0"]
    assert [m["active"] for m in executor.connected_managers()] == [False]


def test_keys_are_private(make: Any, tmp_path: Path) -> None:
    """Directories and files with keys belong to their owner, no key is on a command line or in a script or log."""
    executor = make()
    assert executor.submit(abs, {}, -1).result(DEADLINE) == 1
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    (block,) = [p for p in files if p.name == "block.json"]
    assert stat.S_IMODE(block.stat().st_mode) == 0o600
    assert stat.S_IMODE(block.parent.stat().st_mode) == 0o700 == stat.S_IMODE((tmp_path / "run/htex").stat().st_mode)
    import json

    content = json.loads(block.read_text())
    secret = content["client_secret"]
    assert len(secret) == 40 and content["server_public"] and "server_secret" not in content
    for path in files:
        assert path == block or secret not in path.read_text(errors="replace")
    import psutil

    for process in psutil.Process().children(recursive=True):
        assert secret not in " ".join(process.cmdline())


def test_restart(make: Any) -> None:
    """An executor that was shut down can be started again, with new keys and a new interchange."""
    executor = make()
    assert executor.submit(abs, {}, -1).result(DEADLINE) == 1
    first = executor._here()._server
    with pytest.raises(ExecutorError, match="already"):
        executor.start()
    executor.shutdown()
    executor.start()
    assert executor.submit(abs, {}, -2).result(DEADLINE) == 2
    assert executor._here()._server != first


# ----------------------------------------------------------------------------------------------------------- trouble


def test_interchange_killed(make: Any, kernel: Kernel, tmp_path: Path) -> None:
    """One that dies and is not replaced: everything fails at once with the cause, and nothing more is taken."""
    executor = make(start=False)
    executor.interchange_restarts = 0
    executor.start()
    assert executor.submit(abs, {}, -1).result(DEADLINE) == 1
    gate = str(tmp_path / "gate")
    for n in range(50):
        executor.launch(record(n), 0, block_for, (gate,), {})
    direct = executor.submit(block_for, {}, gate)
    began = time.monotonic()
    os.kill(executor._here().client.pid, signal.SIGKILL)
    outcomes = kernel.wait_for(*range(50))
    assert time.monotonic() - began < 3
    for outcome in outcomes:
        assert outcome.blame is Blame.REFUSED and isinstance(outcome.error, BadStateException)
        assert isinstance(outcome.error.__cause__, InterchangeLost) and "signal 9" in str(outcome.error)
    assert isinstance(direct.exception(DEADLINE), BadStateException)
    assert executor.bad_state_is_set and isinstance(executor.executor_exception, InterchangeLost)
    with pytest.raises(BadStateException, match="interchange"):
        executor.submit(abs, {}, 1)
    assert executor.cancel(record(1), 0) is False
    with pytest.raises(BadStateException):
        executor.connected_managers()
    open(gate, "w").close()
    until(lambda: all(s.state.terminal for s in executor.status().values()), "blocks end")


def test_interchange_stopped(make: Any, kernel: Kernel) -> None:
    """One that hangs is killed after the threshold; if it is not replaced, everything fails with the cause."""
    executor = make(start=False, heartbeat_period=0.2, heartbeat_threshold=1)
    executor.interchange_restarts = 0
    executor.start()
    assert executor.submit(abs, {}, -1).result(DEADLINE) == 1
    os.kill(executor._here().client.pid, signal.SIGSTOP)
    executor.launch(record(1), 0, abs, (1,), {})
    began = time.monotonic()
    (outcome,) = kernel.wait_for(1)
    assert time.monotonic() - began < 1 + 5
    assert isinstance(outcome.error.__cause__, InterchangeLost) and "nothing was heard" in str(outcome.error)


def test_interchange_that_cannot_start(make: Any) -> None:
    """A command that does not exist raises at start; one that ends at once breaks the executor, with its last words."""
    executor = make(start=False, interchange_launch_cmd=["/nonexistent/interchange"])
    with pytest.raises(ExecutorError, match="nonexistent"):
        executor.start()
    broken = make(interchange_launch_cmd=[sys.executable, "-c", "raise SystemExit('no such luck')"])
    until(lambda: broken.bad_state_is_set, "bad state")
    assert "no such luck" in str(broken.executor_exception) and "code 1" in str(broken.executor_exception)


def test_port_that_is_taken(make: Any) -> None:
    """A port that cannot be bound breaks the executor with what to do."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        executor = make(worker_port=taken.getsockname()[1])
        until(lambda: executor.bad_state_is_set, "bad state")
        assert "worker_port" in str(executor.executor_exception)


def test_manager_killed(make: Any, kernel: Kernel, tmp_path: Path) -> None:
    """A dead local manager is noticed long before its heartbeat is missed; its task is lost, and a new block comes."""
    executor = make(provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1))
    import json

    pid = executor.submit(os.getpid, {}).result(DEADLINE)
    gate = str(tmp_path / "gate")
    executor.launch(record(1), 0, block_for, (gate,), {})
    until(lambda: executor.connected_managers()[0]["tasks"] == 1, "it runs")
    os.kill(pid, signal.SIGKILL)
    (outcome,) = kernel.wait_for(1)
    assert outcome.blame is Blame.INFRASTRUCTURE and isinstance(outcome.error, ManagerLost)
    assert json.dumps(outcome.error.hostname)
    open(gate, "w").close()
    assert executor.submit(os.getpid, {}).result(DEADLINE) != pid


def test_managers_of_another_python(make: Any, kernel: Kernel) -> None:
    """When the only managers are refused for their version, tasks fail with both versions instead of waiting."""
    executor = make(launch_cmd=f"env FAKE_PYTHON=2.7 {FAKE}")
    executor.launch(record(1), 0, abs, (1,), {})
    (outcome,) = kernel.wait_for(1)
    assert outcome.blame is Blame.REFUSED and isinstance(outcome.error, BadStateException)
    assert isinstance(outcome.error.__cause__, VersionMismatch) and "Python 2.7" in str(outcome.error)


def test_blocks_that_never_come_up(make: Any, kernel: Kernel) -> None:
    """Blocks that end without a manager break the executor, with the end of what they printed."""
    executor = make(launch_cmd="echo boom {command} >&2; exit 7; :")
    executor.launch(record(1), 0, abs, (1,), {})
    (outcome,) = kernel.wait_for(1)
    assert isinstance(outcome.error, BadStateException)
    assert isinstance(outcome.error.__cause__, TooManyJobFailuresError) and "boom" in str(outcome.error)


def test_error_in_the_io_thread(make: Any, kernel: Kernel) -> None:
    """Even a bug in what results are reported to cannot stop the thread silently: pending tasks fail with the cause."""
    executor = make()
    calls: list[Any] = []

    def report(batch: Any) -> None:
        calls.append(batch)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        kernel.report(batch)

    executor.report = report
    until(lambda: executor.connected_managers(), "a manager")
    session = executor._here()
    session.client._awake = True  # the thread must take both in one go
    gate_task = record(2)
    executor.launch(record(1), 0, abs, (1,), {})
    executor.launch(gate_task, 0, time.sleep, (15,), {})
    session.client._wake.call()
    (outcome,) = kernel.wait_for(2)
    assert isinstance(outcome.error, BadStateException) and "a bug" in str(outcome.error)


def test_many_threads_submit(make: Any) -> None:
    """Threads that submit at the same time lose nothing, and share functions."""
    executor = make()
    futures: list[list[Future[Any]]] = [[] for _ in range(4)]

    def work(mine: list[Future[Any]]) -> None:
        mine.extend(executor.submit(abs, {}, -n) for n in range(500))

    threads = [threading.Thread(target=work, args=(f,)) for f in futures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not wait([f for mine in futures for f in mine], DEADLINE).not_done
    assert all([f.result() for f in mine] == list(range(500)) for mine in futures)


def test_forked_child_does_not_keep_the_interchange(make: Any) -> None:
    """A child that the script forked holds no end of the link: the interchange still sees the driver's death."""
    executor = make()
    assert executor.submit(abs, {}, -1).result(DEADLINE) == 1
    descriptor = executor._here().client._link.fileno()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: that is what is tried
        pid = os.fork()
    if pid == 0:
        try:
            os.fstat(descriptor)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert executor.submit(abs, {}, -2).result(DEADLINE) == 2


@pytest.mark.parametrize("size", [1, 100_000])
def test_interrupt_while_the_launching_thread_sends(make: Any, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Ctrl-C just when a launch sends what is queued: the launch is interrupted, and no task is lost."""
    executor = make()
    assert executor.submit(len, {}, b"").result(DEADLINE) == 0
    client = executor._here().client
    until(lambda: not client._awake, "the I/O thread sleeps")
    link_send = client._link.send
    interrupted: list[threading.Thread] = []

    class Interrupted:
        """The link, whose first message meets a signal."""

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def send(self, frames: Any) -> bool:
            if not interrupted:
                interrupted.append(threading.current_thread())
                raise KeyboardInterrupt
            return bool(link_send(frames))

    real = client._link
    monkeypatch.setattr(client, "_link", Interrupted())
    direct = executor._here().direct(len, -1)
    payload = dump_call((bytes(size),), {}, "len")
    number = executor._here().functions.number(len, "len")
    with pytest.raises(KeyboardInterrupt):
        client.launch(direct, m.Task(-1000, 0, number, payload))
    assert interrupted == [threading.current_thread()]
    assert direct.future.result(DEADLINE) == size
    assert executor.submit(abs, {}, -2).result(DEADLINE) == 2


def test_interrupt_within_a_message(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C with half a message out: everything that is out fails and says so, nothing waits for ever."""
    executor = make()
    assert executor.submit(len, {}, b"").result(DEADLINE) == 0
    client = executor._here().client
    until(lambda: not client._awake, "the I/O thread sleeps")

    def flush(self: Link) -> bool:
        monkeypatch.undo()
        raise KeyboardInterrupt

    direct = executor._here().direct(len, -1)
    monkeypatch.setattr(Link, "flush", flush)
    with pytest.raises(KeyboardInterrupt):
        client.launch(direct, m.Task(-1000, 0, 1, dump_call((b"",), {}, "len")))
    with pytest.raises(BadStateException, match="interrupted within a message"):
        direct.future.result(DEADLINE)
