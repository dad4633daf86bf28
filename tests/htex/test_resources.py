"""Resources on real processes: what a task asks for is what it finds, and what no node has is refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib.config import Config
from flowlib.errors import InvalidResourceSpecification
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider

DEADLINE = 60


@flowlib.python_app
def look() -> dict[str, Any]:
    """What a task sees of its part of the node."""
    me = flowlib.current()
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "FLOWLIB_CORES")
    return {"cores": me.cores, "gpus": me.gpus, "memory": me.memory, **{n: os.environ.get(n) for n in names}}


@flowlib.python_app
def alone(directory: str, number: int) -> list[str]:
    """Who else is there while this task is."""
    mark = Path(directory) / str(number)
    mark.touch()
    there = os.listdir(directory)
    mark.unlink()
    return there


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run on a pretend node of four cores and two accelerators."""
    monkeypatch.setenv("FLOWLIB_CORES", "4")
    executor = HighThroughputExecutor(
        label="htex", address="127.0.0.1", available_accelerators=["g0", "g1"], shared_accelerators=True,
        disk_per_node="10GB", labels={"licence": 1},
    )  # fmt: skip
    with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runs"))):
        yield


def test_what_a_task_sees(run: None) -> None:
    """Accelerators by name, threads to match, memory; and nothing of it is left for the next task."""
    asking = look.options(resources={"cores": 2, "memory": "100MB", "gpus": 1, "licence": 1, "disk": "1GB"})
    seen = asking().result(DEADLINE)
    assert seen["gpus"] in [("g0",), ("g1",)]
    assert seen == {
        "cores": 2, "gpus": seen["gpus"], "memory": 100_000_000, "CUDA_VISIBLE_DEVICES": seen["gpus"][0],
        "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "FLOWLIB_CORES": "2",
    }  # fmt: skip
    for after in [look() for _ in range(8)]:
        plain = after.result(DEADLINE)
        assert plain["gpus"] == () and plain["CUDA_VISIBLE_DEVICES"] == "" and plain["memory"] is None


def test_a_task_with_all_cores_is_alone(run: None, tmp_path: Path) -> None:
    """While a task with every core runs, no other task does."""
    marks = tmp_path / "marks"
    marks.mkdir()
    others = [alone(str(marks), n) for n in range(40)]
    wide = [alone.options(resources={"cores": 4})(str(marks), 100 + n) for n in range(5)]
    others += [alone(str(marks), n) for n in range(40, 80)]
    for n, future in enumerate(wide):
        assert future.result(DEADLINE) == [str(100 + n)]
    for future in others:
        assert not any(int(name) >= 100 for name in future.result(DEADLINE))


def test_what_no_node_has_is_refused(run: None) -> None:
    """Before the first node is known the task fails, afterwards the call does; both name what is missing."""
    with pytest.raises(InvalidResourceSpecification, match="64 cores, the largest node of .*htex.* has 4"):
        look.options(resources={"cores": 64})().result(DEADLINE)
    look().result(DEADLINE)
    with pytest.raises(InvalidResourceSpecification, match=r"20 GB of disk, .* has 10 GB"):
        look.options(resources={"disk": "20GB"})()
    with pytest.raises(InvalidResourceSpecification, match="did you mean 'licence'"):
        look.options(resources={"license": 1})()


def test_what_no_block_can_hold_is_refused_at_the_call(run: None) -> None:
    """Already before the first node is there: the executor's parameters and this machine tell what nodes will have."""
    for asked, words in (
        ({"cores": 64}, "64 cores, the largest node of .*htex.* has 4"),
        ({"gpus": 3}, "3 gpus, .* has 2"),
        ({"licence": 2}, "2 licence, .* has 1"),
        ({"memory": "4000TB"}, "4 PB of memory, .*htex.* has"),
    ):
        with pytest.raises(InvalidResourceSpecification, match=words):
            look.options(resources=asked)()
    with pytest.raises(InvalidResourceSpecification, match=r"an MPIExecutor for MPI programs that need nodes"):
        look.options(resources={"nodes": 2})()


