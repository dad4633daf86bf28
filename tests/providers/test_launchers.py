"""Launchers: what their shell text does when bash runs it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from flowlib.errors import BadLauncher
from flowlib.launchers import Launcher, SimpleLauncher, SingleNodeLauncher, WrappedLauncher, check_launcher


def bash(text: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run shell text as a job script would."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", text], cwd=cwd, capture_output=True, text=True, timeout=20
    )


def test_simple(tmp_path: Path) -> None:
    """The command is run as it is, quotes and all."""
    assert SimpleLauncher()("echo 'a  b'", 4, 1) == "echo 'a  b'"


def test_wrapped(tmp_path: Path) -> None:
    """The text stands in front of the command."""
    assert bash(WrappedLauncher(prepend="echo wrapped")("command", 1, 1), tmp_path).stdout == "wrapped command\n"


@pytest.mark.parametrize(("tasks", "nodes"), [(1, 1), (3, 1), (2, 2)])
def test_single_node_runs_all_copies(tmp_path: Path, tasks: int, nodes: int) -> None:
    """There is one copy for each task of each node, and CORES is set for them."""
    done = bash(SingleNodeLauncher()('echo "copy $CORES"', tasks, nodes), tmp_path)
    assert done.stdout.splitlines() == [f"copy {os.sysconf('SC_NPROCESSORS_ONLN')}"] * tasks * nodes
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(
    ("fail_on_any", "failing", "code"), [(False, 1, 0), (False, 3, 7), (True, 1, 7), (True, 0, 0), (False, 0, 0)]
)
def test_single_node_exit_code(tmp_path: Path, debug: bool, fail_on_any: bool, failing: int, code: int) -> None:
    """A failed copy stops no other; the exit code follows fail_on_any, whether or not it talks."""
    os.makedirs(tmp_path / "places")
    command = (
        f"for i in 1 2 3; do mkdir {tmp_path}/places/$i 2>/dev/null && break; done\n[ $i -gt {failing} ] || exit 7"
    )
    done = bash(SingleNodeLauncher(debug=debug, fail_on_any=fail_on_any)(command, 3, 1), tmp_path)
    assert done.returncode == code
    assert sorted(os.listdir(tmp_path / "places")) == ["1", "2", "3"]
    assert (f"{failing} of 3 copies" in done.stderr) == (debug and failing > 0)


def test_single_node_waits_for_copies_that_were_told_to_end(tmp_path: Path) -> None:
    """On SIGTERM to the group it ends after its copies did, with their exit code."""
    command = "trap 'echo ending; exit 5' TERM; sleep 1000 & echo ready; wait"
    process = subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-c", SingleNodeLauncher()(command, 2, 1)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        os.killpg(process.pid, signal.SIGTERM)
        rest, _ = process.communicate(timeout=15)
        assert rest == "ending\n" * 2
        assert process.returncode == 5
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_single_node_copies_can_be_interrupted(tmp_path: Path) -> None:
    """Copies in the background do not inherit an ignored SIGINT."""
    python = "python3 -c 'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)'"
    # The two may write into each other's line.
    assert sorted(bash(SingleNodeLauncher()(python, 2, 1), tmp_path).stdout) == sorted("True\nTrue\n")


def test_no_launcher() -> None:
    """Something else is refused, with what it was."""
    with pytest.raises(BadLauncher, match=r"'srun'.*SimpleLauncher"):
        check_launcher("srun")
    assert isinstance(BadLauncher(3), TypeError)


def test_repr() -> None:
    """A launcher prints as the call that makes it."""
    made: Launcher = eval(repr(SingleNodeLauncher(debug=False, fail_on_any=True)))
    assert vars(made) == {"debug": False, "fail_on_any": True}
