"""Launchers that call a machine's program, with programs that do as the real ones: what runs, how often, which code."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flowlib.errors import BadLauncher, ConfigurationError
from flowlib.launchers import (
    AprunLauncher,
    ContainerLauncher,
    FluxLauncher,
    GnuParallelLauncher,
    JsrunLauncher,
    Launcher,
    MpiExecLauncher,
    MpiRunLauncher,
    SimpleLauncher,
    SrunLauncher,
    SrunMPILauncher,
)

# Runs what stands behind its options, as often as an option says; writes down how it was called.
_PROGRAM = """\
#!/bin/bash
printf -v call '%s|' "$0" "$@"
echo "$call" >>"$CALLS"  # in one write: several may run at once
copies=1
while [ $# -gt 0 ]; do
    case "$1" in
        --ntasks=*) copies=${1#*=}; shift ;;
        -n|-np) copies=$2; shift 2 ;;
        --hostfile) cp "$2" "$CALLS.hosts"; shift 2 ;;
        --bind-to|-N|-r|-o|--bind|--pwd|--extra) shift 2 ;;
        --*|-l) shift ;;
        exec|run) shift ;;
        *.sif) shift ;;
        *) break ;;
    esac
done
code=0
for ((i = 0; i < copies; i++)); do NODE=$i "$@" || code=$?; done
exit $code
"""
_PARALLEL = """\
#!/bin/bash
printf -v call '%s|' "$0" "$@"
echo "$call" >>"$CALLS"  # in one write: several may run at once
failed=0
while IFS= read -r -d '' command; do sh -c "$command" </dev/null || failed=$((failed + 1)); done
exit $failed
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a launcher's text as a job script would, with the programs on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("srun", "aprun", "jsrun", "mpiexec", "mpirun", "flux", "apptainer", "parallel"):
        path = programs / name
        path.write_text(_PARALLEL if name == "parallel" else _PROGRAM)
        path.chmod(0o755)

    def go(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-c", text], cwd=tmp_path, capture_output=True, text=True,
            timeout=20, check=False,
            env={"PATH": path, "CALLS": str(tmp_path / "calls"), "TMPDIR": str(tmp_path), **environment},
        )  # fmt: skip

    return go


BY_PROGRAM = [
    SrunLauncher, AprunLauncher, JsrunLauncher, MpiExecLauncher, MpiRunLauncher, FluxLauncher, GnuParallelLauncher,
]  # fmt: skip


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("make", BY_PROGRAM)
def test_all_copies_run(run: Run, tmp_path: Path, make: Callable[..., Launcher], debug: bool) -> None:
    """There is a copy for each task of each node; quotes survive; variables are those of the copy; it succeeds."""
    done = run(make(debug=debug)("printf '%s\\n' 'a  \"b\"' \"${NODE-none}\"", 2, 3))
    assert (done.returncode, done.stdout.count('a  "b"\n')) == (0, 6)
    if make is not GnuParallelLauncher:
        assert {line for line in done.stdout.splitlines() if line.isdigit()} == set("012345")
    assert bool(done.stderr) == debug
    assert not [name for name in os.listdir(tmp_path) if name.startswith("tmp.")]


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("make", [*BY_PROGRAM, SrunMPILauncher])
def test_exit_code_is_kept(run: Run, make: Callable[..., Launcher], debug: bool) -> None:
    """The text ends with the program's exit code, whether or not it talks."""
    assert run(make(debug=debug)("exit 7", 1, 1)).returncode == (1 if make is GnuParallelLauncher else 7)
    assert run(make(debug=debug)("exit 0", 1, 1)).returncode == 0


@pytest.mark.parametrize("make", [SrunLauncher, AprunLauncher, JsrunLauncher, MpiExecLauncher, MpiRunLauncher,
                                  FluxLauncher, SrunMPILauncher])  # fmt: skip
def test_overrides(run: Run, tmp_path: Path, make: Callable[..., Launcher]) -> None:
    """More options stand behind the launcher's own, before the command."""
    assert run(make(overrides="--extra 'x y'")("true", 1, 1)).returncode == 0
    assert "--extra|x y|/bin/bash|-c|true|" in (tmp_path / "calls").read_text()


def test_srun_gives_steps_all_cpus(run: Run) -> None:
    """A step gets as many CPUs as its job asked for, which newer Slurms do not do by themselves."""
    text = SrunLauncher(debug=False)('echo "cpus $SRUN_CPUS_PER_TASK"', 1, 1)
    assert run(text, SLURM_CPUS_PER_TASK="64").stdout == "cpus 64\n"
    assert run(text).stdout == "cpus \n"


@pytest.mark.parametrize(
    ("tasks", "nodes", "expected"),
    [(1, 4, "--exclusive|--nodes=1|--ntasks=8|"), (2, 2, "--exact|--nodes=1|--ntasks=8|")],
)
def test_srun_mpi_shares(run: Run, tmp_path: Path, tasks: int, nodes: int, expected: str) -> None:
    """Each copy has a step of its own with its share of the nodes, or of a node's cores."""
    cores = "8" if tasks == 1 else "16"
    environment = {"SLURM_CPUS_ON_NODE": cores, "SLURM_JOB_NUM_NODES": str(nodes)}
    assert run(SrunMPILauncher()("true", tasks, nodes), **environment).returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == tasks * nodes
    assert all(expected in call for call in calls)


@pytest.mark.parametrize("variable", ["PBS_NODEFILE", "LSB_DJOB_HOSTFILE", "PE_HOSTFILE"])
def test_hosts(run: Run, tmp_path: Path, variable: str) -> None:
    """The nodes are found in each scheduler's own file, each as often as it has tasks."""
    nodes = tmp_path / "nodes"
    nodes.write_text("n1 4 q@n1 <NULL>\nn2 4 q@n2 <NULL>\n" if variable == "PE_HOSTFILE" else "n1\nn1\nn2\n")
    assert run(MpiExecLauncher()("true", 2, 2), **{variable: str(nodes)}).returncode == 0
    assert (tmp_path / "calls.hosts").read_text() == "n1\nn1\nn2\nn2\n"
    assert run(GnuParallelLauncher()("exit 1", 2, 2), **{variable: str(nodes)}).returncode == 4


def test_container(run: Run, tmp_path: Path) -> None:
    """The command runs in the container, once for each copy of the inner launcher; exit codes come through."""
    launcher = ContainerLauncher("my image.sif", SimpleLauncher(), options="--nv")
    done = run(launcher("echo 'in  side' $NODE; exit 5", 1, 1))
    assert (done.stdout, done.returncode) == ("in  side 0\n", 5)
    assert "apptainer|exec|--bind|" in (tmp_path / "calls").read_text()
    spread = ContainerLauncher("image.sif", SrunLauncher(debug=False))
    assert run(spread("echo x", 1, 3)).stdout == "x\n" * 3
    with pytest.raises(ConfigurationError, match="did you mean 'apptainer'"):
        ContainerLauncher("image.sif", engine="aptainer")
    with pytest.raises(BadLauncher):
        ContainerLauncher("image.sif", launcher="srun")  # type: ignore[arg-type]
