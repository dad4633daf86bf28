"""Bash apps: commands, streams, files, failures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from flowlib import AUTO_LOGNAME, File, bash_app, python_app
from flowlib.errors import (
    AppTimeout,
    BadStdStreamFile,
    BashAppNoReturn,
    BashExitFailure,
    DependencyError,
    MissingOutputs,
)

DEADLINE = 30


@bash_app
def run(command: str, stdout: Any = None, stderr: Any = None, inputs: Any = (), outputs: Any = ()) -> str:
    """A command as given."""
    return command


@python_app
def read(file: Any) -> str:
    """A file's text."""
    with open(file) as f:
        return f.read()


def test_result_is_zero() -> None:
    """A command that ends well has the value 0."""
    assert run("true").result(DEADLINE) == 0


@pytest.mark.parametrize("code", [1, 3, 126, 127, 255])
def test_exit_code(code: int, kind: str) -> None:
    """The exit code, the command and the host are in the error."""
    with pytest.raises(BashExitFailure) as caught:
        run(f"echo to-stderr >&2; exit {code}").result(DEADLINE)
    assert caught.value.exitcode == code
    assert f"exit {code}" in caught.value.command
    assert caught.value.host
    assert "to-stderr" in str(caught.value)


def test_killed_by_signal() -> None:
    """A command that dies of a signal is a failure as bash reports it."""
    with pytest.raises(BashExitFailure) as caught:
        run("bash -c 'kill -KILL $$'; exit $?").result(DEADLINE)
    assert caught.value.exitcode == 128 + 9


@pytest.mark.parametrize("spelling", ["str", "path", "append", "truncate", "file"])
def test_stdout_in_every_spelling(tmp_path: Path, spelling: str) -> None:
    """stdout may be a string, a path, a (path, mode) pair or a File."""
    path = tmp_path / "made" / "here" / "out.txt"
    specification: Any = {
        "str": str(path),
        "path": path,
        "append": (str(path), "a"),
        "truncate": (path, "w"),
        "file": File(str(path)),
    }[spelling]
    for _ in range(2):
        run("echo hello", stdout=specification).result(DEADLINE)
    expected = 1 if spelling in ("truncate", "file") else 2
    assert path.read_text() == "hello\n" * expected


def test_stderr_holds_the_command(tmp_path: Path) -> None:
    """A redirected stderr starts with the command that ran."""
    path = tmp_path / "err.txt"
    run("echo oops >&2", stderr=str(path)).result(DEADLINE)
    assert path.read_text() == "--> executable follows <--\necho oops >&2\n--> end executable <--\noops\n"


def test_auto_logname() -> None:
    """AUTO_LOGNAME chooses files below the run directory and says which."""
    future = run("echo out; echo err >&2", stdout=AUTO_LOGNAME, stderr=AUTO_LOGNAME)
    future.result(DEADLINE)
    assert Path(future.stdout).read_text() == "out\n"
    assert "err\n" in Path(future.stderr).read_text()
    assert "task_logs" in future.stdout


@pytest.mark.parametrize("bad", [("only-one",), ("a", "b", "c"), 5, ("x", 7)], ids=repr)
def test_bad_stream_specification(bad: Any) -> None:
    """A stream specification that makes no sense is refused."""
    with pytest.raises((BadStdStreamFile, TypeError)):
        run("true", stdout=bad).result(DEADLINE)


def test_unwritable_stream() -> None:
    """A stream that cannot be opened fails the task and names the file."""
    with pytest.raises(BadStdStreamFile, match="/proc/nothing"):
        run("true", stdout="/proc/nothing/here.txt").result(DEADLINE)


def test_files_pass_from_app_to_app(tmp_path: Path) -> None:
    """Outputs are futures of files; files as inputs make dependencies."""

    @bash_app
    def write(text: str, outputs: Any = ()) -> str:
        return f"echo {text} > {outputs[0]}"

    @bash_app
    def join(inputs: Any = (), outputs: Any = ()) -> str:
        return f"cat {' '.join(str(i) for i in inputs)} > {outputs[0]}"

    parts = [write(f"part{i}", outputs=[File(str(tmp_path / f"{i}.txt"))]).outputs[0] for i in range(3)]
    whole = join(inputs=parts, outputs=[File(str(tmp_path / "all.txt"))])
    assert whole.outputs[0].result(DEADLINE).filepath == str(tmp_path / "all.txt")
    assert read(whole.outputs[0]).result(DEADLINE) == "part0\npart1\npart2\n"
    assert whole.outputs[0].filename.endswith("all.txt")


def test_missing_output(tmp_path: Path) -> None:
    """A declared output that was not made is an error, and those behind it fail."""
    future = run("true", outputs=[File(str(tmp_path / "never.txt"))])
    with pytest.raises(MissingOutputs, match=r"never\.txt"):
        future.result(DEADLINE)
    with pytest.raises(DependencyError):
        read(future.outputs[0]).result(DEADLINE)


def test_no_return() -> None:
    """A body without a command line is an error that says so."""

    @bash_app
    def nothing() -> Any:
        pass

    with pytest.raises((BashAppNoReturn, ValueError), match="nothing"):
        nothing().result(DEADLINE)


def test_formatting_by_keywords() -> None:
    """The body is Python: it may format with its arguments."""

    @bash_app
    def say(name: str, times: int = 1, stdout: Any = None) -> str:
        return f"for i in $(seq {times}); do echo {name}; done"

    future = say("x", times=3, stdout=AUTO_LOGNAME)
    future.result(DEADLINE)
    assert Path(future.stdout).read_text() == "x\nx\nx\n"


def test_walltime_kills_the_whole_group(tmp_path: Path) -> None:
    """At its walltime a command dies with everything it started."""
    pids = tmp_path / "pids"
    with pytest.raises(AppTimeout):
        bash_app(lambda path, walltime=1: f"sleep 300 & echo $! > {path}; echo $$ >> {path}; wait")(pids).result(
            DEADLINE
        )
    _, alive = psutil.wait_procs(
        [psutil.Process(int(p)) for p in pids.read_text().split() if psutil.pid_exists(int(p))], 5
    )
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_environment_and_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes, dollars and newlines reach bash as written."""
    future = run("v='a  b'\nprintf '%s|' \"$v\" \"$((1+1))\"", stdout=AUTO_LOGNAME)
    future.result(DEADLINE)
    assert Path(future.stdout).read_text() == "a  b|2|"


def test_inputs_default_is_not_shared() -> None:
    """A mutable default argument is not changed by calls."""

    @bash_app
    def touch(outputs: Any = []) -> str:  # noqa: B006
        return "touch " + " ".join(str(o) for o in outputs) if outputs else "true"

    where = os.path.join(os.getcwd(), "t.txt")
    touch(outputs=[File(where)]).result(DEADLINE)
    assert touch().outputs == []
