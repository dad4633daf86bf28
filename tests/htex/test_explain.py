"""Why tasks wait, on a high-throughput executor with real processes: asked live, from another process, and afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowlib.config import Config
from flowlib.dataflow.kernel import DataFlowKernel, Function
from flowlib.executors import HighThroughputExecutor
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.dispatcher import Dispatcher
from flowlib.executors.high_throughput.whereabouts import describe, place_of
from flowlib.explain import Reason
from flowlib.jobs.states import JobState, JobStatus
from flowlib.options import TaskOptions
from flowlib.providers import LocalProvider
from flowlib.providers.base import ExecutionProvider

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0

MakeKernel = Callable[..., DataFlowKernel]


class Queue(ExecutionProvider):
    """A scheduler whose queue does not move; it says why."""

    def __init__(self) -> None:
        self.why = "Priority"

    label = "queue"  # type: ignore[assignment]
    status_polling_interval = 0.05  # type: ignore[assignment]

    def submit(self, command: str, tasks_per_node: int, job_name: str = "") -> str:
        return "4711"

    def status(self, job_ids: Sequence[Any]) -> list[JobStatus]:
        return [JobStatus(JobState.PENDING, self.why) for _ in job_ids]

    def cancel(self, job_ids: Sequence[Any]) -> list[bool]:
        return [True for _ in job_ids]


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that nobody announces."""
    ticker, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        ticker.wait(0.02)


def block_for(path: str, *inputs: Any) -> int:
    """Runs until a file is there; gives up after a while."""
    import os
    import time

    open(f"{path}.running", "w").close()
    deadline = time.monotonic() + 25
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    return 1


def nothing(*inputs: Any) -> int:
    """A task."""
    return 0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeKernel]:
    """Makes kernels with one high-throughput executor; they are cleaned up at the end."""
    made: list[DataFlowKernel] = []

    def build(retries: int = 0, **options: Any) -> DataFlowKernel:
        executor = HighThroughputExecutor(**{"label": "htex", "max_workers_per_node": 1, **options})
        config = Config(executors=[executor], run_dir=str(tmp_path / "runinfo"), retries=retries, strategy_period=0.1)
        kernel = DataFlowKernel(config)
        made.append(kernel)
        return kernel

    yield build
    for kernel in made:
        kernel.cleanup()


