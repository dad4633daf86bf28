"""MPI without processes: whose nodes they are, what the launchers are told, what is refused, who waits for whom."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from flowlib.errors import InvalidResourceSpecification
from flowlib.executors.high_throughput import allocation
from flowlib.executors.high_throughput.capacity import Pool
from flowlib.executors.high_throughput.dispatcher import Dispatcher
from flowlib.executors.high_throughput.hostlists import distinct, expand, lines
from flowlib.executors.high_throughput.messages import Needs, Ranks, Register, Result, Status, Task
from flowlib.executors.high_throughput.mpi_executor import MPIExecutor
from flowlib.executors.high_throughput.mpi_prefixes import LAUNCHERS, MPICH, OPEN_MPI, flavour, hostfile, prefix
from flowlib.executors.high_throughput.mpi_request import Request, parse_request
from flowlib.launchers import SingleNodeLauncher
from flowlib.providers import LocalProvider

# ----------------------------------------------------------------------------------------------------- names of nodes


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node1", ["node1"]),
        ("a,b,c", ["a", "b", "c"]),
        ("nid[000008-000011]", ["nid000008", "nid000009", "nid000010", "nid000011"]),
        ("gpu[1-2,5],login,cpu[09-10]-ib", ["gpu1", "gpu2", "gpu5", "login", "cpu09-ib", "cpu10-ib"]),
        ("x1000c[0-1]s[2,4]b0n0", ["x1000c0s2b0n0", "x1000c0s4b0n0", "x1000c1s2b0n0", "x1000c1s4b0n0"]),
        ("[1-3]", ["1", "2", "3"]),
        ("", []),
    ],
)
def test_compressed_lists(text: str, names: list[str]) -> None:
    """Ranges keep their zeros, several brackets multiply, the order stays."""
    assert expand(text) == names


@pytest.mark.parametrize("text", ["a[1-", "a]1", "a[3-1]", "a[x-y]", "a[]"])
def test_a_list_that_makes_no_sense_is_refused(text: str) -> None:
    """The message holds the list."""
    with pytest.raises(ValueError, match="no list of nodes"):
        expand(text)


def test_host_files() -> None:
    """Slots as Open MPI and MPICH write them, repeated names, comments and blank lines."""
    text = "# mine\n\nn1 slots=4 max_slots=4\nn2:3   # three\nn3\nn3\nn1\n"
    assert distinct(lines(text)) == ["n1", "n2", "n3"]
    assert len(lines(text)) == 10


RECORDED = [
    pytest.param({"SLURM_JOB_NODELIST": "c[1-3]", "SLURM_JOB_ID": "7"}, "", ["c1", "c2", "c3"], id="slurm"),
    pytest.param({"SLURM_NODELIST": "c1"}, "", ["c1"], id="slurm-old"),
    pytest.param({"PBS_NODEFILE": "FILE", "PBS_JOBID": "7.pbs"}, "x1\nx1\nx2\nx2\n", ["x1", "x2"], id="pbs"),
    pytest.param({"COBALT_NODEFILE": "FILE"}, "k1\nk2\n", ["k1", "k2"], id="cobalt"),
    pytest.param({"LSB_DJOB_HOSTFILE": "FILE", "LSB_JOBID": "7"}, "h1\nh1\nh2\n", ["h1", "h2"], id="lsf-file"),
    pytest.param({"LSB_MCPU_HOSTS": "h1 4 h2 4 "}, "", ["h1", "h2"], id="lsf-counts"),
    pytest.param({"LSB_HOSTS": "h1 h1 h2"}, "", ["h1", "h2"], id="lsf-words"),
    pytest.param({"PE_HOSTFILE": "FILE"}, "g1 4 all.q@g1 UNDEFINED\ng2 4 all.q@g2 UNDEFINED\n", ["g1", "g2"], id="sge"),
]


@pytest.mark.parametrize(("environment", "content", "names"), RECORDED)
def test_each_scheduler_names_its_nodes(
    environment: dict[str, str], content: str, names: list[str], tmp_path: Path
) -> None:
    """What schedulers put into the environments of jobs leads to the nodes, each once."""
    file = tmp_path / "nodes"
    file.write_text(content)
    environment = {name: str(file) if value == "FILE" else value for name, value in environment.items()}
    assert allocation.find_nodes("mpiexec", None, environment) == names


def test_flux_is_asked_and_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Flux instance inside of a Slurm job names its nodes itself; older versions know only the second command."""
    flux = tmp_path / "flux"
    flux.write_text(
        '#!/bin/sh\n[ "$1" = getattr ] && echo "tux[1-2]" && exit 0\necho "no such command $1" >&2; exit 1\n'
    )
    flux.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    environment = {"FLUX_URI": "local:///run/flux/local", "SLURM_JOB_NODELIST": "c[1-9]"}
    assert allocation.find_nodes("flux", None, environment) == ["tux1", "tux2"]
    flux.write_text("#!/bin/sh\necho broker is down; exit 1\n")
    with pytest.raises(ValueError, match="broker is down"):
        allocation.find_nodes("flux", None, environment)


