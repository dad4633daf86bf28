"""The smaller parts of the executor: functions' numbers, needs, addresses, ports, the launch script, what is known of managers."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from flowlib.dataflow.outcomes import Blame
from flowlib.errors import ManagerLost, OutOfMemory, RemoteError
from flowlib.executors.high_throughput import launch, reach
from flowlib.executors.high_throughput.binding import bind
from flowlib.executors.high_throughput.deaths import out_of_memory
from flowlib.executors.high_throughput.fleet import Fleet
from flowlib.executors.high_throughput.functions import _SPARE, Functions
from flowlib.executors.high_throughput.lost import lost_payload
from flowlib.executors.high_throughput.messages import Forget, Function, ManagerChanged, Register, Status
from flowlib.executors.high_throughput.needs import parsl_priority
from flowlib.executors.high_throughput.outcomes import RemoteFailed
from flowlib.executors.high_throughput.wake import Wake
from flowlib.providers import LocalProvider
from flowlib.serialize.envelope import Failure, capture, encode_failure


def maker(n: int) -> Callable[[], int]:
    """A function whose body depends on ``n``."""
    return lambda: n


def test_equal_bodies_have_one_number() -> None:
    """A function is sent once; equal functions made anew have its number; different ones have others."""
    sent: list[Any] = []
    functions = Functions(sent.append)
    first = maker(1)
    number = functions.number(first, "f")
    assert functions.number(first, "f") == number == functions.number(maker(1), "f")
    assert functions.number(maker(2), "f") != number
    assert [type(m) for m in sent] == [Function, Function]
    assert sent[0].name == "f" and sent[0].body


class Slotted:
    """A callable that cannot be referenced weakly."""

    __slots__ = ()

    def __call__(self) -> int:
        return 1


def test_objects_without_weak_references() -> None:
    """Callables that cannot be referenced weakly are kept, and known again."""
    sent: list[Any] = []
    functions = Functions(sent.append)
    call = Slotted()
    number = functions.number(call, "call")
    assert functions.number(call, "call") == number == functions.number(Slotted(), "call")
    assert len(sent) == 1


def test_functions_that_are_gone_are_forgotten() -> None:
    """With many functions made and dropped, old bodies are forgotten, and those in use never."""
    sent: list[Any] = []
    functions = Functions(sent.append)
    kept = maker(-1)
    number = functions.number(kept, "kept")
    for n in range(3 * _SPARE):
        functions.number(maker(n), "f")
    gc.collect()
    assert functions.number(maker(-2), "f")
    forgotten = {n for m in sent if isinstance(m, Forget) for n in m.functions}
    assert len(forgotten) >= _SPARE and number not in forgotten
    before = len(sent)
    assert functions.number(kept, "kept") == number and len(sent) == before
    again = functions.number(maker(0), "f")
    assert again not in forgotten, "a number is never used twice"


def test_threads_share_a_function() -> None:
    """However many threads use a new function at once, its body is sent once, and before its number is known."""
    for _ in range(20):
        sent: list[Any] = []
        numbers: list[int] = []
        functions, func, start = Functions(sent.append), maker(7), threading.Barrier(4)

        def use(functions: Functions, func: Any, start: threading.Barrier, sent: list[Any], numbers: list[int]) -> None:
            start.wait(5)
            number = functions.number(func, "f")
            assert any(m.function == number for m in sent)
            numbers.append(number)

        threads = [threading.Thread(target=use, args=(functions, func, start, sent, numbers)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert len(sent) == 1 and numbers == [1] * 4


def test_parsl_priority() -> None:
    """Lower numbers come first, infinity is last and equal to having none."""
    order = [-math.inf, -3, 0, 0.5, 10, 1e6]
    values = [parsl_priority(p) for p in order]
    assert values == sorted(values, reverse=True) and len(set(values)) == len(values)
    assert min(values) > 0 == parsl_priority(math.inf)


def test_remote_failures_are_rebuilt_late() -> None:
    """The status says who pays without unpickling anything; the exception is made when it is asked for, once."""
    payload = encode_failure(Failure("mine.Error", "text", pickled=b"not a pickle"))
    outcome = RemoteFailed(payload, Status.RAISED)
    assert outcome.blame is Blame.USER
    register = Register(1, "3.11", "0", "m", "0", "node7", 1, 1, log="/log")
    lost = RemoteFailed(lost_payload(register, "silence"), Status.LOST)
    assert lost.blame is Blame.INFRASTRUCTURE
    assert isinstance(lost.error, ManagerLost) and lost.error is lost.error
    assert "node7" in str(lost.error) and "silence" in str(lost.error) and "/log" in str(lost.error)
    assert RemoteFailed(encode_failure(Failure("x.Y", "why")), Status.REFUSED).blame is Blame.REFUSED
    error = RemoteFailed(encode_failure(Failure("x.Y", "why")), Status.WORKER_LOST).error
    assert isinstance(error, RemoteError) and "why" in str(error)


class Odd(ConnectionError):
    """Raised, and told apart without being rebuilt."""

    def __reduce__(self) -> Any:
        raise TypeError("not to be sent")


def test_remote_failures_are_told_apart_without_rebuilding() -> None:
    """Class, bases, host, memory are known from what travelled; a note is added when the exception is made, or after."""
    outcome = RemoteFailed(encode_failure(capture(Odd("x"), host="node7")), Status.RAISED, "m1")
    assert outcome.kinds()[:3] == (f"{__name__}.Odd", "builtins.ConnectionError", "builtins.OSError")
    assert (outcome.host(), outcome.manager, outcome.memory()) == ("node7", "m1", (0, 0))
    assert outcome._error is None
    outcome.add_note("2 tries")
    assert isinstance(outcome.error, RemoteError)
    assert outcome.error.__notes__ == ["2 tries"]
    outcome.add_note("more")
    assert outcome.error.__notes__ == ["2 tries", "more"]
    killed = RemoteFailed(out_of_memory(3, "node8", 100, 130, "killed", ""), Status.RAISED, "m2")
    assert (killed.kinds(), killed.host(), killed.memory()) == (("flowlib.errors.OutOfMemory",), "node8", (100, 130))
    assert isinstance(killed.error, OutOfMemory)
    assert (killed.kinds()[:2], killed.host(), killed.memory()) == (
        ("flowlib.errors.OutOfMemory", "flowlib.errors.WorkerLost"), "node8", (100, 130)
    )  # fmt: skip


def test_wake() -> None:
    """However often it is called it is cleared at once, and calls after the end are harmless."""
    import select

    wake = Wake()
    for _ in range(3):
        wake.call()
    assert select.select([wake], [], [], 1)[0]
    wake.clear()
    assert not select.select([wake], [], [], 0)[0]
    wake.clear()
    wake.close()
    wake.call()
    wake.close()


def test_local_blocks_stay_on_the_loopback() -> None:
    """Blocks that are surely on this machine are reached by the loopback address only; a given address is used."""
    here = LocalProvider()
    assert reach.binds(None, "127.0.0.1", here) == ["tcp://127.0.0.1"]
    assert reach.addresses(None, "127.0.0.1", here) == ["127.0.0.1"]
    assert reach.binds(None, "::1", here) == ["tcp://[::1]"]
    elsewhere = object()
    assert reach.binds(None, "127.0.0.1", elsewhere) == ["tcp://*"]
    assert reach.binds("10.1.2.3", "127.0.0.1", elsewhere) == ["tcp://10.1.2.3"]
    assert reach.binds("login7.cluster", "127.0.0.1", elsewhere) == ["tcp://*"]
    assert reach.addresses("login7.cluster", "127.0.0.1", elsewhere) == ["login7.cluster"]


def test_bind_all_addresses_to_one_port() -> None:
    """Several addresses get the same port."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.ROUTER) as other:
        port = bind(router, ["tcp://127.0.0.1", "tcp://127.0.0.2"], (0, 0))
        assert port > 0
        with pytest.raises(OSError, match=str(port)):
            bind(other, ["tcp://127.0.0.2"], (port, port))