def from_a_shell(*arguments: str) -> Any:
    """What ``flowlib explain --json`` says in a process of its own."""
    command = [sys.executable, "-m", "flowlib", "explain", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_block_in_the_queue(make: MakeKernel) -> None:
    """The scheduler's reason for a pending block is the reason of the tasks; a new one is noted, in the log, too."""
    provider = Queue()
    kernel = make(provider=provider)
    future = kernel.submit(nothing, ())
    until(lambda: future.explain().intervals[-1].detail.get("why") == "Priority", "the provider's word was not heard")
    told = future.explain()
    assert told.reason is Reason.BLOCK_QUEUED
    assert (told.intervals[-1].detail["job"], told.live) == ("4711", True)
    assert str(told).endswith("a block of 'htex' is queued as job 4711: Priority")
    provider.why = "Resources"
    until(lambda: future.explain().intervals[-1].detail["why"] == "Resources", "the provider's new word was not heard")
    assert future.cancel()
    kernel.flush_events()
    afterwards = from_a_shell("0", kernel.run_dir)
    said = [interval["detail"]["why"] for interval in afterwards["intervals"] if interval["reason"] == "block_queued"]
    assert said[-2:] == ["Priority", "Resources"]
    assert afterwards["state"] == "cancelled"


def test_busy_workers(make: MakeKernel, tmp_path: Path) -> None:
    """Who runs is told where and since when, who waits its place in the queue; from another process as well."""
    kernel = make()
    gate = str(tmp_path / "gate")
    running = kernel.submit(block_for, (gate,))
    until(lambda: os.path.exists(f"{gate}.running"), "the task did not begin")
    until(lambda: running.explain().reason is Reason.RUNNING, "the interchange did not hear of its begin")
    waiting = [kernel.submit(nothing, ()) for _ in range(3)]
    child = kernel.submit(nothing, (running,))
    until(lambda: waiting[-1].explain().intervals[-1].detail.get("position") == 3, "the queue was not described")
    told = waiting[-1].explain()
    assert (told.reason, told.live) == (Reason.CAPACITY, True)
    assert "the worker of 'htex' is busy, and it is number 3 of 3 in the queue" in str(told)
    host = running.explain().intervals[-1].detail["host"]
    assert host
    assert f"0 of 1 inputs are done; task 0 (block_for) has been running on {host} for" in str(child.explain())

    until(lambda: from_a_shell("0", kernel.run_dir)["reason"] == "running", "no record tells that it has begun")
    elsewhere = from_a_shell(str(child.tid), kernel.run_dir)
    assert elsewhere["reason"] == "dependency"
    assert elsewhere["intervals"][-1]["detail"]["roots"][0]["host"] == host
    assert from_a_shell(str(waiting[-1].tid), kernel.run_dir)["reason"] == "capacity"
    reasons = {row["reason"]: row["now"] for row in from_a_shell(kernel.run_dir)["reasons"]}
    assert (reasons["capacity"], reasons["dependency"], reasons["running"]) == (3, 1, 1)

    Path(gate).touch()
    assert child.result(DEADLINE) == 0
    over = running.explain()
    assert over.seconds[Reason.RUNNING] > over.total / 2
    assert f"last on {host}" in str(over)
    assert waiting[0].explain().seconds[Reason.CAPACITY] > 0.5


def test_no_room_on_a_node(make: MakeKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that asks for more than is free is told what it asks for, and which node comes nearest."""
    monkeypatch.setenv("FLOWLIB_CORES", "2")
    kernel = make(max_workers_per_node=2)
    gate = str(tmp_path / "gate")
    running = kernel.submit(block_for, (gate,))
    until(lambda: os.path.exists(f"{gate}.running"), "the task did not begin")
    options = TaskOptions(resources={"cores": 2})
    large = [kernel.submit_app(Function(nothing), options, (), {}) for _ in range(2)]
    until(lambda: large[1].explain().live, "the interchange does not know it")
    told = large[1].explain()
    detail = told.intervals[-1].detail
    assert (told.reason, detail["asks"], detail["position"]) == (Reason.NO_FIT, {"cores": 2}, 2)
    assert "has 1 of 2 slots free" in detail["why"] or "is kept free for" in detail["why"]
    kernel.flush_events()
    elsewhere = from_a_shell(str(large[0].tid), kernel.run_dir)
    assert (elsewhere["reason"], elsewhere["intervals"][-1]["detail"]["asks"]) == ("no_fit", {"cores": 2})
    Path(gate).touch()
    assert [future.result(DEADLINE) for future in (running, *large)] == [1, 0, 0]
    assert large[0].explain().seconds[Reason.NO_FIT] > 0


def test_held_manager(make: MakeKernel, tmp_path: Path) -> None:
    """Managers that get no tasks on request are named as the reason."""
    kernel = make()
    assert kernel.submit(nothing, ()).result(DEADLINE) == 0
    executor: Any = kernel.executors["htex"]
    assert executor._hold_manager(executor.connected_managers()[0]["manager"])
    future = kernel.submit(nothing, ())
    until(lambda: future.explain().reason is Reason.HELD, "the managers are not known to be held")
    assert future.cancel()


def test_interchange_that_does_not_answer(make: MakeKernel) -> None:
    """Without an answer from the interchange the event log's word stands, and that within seconds."""
    kernel = make(provider=Queue())
    future = kernel.submit(nothing, ())
    until(lambda: future.explain().live, "the interchange does not answer")
    executor: Any = kernel.executors["htex"]
    pid = executor._session.client.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        told = future.explain()
        assert time.monotonic() - began < 6
        assert (told.reason, told.live) == (Reason.BLOCK_QUEUED, False)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert future.cancel()


def test_retry(make: MakeKernel, tmp_path: Path) -> None:
    """Both tries are told, with the place of each and the error between them."""
    kernel = make(retries=1)
    marker = str(tmp_path / "marker")

    def once_bad(path: str) -> int:
        import os

        if not os.path.exists(path):
            open(path, "w").close()
            raise ValueError("not yet")
        return 5

    future = kernel.submit(once_bad, (marker,))
    assert future.result(DEADLINE) == 5
    told = future.explain()
    ran = [interval.detail for interval in told.intervals if interval.reason is Reason.RUNNING]
    assert [(one["attempt"], one["outcome"]) for one in ran] == [(0, "raised"), (1, "ok")]
    assert all(one["host"] for one in ran)
    between = [interval.detail["error"] for interval in told.intervals if interval.reason is Reason.BACKOFF]
    assert between == ["ValueError: not yet"]


def test_blocks_that_fail(make: MakeKernel) -> None:
    """Afterwards a task that no block was there for tells of the blocks that failed."""
    provider = LocalProvider(worker_init="exit 3", init_blocks=1, max_blocks=1)
    kernel = make(provider=provider, block_error_handler=True)
    future = kernel.submit(nothing, ())
    assert future.exception(DEADLINE) is not None
    kernel.flush_events()
    told = from_a_shell("0", kernel.run_dir)
    assert told["state"] == "failed"
    assert set(told["seconds"]) & {"block_queued", "block_starting", "block_failed"}


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    """Of a run that was killed the log tells what its tasks were doing then, and time stands still since."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, flowlib\n"
        "from flowlib.executors import ThreadPoolExecutor\n"
        "def main():\n"
        "    import threading\n"
        "    kernel = flowlib.load(flowlib.Config(executors=[ThreadPoolExecutor()]))\n"
        "    wait = kernel.submit(threading.Event().wait, (20,))\n"
        "    kernel.submit(print, (wait,))\n"
        "    kernel.flush_events()\n"
        "    print('ready', flush=True)\n"
        "    wait.result()\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], cwd=tmp_path, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert from_a_shell("1", str(tmp_path))["killed"] is False
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE)
    first = from_a_shell("1", str(tmp_path))
    assert (first["killed"], first["reason"]) == (True, "dependency")
    assert "when the run was killed" in first["text"]
    assert from_a_shell("1", str(tmp_path))["total"] == first["total"]
    assert from_a_shell(str(tmp_path))["killed"] is True


# ------------------------------------------------------------------------------------------------ what is behind it


def registered(core: Dispatcher, name: str, slots: int = 1) -> None:
    """A manager comes."""
    core.register(m.Register(m.PROTOCOL, m.PYTHON, "1", name, "0", f"host-{name}", 1, slots), 0.0)


def place(core: Dispatcher, task: int, **more: Any) -> tuple[Reason, dict[str, Any]] | None:
    """Where a task's first attempt is."""
    told = describe(core, [(task, 0)], more.get("quarantined", {}), more.get("begun", {}))
    found = place_of("htex", json.loads(json.dumps(told)), 0, more.get("blocks", {}))
    return None if found is None else (found.reason, dict(found.detail))


def test_what_the_interchange_knows() -> None:
    """Each place that an attempt can be at is a reason: the queue, a manager, a worker, nowhere."""
    core = Dispatcher()
    core.submit([m.Task(n, 0, 1, b"") for n in range(3)])
    assert place(core, 99) is None
    assert place(core, 1) is None
    blocks = {"0": JobStatus(JobState.PENDING, "Priority")}
    assert place(core, 1, blocks=blocks) == (
        *(Reason.BLOCK_QUEUED, {"executor": "htex", "blocks": 1, "why": "Priority"}),
    )
    registered(core, "a")
    core.assign()
    figures = {"executor": "htex", "workers": 1, "managers": 1}
    at = {"host": "host-a", "manager": "a"}
    assert place(core, 0) == (Reason.DISPATCH, {**figures, **at})
    assert place(core, 1) == (Reason.CAPACITY, {**figures, "position": 1, "queue": 2})
    core.begun("a", [(0, 0)])
    assert place(core, 0) == (Reason.RUNNING, at)
    core.hold("a")
    assert place(core, 2) == (Reason.HELD, {"executor": "htex", "managers": 1})
    quarantined = {"host-a": "workers die there", "gone": "long ago"}
    assert place(core, 2, quarantined=quarantined) == (
        *(Reason.QUARANTINE, {"executor": "htex", "hosts": ["host-a"], "why": "workers die there"}),
    )


def test_begin_is_told() -> None:
    """The time of a begin that is in no record yet comes with the answer."""
    core = Dispatcher()
    core.submit([m.Task(0, 0, 1, b"")])
    registered(core, "a")
    core.assign()
    core.begun("a", [(0, 0)])
    told = describe(core, [(0, 0)], {}, {(0, 0): 17.5})
    found = place_of("htex", told, 0, {})
    assert found is not None
    assert found.since == 17.5
