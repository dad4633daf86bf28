"""Run directories: numbered, private, and never shared by two drivers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flowlib.errors import ConfigurationError
from flowlib.rundirs import EVENT_LOG, find_run, make_rundir


def test_next_after_the_highest(tmp_path: Path) -> None:
    """Numbers go up from the highest there is, whatever else lies there, and keep going after 999."""
    assert make_rundir(tmp_path / "a" / "runinfo") == str(tmp_path / "a" / "runinfo" / "000")
    for name in ("7", "012", "notes", "0x1", "٣٤"):
        (tmp_path / name).mkdir()
    assert os.path.basename(make_rundir(tmp_path)) == "013"
    (tmp_path / "999").mkdir()
    assert os.path.basename(make_rundir(tmp_path)) == "1000"


def test_private_and_absolute(in_tmp: Path) -> None:
    """Only the user can look into a run directory, and its path holds after a chdir."""
    run = make_rundir("runinfo")
    assert os.path.isabs(run)
    assert stat.S_IMODE(os.stat(run).st_mode) == 0o700


def test_simultaneous_starts(tmp_path: Path) -> None:
    """Several processes that start at once each get a directory of their own."""
    program = (
        "import sys; from flowlib.rundirs import make_rundir\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(*[make_rundir(sys.argv[1]) for _ in range(25)])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    children = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(3)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        made = [run for child in children for run in child.communicate(timeout=30)[0].split()]
    finally:
        for child in children:
            child.kill()
            child.wait(10)
    assert len(set(made)) == 75
    assert sorted(os.listdir(tmp_path)) == [f"{n:03}" for n in range(75)]


def test_cannot_be_made(tmp_path: Path) -> None:
    """A base that is a file is refused with what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"file.*Config\(run_dir=\.\.\.\)"):
        make_rundir(tmp_path / "file")


def test_find_run(in_tmp: Path) -> None:
    """A run is found by its directory, its number, a directory with runs, and as the newest one here."""
    with pytest.raises(ConfigurationError, match="no run found"):
        find_run()
    runs = [make_rundir("runinfo") for _ in range(3)]
    for run in runs[:2]:
        Path(run, EVENT_LOG).write_bytes(b"")
    assert [os.path.abspath(find_run(given)) for given in (None, "runinfo", ".", "1", runs[0], "0")] == [
        *(runs[1], runs[1], runs[1], runs[1], runs[0], runs[0])
    ]
    with pytest.raises(ConfigurationError, match="no run found"):
        find_run("2")
