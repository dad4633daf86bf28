"""MPI on real processes: real launchers start programs on several pretend nodes, and nothing of them is left.

Open MPI and MPICH are real; only the step from one machine to another is replaced (see ``pretend_nodes``).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

import flowlib
from flowlib.config import Config
from flowlib.errors import AppTimeout, InvalidResourceSpecification, WorkerLost
from flowlib.executors import MPIExecutor, ThreadPoolExecutor
from tests.htex import pretend_nodes

DEADLINE = 60
NODES = ["n1", "n2", "n3", "n4"]
Load = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="fm", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a run whose one block has some pretend nodes, four unless told."""

    def load(nodes: list[str] = NODES, **options: Any) -> AbstractContextManager[Any]:
        (tmp_path / "hosts").write_text("".join(f"{name} slots=8\n" for name in nodes))
        executor = MPIExecutor(
            **{"max_workers_per_block": 4, "hostfile": str(tmp_path / "hosts"), "kill_grace": 2.0, **options}
        )
        return flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runs")))

    return load


@pytest.fixture(params=["openmpi", "mpich"])
def mpi(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A real ``mpiexec``."""
    kind: str = request.param
    pretend_nodes.install(kind, root, monkeypatch)
    return kind


@flowlib.bash_app
def launch(command: str, stdout: str | None = None) -> str:
    """A program on the task's nodes."""
    return f"$FLOWLIB_MPI_PREFIX {command}"


@flowlib.bash_app
def launch_by_file(stdout: str | None = None) -> str:
    """A program on the nodes that are named in the task's host file."""
    return "mpiexec -n $FLOWLIB_NUM_RANKS -hostfile $FLOWLIB_MPI_HOSTFILE sh -c 'echo $PRETEND_NODE'"


@flowlib.python_app
def look() -> dict[str, Any]:
    """What a task is told."""
    me = flowlib.current()
    environment = {name: text for name, text in os.environ.items() if name.startswith("FLOWLIB_")}
    hosts = environment.get("FLOWLIB_MPI_HOSTFILE")
    lines = Path(hosts).read_text().split() if hosts else []
    return {
        "nodes": me.nodes, "ranks": me.ranks, "ranks_per_node": me.ranks_per_node, "environment": environment,
        "hosts": lines,
    }  # fmt: skip


@flowlib.python_app
def occupy(directory: str, number: int) -> list[str]:
    """Mark the task's nodes; one that is marked already is an error."""
    began = time.time()
    names = flowlib.current().nodes
    marks = [Path(directory) / name for name in names]
    for mark in marks:
        mark.touch(exist_ok=False)
    (Path(directory) / f"began-{number}").write_text(f"{began} {len(names)}")
    time.sleep(0.03)
    for mark in marks:
        mark.unlink()
    return list(names)


@flowlib.python_app
def die_with_program(marker: str) -> None:
    """Start a program on the nodes, and die when all of it is there."""
    prefix = os.environ["FLOWLIB_MPI_PREFIX"].split()
    subprocess.Popen([*prefix, "sleep", marker])
    give_up_at = time.monotonic() + 30
    while sum(p.info["cmdline"] == ["sleep", marker] for p in psutil.process_iter(["cmdline"])) < 4:
        assert time.monotonic() < give_up_at, "the program did not start"
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


@flowlib.python_app
def die_with_launcher(directory: str) -> None:
    """Start what takes note of a SIGTERM, and die."""
    script = f"trap 'touch {directory}/asked; exit' TERM; echo ready; sleep 60 & wait"
    launcher = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    launcher.stdout.readline()
    os.kill(os.getpid(), signal.SIGKILL)


@flowlib.python_app
def meet(directory: str, mine: str, other: str) -> tuple[str, ...]:
    """Wait until the other one runs too."""
    (Path(directory) / mine).touch()
    give_up_at = time.monotonic() + 30
    while not (Path(directory) / other).exists():
        assert time.monotonic() < give_up_at, "the other one does not run"
        time.sleep(0.02)
    return flowlib.current().nodes


@flowlib.python_app
def which() -> str:
    """The executor."""
    return flowlib.current().executor


def wait_for_programs(marker: str, count: int, within: float = 20) -> None:
    """Until so many processes run ``sleep MARKER``."""
    give_up_at = time.monotonic() + within
    while True:
        there = [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", marker]]
        if len(there) == count:
            return
        assert time.monotonic() < give_up_at, f"{len(there)} processes of sleep {marker}, not {count}: {there}"
        time.sleep(0.05)


def test_a_program_runs_where_its_task_is(mpi: str, load: Load, tmp_path: Path) -> None:
    """The prefix starts as many processes on as many nodes as were asked for, with either launcher's options."""
    seen = [tmp_path / f"out{n}" for n in range(4)]
    with load():
        command = "sh -c 'echo $PRETEND_NODE'"
        asking: list[dict[str, Any]] = [
            {"nodes": 2, "ranks_per_node": 2}, {"num_nodes": 3, "num_ranks": 5}, {"nodes": 1, "ranks": 1},
        ]  # fmt: skip
        futures = [launch.options(resources=r)(command, stdout=str(p)) for r, p in zip(asking, seen, strict=False)]
        futures.append(launch_by_file.options(resources=asking[0])(stdout=str(seen[3])))
        for future in futures:
            assert future.result(DEADLINE) == 0
    spread = [sorted(path.read_text().split()) for path in seen]
    assert [sorted(names.count(name) for name in set(names)) for names in spread] == [[2, 2], [1, 2, 2], [1], [2, 2]]
    assert set().union(*spread) <= set(NODES)


@pytest.mark.parametrize("end", ["walltime", "cancel"])
def test_an_ended_task_leaves_no_process(mpi: str, load: Load, end: str) -> None:
    """Walltime and cancel end the launcher, its daemons and the program on all nodes; then the nodes are free."""
    marker = f"9{os.getpid()}"
    with load():
        resources = {"nodes": 4, "ranks_per_node": 1}
        if end == "walltime":
            with pytest.raises(AppTimeout):
                launch.options(resources=resources, walltime=3)(f"sleep {marker}").result(DEADLINE)
        else:
            future = launch.options(resources=resources)(f"sleep {marker}")
            wait_for_programs(marker, 4)
            assert future.cancel(running=True)
        wait_for_programs(marker, 0)
        assert launch.options(resources=resources)("true").result(DEADLINE) == 0


def test_a_dead_worker_gives_its_nodes_back(mpi: str, load: Load) -> None:
    """When a task's worker dies, the program on its nodes ends, and others get the nodes."""
    marker = f"8{os.getpid()}"
    with load():
        resources = {"nodes": 4, "ranks_per_node": 1}
        with pytest.raises(WorkerLost):
            die_with_program.options(resources=resources)(marker).result(DEADLINE)
        wait_for_programs(marker, 0)
        assert launch.options(resources=resources)("true").result(DEADLINE) == 0


def test_what_a_task_is_told(load: Load) -> None:
    """Names and numbers are in the environment and in flowlib.current(), every launcher's command line too."""
    with load(mpi_launcher="srun"):
        seen = look.options(resources={"nodes": 2, "ranks_per_node": 3, "launcher_options": "-v"})().result(DEADLINE)
        after = look.options(resources={"nodes": 1})().result(DEADLINE)
    assert (len(seen["nodes"]), seen["ranks"], seen["ranks_per_node"]) == (2, 6, 3)
    names = ",".join(seen["nodes"])
    told = seen["environment"]
    assert told["FLOWLIB_MPI_NODELIST"] == names
    assert [told[f"FLOWLIB_{n}"] for n in ("NUM_NODES", "NUM_RANKS", "RANKS_PER_NODE")] == ["2", "6", "3"]
    srun = f"srun --ntasks 6 --ntasks-per-node 3 --nodelist {names} --nodes 2 -v"
    assert told["FLOWLIB_MPI_PREFIX"] == told["FLOWLIB_SRUN_PREFIX"] == srun
    assert told["FLOWLIB_APRUN_PREFIX"] == f"aprun -n 6 -N 3 -L {names} -v"
    assert sorted(seen["hosts"]) == sorted([*seen["nodes"]] * 3)
    assert after["environment"]["FLOWLIB_NUM_NODES"] == "1"
    assert not Path(told["FLOWLIB_MPI_HOSTFILE"]).exists()


def test_no_node_twice_and_nobody_starves(load: Load, tmp_path: Path) -> None:
    """Of many tasks of all sizes no two have a node at once, and a large one does not wait for all small ones."""
    marks = tmp_path / "marks"
    marks.mkdir()
    with load():
        sizes = [1] * 10 + [4] + [1, 2, 1] * 20
        futures = [occupy.options(resources={"nodes": n})(str(marks), i) for i, n in enumerate(sizes)]
        for future, size in zip(futures, sizes, strict=True):
            assert len(set(future.result(DEADLINE))) == size
    began = {n: float((marks / f"began-{n}").read_text().split()[0]) for n in range(len(sizes))}
    before = sum(at < began[10] for at in began.values())
    assert before <= 30, f"{before} of {len(sizes)} tasks began before the large one, which was the eleventh"


def test_parts_of_a_node_are_shared(load: Load, tmp_path: Path) -> None:
    """Tasks that ask for half a node each run beside each other on one; whole ones never do."""
    with load(["only"]):
        half = meet.options(resources={"nodes": 0.5, "ranks": 2})
        one, other = half(str(tmp_path), "a", "b"), half(str(tmp_path), "b", "a")
        assert one.result(DEADLINE) == other.result(DEADLINE) == ("only",)


def test_what_cannot_be_is_refused(load: Load) -> None:
    """Tasks without a request, with unknown words, or for more nodes than the block has fail with what is allowed."""
    with load():
        with pytest.raises(InvalidResourceSpecification, match="say what they need"):
            look().result(DEADLINE)
        with pytest.raises(InvalidResourceSpecification, match="did you mean 'ranks_per_node'"):
            look.options(resources={"nodes": 1, "rank_per_node": 2})()
        with pytest.raises(InvalidResourceSpecification, match="9 nodes, the largest block of .* has 4"):
            look.options(resources={"nodes": 9})().result(DEADLINE)
        assert look.options(resources={"nodes": 1})().result(DEADLINE)["ranks"] == 1
        with pytest.raises(InvalidResourceSpecification, match="9 nodes, the largest block of .* has 4"):
            look.options(resources={"nodes": 9})()


def test_tasks_find_the_executor_that_is_for_them(tmp_path: Path) -> None:
    """Beside an executor for other tasks, those that ask for nodes go to the MPI executor, and only those."""
    executors = [MPIExecutor(label="mpi"), ThreadPoolExecutor(label="threads")]
    with flowlib.load(Config(executors=executors, run_dir=str(tmp_path / "runs"))):
        plain = [which() for _ in range(12)]
        asking = [which.options(resources={"nodes": 1})() for _ in range(3)]
        assert {future.result(DEADLINE) for future in plain} == {"threads"}
        assert {future.result(DEADLINE) for future in asking} == {"mpi"}


def test_what_a_dead_worker_leaves_is_asked_to_end(load: Load, tmp_path: Path) -> None:
    """A launcher whose worker dies has time to end what it has started elsewhere, before others get the nodes."""
    with load():
        with pytest.raises(WorkerLost):
            die_with_launcher.options(resources={"nodes": 4})(str(tmp_path)).result(DEADLINE)
        assert (tmp_path / "asked").exists()
        assert look.options(resources={"nodes": 4})().result(DEADLINE)["ranks"] == 4