@pytest.mark.parametrize(
    ("parameters", "asked", "words"),
    [
        ({"max_workers_per_node": 2}, {"cores": 3}, "3 cores, .* has 2"),
        ({"mem_per_worker": 1.0, "max_workers_per_node": 2}, {"memory": 3 << 30}, "of memory, .* has 2.*GB"),
        ({"available_accelerators": 2}, {"gpus": 1}, "1 gpus, .* has 0; .*shared_accelerators=True"),
        ({}, {"cores": 17}, "17 cores, .* has 16"),
        ({}, {"memory": 40 << 30}, "of memory, .* has 34.*GB"),
    ],
)
def test_parameters_and_provider_tell(parameters: dict[str, Any], asked: dict[str, Any], words: str) -> None:
    """What the executor's parameters or its provider's attributes exclude is refused; what nobody tells is not."""

    class Elsewhere:
        label = "elsewhere"
        cores_per_node = 16
        mem_per_node = 32

        def submit(self) -> None: ...
        def status(self) -> None: ...
        def cancel(self) -> None: ...

    executor = HighThroughputExecutor(label="far", provider=Elsewhere(), **parameters)
    with pytest.raises(InvalidResourceSpecification, match=words):
        executor.validate_resources(asked)
    executor.validate_resources({"disk": 1 << 50, "cores": 2})


def test_megabytes_of_a_parsl_specification(run: None) -> None:
    """In a resource specification of the field memory is a number of megabytes."""
    assert look(flowlib_resource_specification={"memory": 50}).result(DEADLINE)["memory"] == 50_000_000  # type: ignore[call-arg]


@flowlib.python_app
def sleep(seconds: float) -> float:
    """Take time; returns when it ended."""
    time.sleep(seconds)
    return time.time()


def test_short_tasks_do_not_wait_behind_a_long_one(tmp_path: Path) -> None:
    """One long and ninety-nine short tasks on two workers: all short ones end long before the long one does."""
    executor = HighThroughputExecutor(label="two", address="127.0.0.1", cores_per_worker=0.1, max_workers_per_node=2)
    with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runs"))):
        # Tasks that were short so far are sent ahead; the long one comes as one of them.
        for future in [sleep(0.0) for _ in range(50)]:
            future.result(DEADLINE)
        long = sleep(4.0)
        ends = [future.result(DEADLINE) for future in [sleep(0.001) for _ in range(99)]]
        assert not long.done()
        assert max(ends) < long.result(DEADLINE) - 2.0


def test_executors_are_preferred_in_order(tmp_path: Path) -> None:
    """The first that can hold the request gets the task, and the next one when that is broken."""
    small, large = (
        HighThroughputExecutor(label=name, address="127.0.0.1", cores_per_worker=0.1, max_workers_per_node=workers)
        for name, workers in (("small", 1), ("large", 3))
    )
    with flowlib.load(Config(executors=[small, large], run_dir=str(tmp_path / "runs"))):

        def where(resources: dict[str, float] | None = None) -> str:
            future = sleep.options(executors=["small", "large"], resources=resources)(0.0)
            lane = future._record.lane
            future.result(DEADLINE)
            assert lane is not None
            return lane.label

        assert [where() for _ in range(4)] == ["small"] * 4
        assert where({"cores": 0.3}) == "large"
        small.set_bad_state_and_fail_all(RuntimeError("broken by the test"))
        deadline = time.monotonic() + DEADLINE
        while small.usable:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert where() == "large"


def test_blocks_are_started_for_what_tasks_ask(tmp_path: Path) -> None:
    """Three tasks that take two workers each are given three blocks of two workers, side by side."""
    executor = HighThroughputExecutor(
        label="grow", address="127.0.0.1", cores_per_worker=0.1, max_workers_per_node=2,
        provider=LocalProvider(init_blocks=1, max_blocks=3),
    )  # fmt: skip
    config = Config(executors=[executor], run_dir=str(tmp_path / "runs"), strategy_period=0.2)
    with flowlib.load(config):
        meet = [together.options(resources={"cores": 0.2})(str(tmp_path), n, 3) for n in range(3)]
        assert all(future.result(DEADLINE) for future in meet)


@flowlib.python_app
def stay(mark: str, seconds: float) -> tuple[float, float]:
    """Be there for a while; returns from when to when."""
    began = time.time()
    Path(mark).touch()
    time.sleep(seconds)
    return began, time.time()


def test_what_runs_keeps_its_part_through_a_restart(run: None, tmp_path: Path) -> None:
    """After the interchange was killed another knows what running tasks have: nobody else gets it meanwhile."""
    only = stay.options(resources={"licence": 1})
    first = only(str(tmp_path / "mark"), 4.0)
    deadline = time.monotonic() + DEADLINE
    while not (tmp_path / "mark").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    executor = flowlib.dfk().executors["htex"]
    assert isinstance(executor, HighThroughputExecutor)
    os.kill(executor._here().client.pid, signal.SIGKILL)
    second = only(str(tmp_path / "other"), 0.0)
    assert second.result(DEADLINE)[0] >= first.result(DEADLINE)[1]


