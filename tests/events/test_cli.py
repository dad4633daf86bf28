"""The ``flowlib`` command, called as a function and as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowlib.cli import main
from flowlib.events.log import EventLog
from flowlib.events.schema import Code
from flowlib.rundirs import EVENT_LOG, make_rundir
from flowlib.version import VERSION

ROOT = Path(__file__).parents[2]


def make_run(base: str, records: int = 3) -> str:
    """A run directory with that many finished tasks in its log."""
    run = make_rundir(base)
    with EventLog(os.path.join(run, EVENT_LOG)) as log:
        for number in range(records):
            log.emit((Code.TASK_DONE, 100.0 + number, number, 3))
        assert log.close(20)
    return run


def test_json(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest run here is printed, one object per line, with names."""
    make_run("runinfo", 1)
    make_run("runinfo")
    assert main(["events", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["task"] for line in lines] == [0, 1, 2]
    assert lines[0] == {"event": "TASK_DONE", "time": 100.0, "task": 0, "state": "exec_done"}


def test_text_of_a_given_run(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run is given by directory, number or file."""
    run = make_run("runinfo")
    for given in (run, "0", os.path.join(run, EVENT_LOG)):
        assert main(["events", given]) == 0
        assert "TASK_DONE      task=2 state=exec_done" in capsys.readouterr().out


def test_damage_is_told(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read is told on standard error; the rest is printed."""
    path = os.path.join(make_run("runinfo"), EVENT_LOG)
    with open(path, "ab") as file:
        file.write(b"junk" * 10)
    with EventLog(path) as log:
        log.emit((Code.TASK_DONE, 200.0, 99, 3))
    with open(path, "ab") as file:
        file.write(b"\xf1\x0e\xe7\x9c\xff")
    assert main(["events"]) == 0
    captured = capsys.readouterr()
    assert "task=99" in captured.out
    assert "40 bytes at" in captured.err
    assert "last 5 bytes are incomplete" in captured.err


def test_no_run(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no run, the error says where it looked."""
    assert main(["events"]) == 1
    assert "no run found" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nonsense"], ["events", "--nonsense"]])
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown commands and options are refused with the usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: flowlib" in capsys.readouterr().err


def test_help_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The bare command shows what there is."""
    assert main([]) == 0
    assert "events" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is the one that the package was built with."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"flowlib {VERSION}\n"
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text()


def test_reader_that_leaves(in_tmp: Path) -> None:
    """A pipe whose other end has seen enough ends the command quietly."""
    run = make_run("runinfo", 20_000)
    command = [sys.executable, "-m", "flowlib", "events", "--json", run]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, stdout=-1, stderr=-1, env=environment)
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        assert b"TASK_DONE" in child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait(10)
        child.stderr.close()


def test_failed_and_summary(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Why tasks failed and what became of each app, from a real run."""
    import flowlib
    from flowlib.config import Config
    from flowlib.executors import ThreadPoolExecutor

    @flowlib.python_app
    def invert(x: float) -> float:
        return 1 / x

    @flowlib.join_app
    def nothing() -> None:
        return None

    with flowlib.load(Config(executors=[ThreadPoolExecutor()], retries=1)):
        bad = invert(0)
        behind = invert(bad)
        futures = [invert(2), bad, behind, nothing()]
        assert [type(f.exception()).__name__ for f in futures] == [
            *("NoneType", "ZeroDivisionError", "DependencyError", "TypeError")
        ]
    assert main(["events", "--failed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 of 4 tasks failed"
    first, second, third = sorted(lines[1:])
    assert first == "task 0 (invert): ZeroDivisionError: division by zero (2 tries: ZeroDivisionError)"
    assert second == "task 1 (invert): not run, because task 0 (invert) failed"
    assert third.startswith("task 3 (nothing): TypeError: join_app body must return a Future")
    assert all(len(line) <= 160 for line in lines)
    assert main(["events", "--summary"]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[1][:8] == ["invert", "3", "dep_fail", "1,", "exec_done", "1,", "failed", "1"]
    assert table[2][:4] == ["nothing", "1", "failed", "1"]
    assert table[3][:3] == ["the", "run", "took"]


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused with the nearest one."""
    with pytest.raises(SystemExit) as refused:
        main(["event"])
    assert refused.value.code == 2
    assert "'event' is no command: did you mean 'events'?" in capsys.readouterr().err


def test_summary_of_machines(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What became of blocks, managers and workers, and that a run is not over, stands below the apps."""
    run = make_rundir("runinfo")
    with EventLog(os.path.join(run, EVENT_LOG)) as log:
        log.emit((Code.RUN_STARTED, 100.0))
        log.emit((Code.BLOCK, 101.0, 0, "0", "submitted", "77", ""))
        log.emit((Code.BLOCK, 102.0, 0, "0", "failed", "77", "job 77 FAILED\nwith exit code 3"))
        log.emit((Code.MANAGER, 103.0, 0, 0, "m", "registered", "1", "host", 4, "", {}))
        log.emit((Code.WORKER_LOST, 104.0, 0, 0, 2, 5, 0, "killed"))
        assert log.close(20)
    assert main(["events", "--summary"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "blocks: 1 submitted, 1 failed",
        "managers: 1 registered",
        "workers lost with a task: 1",
        "blocks failed: 1, because: job 77 FAILED with exit code 3",
        "the run is not over, or was killed; so far 4 s",
    ]


def test_lines_are_cut_for_a_terminal(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fit a terminal unless ``-v`` asks for all; what goes into a pipe or file is whole."""
    run = make_rundir("runinfo")
    with EventLog(os.path.join(run, EVENT_LOG)) as log:
        log.emit((Code.MESSAGE, 100.0, "info", "x", "long " * 100))
        assert log.close(20)
    assert main(["events"]) == 0
    assert len(capsys.readouterr().out.splitlines()[1]) > 500
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["events"]) == 0
    assert [len(line) for line in capsys.readouterr().out.splitlines()][1:] == [60]
    assert main(["events", "-v"]) == 0
    assert len(capsys.readouterr().out.splitlines()[1]) > 500


def make_waiting_run(base: str) -> str:
    """A run directory with a task that failed and one that waited for it."""
    run = make_rundir(base)
    with EventLog(os.path.join(run, EVENT_LOG)) as log:
        for record in (
            (Code.APP, 100.0, 0, "simulate", "python", "m", "f.py", 3),
            (Code.EXECUTOR, 100.0, 0, "threads", "ThreadPoolExecutor", ""),
            (Code.TASK_SUBMITTED, 100.0, 0, 0, []),
            (Code.TASK_LAUNCHED, 100.0, 0, 0, 0),
            (Code.TASK_SUBMITTED, 101.0, 1, 0, [0]),
            (Code.TRY_ENDED, 103.0, 0, 0, 1, 101.5, 103.0, -1, -1, "builtins.ValueError", "bad"),
            (Code.TASK_DONE, 103.0, 0, 4),
            (Code.TASK_DONE, 103.0, 1, 5),
            (Code.RUN_ENDED, 104.0, "cleanup", {}),
        ):
            log.emit(record)
        assert log.close(20)
    return run


def test_explain_a_task(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The history of a task: a sentence and a line for each stretch, or one object."""
    run = make_waiting_run("runinfo")
    assert main(["explain", "0"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "task 0 (simulate) failed after 3.0 s: 1.5 s for a free worker, 1.5 s running"
    assert [line.split()[4] for line in lines] == ["capacity", "running"]
    for given in (run, "0", os.path.join(run, EVENT_LOG)):
        assert main(["explain", "--json", "1", given]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["state"], told["seconds"]) == ("dep_fail", {"dependency": 2.0})


def test_explain_a_run(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a task there is a line for each reason; a run may be given alone."""
    run = make_waiting_run("runinfo")
    for given in ([], [run]):
        assert main(["explain", *given]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "2 tasks, 2 ended (2 without a value)"
        assert [line.split()[0] for line in lines[1:]] == ["reason", "dependency", "capacity", "running"]
    assert main(["explain", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["reason"]: row["seconds"] for row in told["reasons"]} == {
        "dependency": 2.0,
        "capacity": 1.5,
        "running": 1.5,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["7"], "there is no task 7 in this run: its tasks are 0 to 1; the nearest is 1"),
        (["simulate"], "'simulate' is no task and no run: give a task by its number"),
        (["0", "nowhere"], "no run found"),
    ],
)
def test_explain_what_is_not_there(
    arguments: list[str], words: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not there is refused with what is."""
    make_waiting_run("runinfo")
    assert main(["explain", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_explain_an_empty_run(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run without tasks is told as such."""
    with EventLog(os.path.join(make_rundir("runinfo"), EVENT_LOG)) as log:
        log.emit((Code.RUN_ENDED, 100.0, "cleanup", {}))
    assert main(["explain", "0"]) == 1
    assert "no task was submitted in this run" in capsys.readouterr().err
    assert main(["explain"]) == 0
    assert capsys.readouterr().out.startswith("0 tasks, 0 ended")