def test_a_launch_node_runs_nothing() -> None:
    """Where jsrun starts programs, the job's first node has one slot and is no place for them; elsewhere it counts."""
    environment = {"LSB_MCPU_HOSTS": "batch5 1 h41n18 42 h49n04 42"}
    assert allocation.find_nodes("jsrun", None, environment) == ["h41n18", "h49n04"]
    assert allocation.find_nodes("mpirun", None, environment) == ["batch5", "h41n18", "h49n04"]


def test_a_host_file_wins(tmp_path: Path) -> None:
    """The user's file counts and not the scheduler; without either it is this machine; an empty file is an error."""
    file = tmp_path / "hosts"
    file.write_text("a\nb\n")
    assert allocation.find_nodes("mpirun", str(file), {"SLURM_JOB_NODELIST": "c1"}) == ["a", "b"]
    assert len(allocation.find_nodes("mpirun", None, {})) == 1
    file.write_text("# nothing\n")
    with pytest.raises(ValueError, match="names no node"):
        allocation.find_nodes("mpirun", str(file), {})


# ------------------------------------------------------------------------------------------------------ command lines


@pytest.mark.parametrize(
    ("launcher", "kind", "line"),
    [
        ("srun", MPICH, "srun --ntasks 6 --ntasks-per-node 3 --nodelist a,b --nodes 2 -v"),
        ("mpiexec", MPICH, "mpiexec -n 6 -ppn 3 -hosts a,b -v"),
        ("mpirun", OPEN_MPI, "mpirun -n 6 --host a:3,b:3 --map-by ppr:3:node -v"),
        ("aprun", MPICH, "aprun -n 6 -N 3 -L a,b -v"),
        ("jsrun", MPICH, "jsrun -n 6 -r 3 -v"),
        ("flux", MPICH, "flux run -N 2 -n 6 --requires=hosts:a,b -v"),
    ],
)
def test_command_lines(launcher: str, kind: str, line: str) -> None:
    """Each launcher gets nodes, ranks and the user's options in its own words."""
    assert launcher in LAUNCHERS
    assert prefix(launcher, kind, ["a", "b"], 6, 3, "-v") == line


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/", OPEN_MPI),
        ("mpiexec (OpenRTE) 4.1.4", OPEN_MPI),
        ("prterun (PRRTE) 3.0.14", OPEN_MPI),
        ("HYDRA build details:\n    Version: 4.0.2", MPICH),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.9", MPICH),
        ("mpiexec version 1.4.0 revision 0000000", MPICH),
    ],
)
def test_flavours(said: str, kind: str) -> None:
    """What a launcher prints tells how it takes its options."""
    assert flavour(said) == kind


def test_a_host_file_has_a_line_for_each_process() -> None:
    """The last node may have fewer."""
    assert hostfile(["a", "b"], 5, 3).split() == ["a", "a", "a", "b", "b"]


# ----------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("asked", "request_"),
    [
        ({"num_nodes": 2, "ranks_per_node": 4}, Request(2, 8, 4, "")),
        ({"num_nodes": 2, "num_ranks": 8}, Request(2, 8, 4, "")),
        ({"num_nodes": 2, "num_ranks": 7}, Request(2, 7, 4, "")),
        ({"nodes": 3}, Request(3, 3, 1, "")),
        ({"ranks": 4}, Request(1, 4, 4, "")),
        ({"ranks": 5, "ranks_per_node": 2, "launcher_options": "-v"}, Request(3, 5, 2, "-v")),
        ({"nodes": 0.5, "ranks": 8, "priority": 3}, Request(0.5, 8, 8, "")),
    ],
)
def test_what_is_left_out_follows(asked: dict[str, Any], request_: Request) -> None:
    """Two of the three numbers, in old or new words, give the third."""
    assert parse_request(asked, "mpi") == request_


