"""``flowlib doctor`` on this machine, on a scheduler's fake commands, and with a block."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from flowlib.cli import main
from flowlib.testing import FakeScheduler, wait_until

CONFIG = """\
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor
from flowlib.launchers import SimpleLauncher
from flowlib.providers import SlurmProvider

def config():
    provider = SlurmProvider(
        partition="shrt", account="p1", launcher=SimpleLauncher(), cmd_timeout=5, status_polling_interval=0.2
    )
    return Config(executors=[HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=1, provider=provider)])
"""
COMMANDS = {
    "sbatch": '[ "$1" = --version ] && echo slurm 23.11.4 && exit\n'
    'echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2; exit 1',
    "squeue": "exit 0",
    "scancel": "exit 1",
    "sinfo": "echo short; echo long",
    "sacctmgr": "echo p1; echo p2",
}


def findings(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> dict[str, Any]:
    """What the doctor finds, by check."""
    capsys.readouterr()
    assert main(["doctor", "--json", *arguments]) == code
    return {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Version, partitions, accounts and the verdict of a test submission are found; nothing is submitted."""
    (tmp_path / "bin").mkdir()
    for name, body in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name} $* >>{tmp_path}/calls\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    found = findings(capsys, "config.py", code=1)
    assert "slurm 23.11.4" in found["commands"]["text"]
    assert found["scheduler"]["level"] == "ok"
    assert "did you mean 'short'" in found["partition"]["text"]
    assert found["partition"]["remedy"] == "choose one of: long, short"
    assert found["account"] == {"check": "account", "level": "ok", "text": "p1", "remedy": ""}
    assert "Invalid partition name specified" in found["job"]["text"]
    submissions = [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("sbatch")]
    assert all("--test-only" in line or "--version" in line for line in submissions)
    assert main(["doctor", "config.py", "--job"]) == 1
    text = capsys.readouterr().out
    assert "block: not tried, because of the failures above" in text
    assert "2 failures, 1 warning" in text


def test_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One task in one job compares the two sides; job and files are gone afterwards."""
    from flowlib.doctor.block import examine
    from flowlib.doctor.command import _config

    cluster = FakeScheduler("slurm", tmp_path)
    try:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        Path("config.py").write_text(CONFIG)
        config = _config("config.py", {})
        assert config is not None
        told = examine(config, 50)
        assert (told.error, told.pending, told.reads, told.wrote) == ("", "", True, True)
        assert abs(told.clock_ahead) <= told.doubt + 0.1
        assert len(cluster.jobs()) == 1
        cluster.hold()
        waiting = _config("config.py", {})
        assert waiting is not None
        assert "pending" in examine(waiting, 2).pending
        wait_until(lambda: not cluster.alive())
        assert not [name for name in os.listdir() if name.startswith(".flowlib-doctor")]
    finally:
        cluster.close()


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an argument, and with a block, this machine is looked at."""
    monkeypatch.chdir(tmp_path)
    found = findings(capsys, "--job", "--wait", "50", code=0)
    assert found["block"]["level"] == found["Python there"]["level"] == found["shared directory"]["level"] == "ok"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "has no configuration: let it assign a Config to `config`"),
        ("config = 1 / 0\n", "raises ZeroDivisionError"),
    ],
)
def test_wrong_file(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without a configuration is one line that says what it must have."""
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert main(["doctor", str(path)]) == 1
    assert message in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "none.py")]) == 1
    assert "there is no file" in capsys.readouterr().err
    assert main(["doctor", "frontir"]) == 1
    assert "did you mean 'frontier'" in capsys.readouterr().err