@flowlib.python_app
def together(directory: str, number: int, count: int) -> bool:
    """Whether that many tasks run at the same time."""
    (Path(directory) / f"here{number}").touch()
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if sum(name.startswith("here") for name in os.listdir(directory)) == count:
            return True
        time.sleep(0.02)
    return False


def test_an_executor_that_turns_out_too_small_passes_tasks_on(tmp_path: Path) -> None:
    """What only the first node tells is no failure while another executor is named; the last error tells of each."""

    def sized(label: str, cores: int) -> HighThroughputExecutor:
        # What worker_init sets is not known before a node is there.
        provider = LocalProvider(worker_init=f"export FLOWLIB_CORES={cores}", init_blocks=0, max_blocks=1)
        return HighThroughputExecutor(label=label, address="127.0.0.1", provider=provider)

    @flowlib.python_app(executors=["small", "large"])
    def where() -> tuple[str, float]:
        me = flowlib.current()
        return me.executor, me.cores

    config = Config(executors=[sized("small", 1), sized("large", 2)], run_dir=str(tmp_path / "runs"), retries=0)
    with flowlib.load(config) as dfk:
        asking = [where.options(resources={"cores": n})() for n in (2, 1, 3, 2)]
        assert [asking[n].result(DEADLINE) for n in (0, 1, 3)] == [("large", 2), ("small", 1), ("large", 2)]
        words = r"3 cores, the largest node of .*small\)? has 1; .* 3 cores, the largest node of .*large\)? has 2$"
        with pytest.raises(InvalidResourceSpecification, match=words):
            asking[2].result(DEADLINE)
        with pytest.raises(InvalidResourceSpecification, match=words):
            where.options(resources={"cores": 3})()
        assert asking[0].task_record["fail_count"] == 0
        assert {lane.label: lane.outstanding for lane in dfk.lanes.users()} == {"small": 0, "large": 0}


@flowlib.python_app
def pinned(directory: str, number: int) -> tuple[list[int], tuple[int, ...], dict[str, Any], list[list[int]]]:
    """The CPUs that this task may use, and those of the tasks beside it."""
    cpus = sorted(os.sched_getaffinity(0))
    mark = Path(directory) / str(number)
    mark.write_text(" ".join(map(str, cpus)))
    (Path(directory) / f"{number}.whole").touch()
    beside = []
    for other in os.listdir(directory):
        if other.endswith(".whole") and other != f"{number}.whole":
            try:
                beside.append([int(cpu) for cpu in (Path(directory) / other[: -len(".whole")]).read_text().split()])
            except FileNotFoundError:
                # It has just ended.
                continue
    (Path(directory) / f"{number}.whole").unlink()
    mark.unlink()
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_CPU_AFFINITY")
    return cpus, flowlib.current().cpus, {name: os.environ.get(name) for name in names}, beside


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU binding on this system")
def test_tasks_have_cpus_of_their_own(tmp_path: Path) -> None:
    """Where workers are bound a task has as many CPUs as it asks for, by number; nobody else has them meanwhile."""
    usable = sorted(os.sched_getaffinity(0))[:4]
    marks = tmp_path / "marks"
    marks.mkdir()
    executor = HighThroughputExecutor(
        label="bound", address="127.0.0.1", max_workers_per_node=len(usable),
        cpu_affinity="list:" + ":".join(map(str, usable)),
    )  # fmt: skip
    with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runs"))):
        asked = [(None, 1, 0.5, len(usable), max(1, len(usable) - 1))[n % 5] for n in range(40)]
        seen = [
            (pinned if cores is None else pinned.options(resources={"cores": cores}))(str(marks), n)
            for n, cores in enumerate(asked)
        ]
        for cores, future in zip(asked, seen, strict=True):
            cpus, told, variables, beside = future.result(DEADLINE)
            # A task that asks for nothing, or for a part of a CPU, has its worker's.
            assert len(cpus) == max(1, cores or 1) and set(cpus) <= set(usable)
            assert sorted(told) == cpus
            assert not any(set(cpus) & set(other) for other in beside), "two tasks have the same CPU"
            assert variables["OMP_NUM_THREADS"] == str(len(cpus))
            assert variables["MKL_NUM_THREADS"] == (None if cores is None else str(len(cpus)))
            assert sorted(map(int, variables["GOMP_CPU_AFFINITY"].split())) == cpus


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU binding on this system")
def test_without_affinity_nobody_is_bound(run: None) -> None:
    """Where workers are not bound, tasks that ask for cores are not bound either."""

    @flowlib.python_app
    def free() -> tuple[set[int], tuple[int, ...]]:
        return os.sched_getaffinity(0), flowlib.current().cpus

    assert free.options(resources={"cores": 1})().result(DEADLINE) == (os.sched_getaffinity(0), ())