@pytest.mark.parametrize(
    ("asked", "keys", "text"),
    [
        ({}, [], "say what they need"),
        ({"priority": 1}, ["priority"], "say what they need"),
        ({"num_nodes": 2, "cores": 4}, ["cores"], "takes nodes"),
        ({"num_node": 2}, ["num_node"], "did you mean 'num_nodes'"),
        ({"nodes": 2, "num_nodes": 3}, ["nodes", "num_nodes"], "are the same and differ"),
        ({"nodes": 0}, ["nodes"], "of at least 1"),
        ({"nodes": 1.5}, ["nodes"], "of at least 1"),
        ({"nodes": "2"}, ["nodes"], "of at least 1"),
        ({"nodes": True}, ["nodes"], "of at least 1"),
        ({"nodes": 1, "ranks_per_node": 0}, ["ranks_per_node"], "of at least 1"),
        ({"nodes": 2, "ranks_per_node": 2, "ranks": 5}, ["nodes", "ranks_per_node", "ranks"], "from 2 to 4"),
        ({"nodes": 4, "ranks": 3}, ["nodes", "ranks"], "from 4 to 4"),
        ({"nodes": 1, "launcher_options": 3}, ["launcher_options"], "takes text"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], keys: list[str], text: str) -> None:
    """The error names the keys and says what is allowed."""
    with pytest.raises(InvalidResourceSpecification, match=text) as caught:
        parse_request(asked, "mpi")
    assert set(caught.value.invalid_keys) == set(keys)


def test_the_constructor_refuses() -> None:
    """A launcher that starts several managers, an unknown MPI launcher, options of the other executor."""
    with pytest.raises(TypeError, match=r"give LocalProvider\(launcher=SimpleLauncher"):
        MPIExecutor(provider=LocalProvider(launcher=SingleNodeLauncher()))
    with pytest.raises(ValueError, match="did you mean 'mpirun'"):
        MPIExecutor(mpi_launcher="mpirum")
    with pytest.raises(TypeError, match="no option 'cores_per_worker'"):
        MPIExecutor(cores_per_worker=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="max_workers_per_block"):
        MPIExecutor(max_workers_per_block=0)
    assert "mpi_launcher='srun'" in repr(MPIExecutor(mpi_launcher="srun"))


# --------------------------------------------------------------------------------------------------------- assignment


def _manager(name: str, nodes: int, slots: int) -> Register:
    return Register(1, "3.11", "1", name, name, "host", 1, slots=slots, nodes=[f"{name}n{i}" for i in range(nodes)])


def _task(number: int, nodes: float) -> Task:
    return Task(number, 0, 1, b"", Needs(resources={"nodes": nodes}, ranks=Ranks(1, 1)))


def test_parts_of_nodes() -> None:
    """Parts fill one node before they begin another, whole requests take only empty ones."""
    pool = Pool(_manager("m", 3, 9))
    first = pool.take({"nodes": 0.5}, 1)
    assert pool.take({"nodes": 0.5}, 1).nodes == first.nodes
    quarter = pool.take({"nodes": 0.25}, 1)
    assert quarter.nodes.keys() != first.nodes.keys()
    assert not pool.holds({"nodes": 2}) and pool.holds({"nodes": 1})
    pool.give(quarter)
    assert set(pool.take({"nodes": 2}, 1).nodes) == {"mn1", "mn2"}
    pool.check_invariants()


@pytest.mark.parametrize("seed", range(12))
def test_no_node_twice_and_nothing_is_lost(seed: int) -> None:
    """A random walk: no node has two tasks that did not both ask for a part of it; in the end every task has run."""
    rng = random.Random(seed)
    core = Dispatcher()
    blocks = [(f"m{i}", rng.randint(2, 6), rng.randint(1, 6)) for i in range(rng.randint(1, 3))]
    largest = max(nodes for _, nodes, _ in blocks)
    for name, nodes, slots in blocks:
        core.register(_manager(name, nodes, slots), 0.0)
    part = {name: 0.0 for block, nodes, _ in blocks for name in [f"{block}n{i}" for i in range(nodes)]}
    running: dict[tuple[int, int], tuple[str, dict[str, float]]] = {}
    done, number, total = 0, 0, 150
    while done < total:
        if number < total and rng.random() < 0.6:
            for _ in range(rng.randint(1, 5)):
                if number < total:
                    core.submit([_task(number, rng.choice([0.5, 0.25, *range(1, largest + 1)]))])
                    number += 1
        for assignment in core.assign():
            for task in assignment.tasks:
                assert task.needs is not None and task.needs.resources is not None and task.needs.nodes is not None
                asked = task.needs.resources["nodes"]
                names = task.needs.nodes
                assert len(names) == len(set(names)) == max(1, asked)
                assert all(name.startswith(assignment.manager.name + "n") for name in names)
                mine = dict.fromkeys(names, min(1.0, asked))
                for name, amount in mine.items():
                    part[name] += amount
                    assert part[name] <= 1 + 1e-9, name
                running[task.task, task.attempt] = (assignment.manager.name, mine)
        core.check_invariants()
        assert running or number < total, "tasks wait and nothing runs"
        if running and rng.random() < 0.7:
            key = rng.choice([*running])
            manager, mine = running.pop(key)
            for name, amount in mine.items():
                part[name] -= amount
            status = rng.choice([Status.OK, Status.WORKER_LOST, Status.RAISED])
            assert len(core.finish(manager, [Result(*key, int(status))], 1.0)) == 1
            done += 1


@pytest.mark.parametrize("slots", [1, 4, 8])
def test_a_large_task_does_not_starve(slots: int) -> None:
    """Behind an endless stream of small tasks one that wants all nodes starts after about as many as there are slots."""
    core = Dispatcher()
    core.register(_manager("m", 8, slots), 0.0)
    core.submit([_task(n, 1) for n in range(20)])
    core.submit([_task(1000, 8)])
    number, ended, running = 20, 0, dict[int, int]()
    while ended < 200:
        for assignment in core.assign():
            for task in assignment.tasks:
                running[task.task] = task.attempt
                if task.task == 1000:
                    assert ended <= 20 + 2 * slots
                    return
        core.submit([_task(number, 1), _task(number + 1, 1)])
        number += 2
        first = next(iter(running))
        core.finish("m", [Result(first, running.pop(first), int(Status.OK))], 1.0)
        ended += 1
    pytest.fail("the large task never started")