@pytest.mark.parametrize("init", ["", "export OMP_NUM_THREADS=1", "switch"])
def test_which_python_runs_a_manager(tmp_path: Path, init: str) -> None:
    """The driver's own, unless ``worker_init`` put another one on PATH; ``worker_python`` wins over both."""

    def python(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        path.chmod(0o755)
        return path

    other = python("other/python3")
    given = python("given/python3.99")
    environment = {**os.environ, "PATH": f"{other.parent}:{os.environ['PATH']}"} if init == "switch" else {**os.environ}

    def run(script: bytes) -> str:
        (tmp_path / "manager.sh").write_bytes(script.replace(launch.MODULE.encode(), b"platform"))
        done = subprocess.run(
            ["sh", str(tmp_path / "manager.sh")], env=environment, capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    import platform

    expected = "other/python3 -m" if init == "switch" else platform.platform()
    assert expected in run(launch.manager_script(None, init))
    assert "given/python3.99 -m" in run(launch.manager_script(str(given), init))


def test_launch_command() -> None:
    """A directory with odd characters or variables is quoted so that the shell finds it; templates are filled in."""
    assert launch.launch_command("/a/b", None, {}) == "sh /a/b/manager.sh"
    assert launch.launch_command("/a b/$JOB", None, {}) == 'sh "/a b/$JOB"/manager.sh'
    values = dict.fromkeys(launch.FIELDS, "v")
    assert launch.launch_command("/a", "nice {command} #{block_id}", values) == "nice sh /a/manager.sh #v"


def changed(manager: str, change: str, block: str = "0", slots: int = 4, details: bool = True) -> ManagerChanged:
    """News of a manager."""
    facts = Register(1, "3.11", "0", manager, block, "host", 1, slots) if details else None
    return ManagerChanged(manager, change, block, "host", slots, "", facts)


def test_fleet() -> None:
    """Managers come and go and come back; the load follows, and is as good as the last answer."""
    fleet = Fleet()
    assert fleet.changed(changed("a", "registered")).number == 0
    assert fleet.changed(changed("b", "registered", slots=2)).number == 1
    fleet.changed(changed("c", "registered", "1"))
    assert fleet.slots == 10 and list(fleet.blocks) == ["0", "1"]
    assert fleet.may_ask() and not fleet.may_ask(), "one question at a time"
    fleet.take_load({"running": 3, "blocks": {"0": [3, 0.0], "1": [0, 7.5]}, "asked": [], "extra": 0})
    assert fleet.may_ask()
    load = fleet.load(10)
    assert (load.queued, load.running) == (7, 3)
    first, second = load.blocks["0"], load.blocks["1"]
    assert (first.managers, first.slots, first.running, first.idle) == (2, 6, 3, 0.0)
    assert (second.managers, second.slots, second.running, second.idle) == (1, 4, 0, 7.5)
    fleet.changed(changed("c", "lost", "1", details=False))
    assert fleet.slots == 6 and set(fleet.load(0).blocks) == {"0"} and fleet.load(0).running == 0
    assert fleet.changed(changed("c", "registered", "1", details=False)).number == 2
    assert fleet.slots == 10 and fleet.number_of("nobody") == -1


def test_idle_costs_nothing(tmp_path: Path) -> None:
    """Nothing polls: an idle executor's driver threads and interchange use next to no CPU time."""
    import psutil

    from flowlib.executors import HighThroughputExecutor

    executor = HighThroughputExecutor(
        label="idle",
        launch_cmd=f"env PYTHONPATH={Path(__file__).parents[2]} {sys.executable} -m tests.htex.fake_manager {{blockfile}}",
    )
    executor.run_dir = str(tmp_path)
    executor.start()
    try:
        assert executor.submit(abs, {}, -1).result(20) == 1
        interchange = psutil.Process(executor._here().client.pid)
        before = sum(interchange.cpu_times()[:2]), sum(os.times()[:2])
        threading.Event().wait(3)
        after = sum(interchange.cpu_times()[:2]), sum(os.times()[:2])
        assert after[0] - before[0] <= 0.03 + 1e-9
        assert after[1] - before[1] <= 0.1
    finally:
        executor.shutdown()
