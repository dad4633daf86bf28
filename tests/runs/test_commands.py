"""``flowlib ps``, ``cancel``, ``logs`` and ``run`` with real drivers and a fake scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.cli import main
from flowlib.errors import ConfigurationError
from flowlib.sites import environment
from flowlib.testing import FakeScheduler, wait_until

SITE = """\
name = "Ours"
scheduler = "slurm"
verified = 2026-01-31
launcher = "simple"
poll_seconds = 0.2

[executor]
address = "127.0.0.1"

[parameters.account]
help = "project that pays"
example = "p1"

[partition.short]
max_nodes = 4
walltime = "01:00:00"
workers = 1
"""
SCRIPT = """\
import os, sys
import flowlib

@flowlib.python_app
def where(n):
    return n * n, os.environ.get("JOBNAME")

with flowlib.load():
    print(where(6).result(50), sys.argv[1:], "FLOWLIB_SITE" in os.environ, flush=True)
    if sys.argv[1:] == ["stay"]:
        sys.stdin.read()
"""
SECONDS = 50


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeScheduler]:
    """A fake Slurm that is the site "ours", with a script in the current directory."""
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "ours.toml").write_text(SITE)
    (tmp_path / "script.py").write_text(SCRIPT)
    found = FakeScheduler("slurm", tmp_path)
    for name, value in {**found.environment, "FLOWLIB_SITES": str(tmp_path / "sites")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield found
    found.close()


@pytest.fixture
def driver(cluster: FakeScheduler) -> Iterator[subprocess.Popen[str]]:
    """A script that was started by ``flowlib run`` and stays, with one task done."""
    process = start("stay")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("(36, 'flowlib."), line
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=SECONDS)


def start(*arguments: str) -> subprocess.Popen[str]:
    """``flowlib run`` of the script on the site."""
    return subprocess.Popen(
        [sys.executable, "-m", "flowlib", "run", "--site", "ours", "--account=p1", "--strategy-period=1"]
        + ["script.py", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command prints."""
    capsys.readouterr()
    assert main(arguments) == code
    return capsys.readouterr().out


def answer(capsys: pytest.CaptureFixture[str], command: str, *arguments: str, code: int = 0) -> Any:
    """What a command answers as JSON."""
    return json.loads(output(capsys, command, "--json", *arguments, code=code))


def test_living_run(cluster: FakeScheduler, driver: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A living run is shown with its job, whose name holds its id; cancelling it ends the driver and the job."""
    wait_until(lambda: answer(capsys, "ps")[0]["tasks"] == {"done": 1})
    (told,) = answer(capsys, "ps")
    assert (told["state"], told["pid"]) == ("alive", driver.pid)
    (job,) = cluster.jobs()
    assert told["blocks"][0]["job"] == str(job.n)
    assert job.name.startswith(f"flowlib.{told['id'][:8]}.")
    assert told["run"].endswith("runinfo/000")
    shown = output(capsys, "ps")
    assert "alive" in shown
    assert f"(job {job.n})" in shown
    assert "would interrupt" in output(capsys, "cancel", told["id"][:6], "--dry-run")
    assert driver.poll() is None
    assert "has ended" in output(capsys, "cancel", told["id"][:6])
    driver.wait(SECONDS)
    wait_until(lambda: not cluster.alive())
    assert answer(capsys, "ps") == []
    assert answer(capsys, "ps", "--all")[0]["state"] == "ended"


def test_orphans(cluster: FakeScheduler, driver: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The pending job of a killed driver is found by name and cancelled; jobs of others are not touched."""
    cluster.hold()
    other = Path("other.sh")
    other.write_text(
        "#!/bin/bash\n#SBATCH --job-name=flowlib.other\n#SBATCH --time=00:10:00\n#SBATCH --output=o\n#SBATCH --error=e\nsleep 60\n"
    )
    subprocess.run(["sbatch", str(other)], check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
    assert output(capsys, "cancel", "--orphans") == "no job is left of a run whose driver is gone\n"
    second = start()
    wait_until(lambda: len(cluster.jobs()) == 3)
    for process in (driver, second):
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=SECONDS)
    pending = cluster.jobs()[-1]
    by_run = {told["run"]: told for told in answer(capsys, "ps", "--orphans")}
    assert {told["state"] for told in by_run.values()} == {"interrupted"}
    assert str(pending.n) in {orphan["job"] for told in by_run.values() for orphan in told["orphans"]}
    assert any(not j["cancelled"] for told in answer(capsys, "cancel", "--orphans", "-n") for j in told["jobs"])
    assert f"job {pending.n} ({pending.name}): cancelled" in output(capsys, "cancel", "--orphans")
    assert answer(capsys, "ps", "--orphans") == []
    cancelled = " ".join(cluster.calls("scancel"))
    assert str(pending.n) in cancelled
    mine = next(job for job in cluster.jobs() if job.name == "flowlib.other")
    assert str(mine.n) not in cancelled.split()


def test_logs(driver: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The driver's log, a block's logs and the interchange's are found; a part that makes no sense is an error."""
    assert "run " in output(capsys, "logs")
    block = [entry["file"] for entry in answer(capsys, "logs", "block-0")]
    assert any(name.endswith("manager.log") for name in block)
    assert any(name.endswith(".sh.out") for name in block)
    (interchange,) = answer(capsys, "logs", "--interchange")
    assert interchange["file"].endswith("interchange.log")
    assert main(["logs", "runinfo/000", "nonsense"]) == 1
    assert "give task-7, block-0" in capsys.readouterr().err
    assert main(["logs", "task-99"]) == 1
    assert "task-99 has no log" in capsys.readouterr().err


def test_follow(tmp_path: Path) -> None:
    """Following a task's output prints what is added, and ends with the run."""
    script = tmp_path / "talk.py"
    script.write_text(
        "import sys, flowlib\n"
        "from flowlib.config import Config\nfrom flowlib.executors import ThreadPoolExecutor\n"
        "@flowlib.bash_app\ndef talk(stdout='talk.txt'):\n    return 'echo first; read -t 40 line <go; echo $line'\n"
        "with flowlib.load(Config(executors=[ThreadPoolExecutor()])):\n    talk().result(45)\n"
    )
    os.mkfifo(tmp_path / "go")
    run = subprocess.Popen([sys.executable, script.name], cwd=tmp_path)
    wait_until(lambda: (tmp_path / "talk.txt").exists() and (tmp_path / "talk.txt").read_text() == "first\n")
    follow = subprocess.Popen(
        [sys.executable, "-m", "flowlib", "logs", "-f", "task-0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert follow.stdout is not None
    assert follow.stdout.readline() == "first\n"
    (tmp_path / "go").write_text("second\n")
    rest, _ = follow.communicate(timeout=SECONDS)
    assert rest == "second\n"
    assert follow.returncode == run.wait(SECONDS) == 0


def test_driver_in_job(cluster: FakeScheduler, capsys: pytest.CaptureFixture[str]) -> None:
    """The script runs in one job, on whose nodes its tasks run: no other job is made."""
    told = answer(capsys, "run", "--site", "ours", "--driver-in-job", "--account=p1", "script.py", "a", "b=c")
    wait_until(lambda: os.path.exists(told["output"]) and "\n" in Path(told["output"]).read_text(), SECONDS)
    text = Path(told["output"]).read_text()
    assert text.startswith("(36, 'flowlib.")
    assert text.endswith("['a', 'b=c'] False\n")
    assert [job.name for job in cluster.jobs()] == [told["name"]]
    wait_until(lambda: not cluster.alive())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--site", "ours", "script.py"], "project that pays"),
        (["--site", "ous", "--account=p1", "script.py"], "did you mean 'ours'"),
        (["--site", "ours", "--account=p1", "nosuch.py"], "there is no script 'nosuch.py'"),
        (["--site", "ours", "--account=p1"], "say which script"),
        (["--site", "ours", "--account", "p1", "script.py"], "write --account=value"),
        (["--site", "local_threads", "--driver-in-job", "script.py"], "has no batch scheduler"),
    ],
)
def test_run_mistakes(
    arguments: list[str], message: str, cluster: FakeScheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the site does not allow is said before the script starts, and nothing is submitted."""
    assert main(["run", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not cluster.calls()


def test_environment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices without a site, and text that no shell would read, are errors that name the variable."""
    monkeypatch.setattr(environment, "_taken", {})
    monkeypatch.setenv(environment.CHOICES, "nodes=4")
    with pytest.raises(ConfigurationError, match="FLOWLIB_SITE"):
        environment.from_environment()
    monkeypatch.setenv(environment.SITE, "local_threads")
    monkeypatch.setenv(environment.CHOICES, "a='b")
    with pytest.raises(ConfigurationError, match="quoted as in a shell"):
        environment.from_environment()
    monkeypatch.setenv(environment.CHOICES, "")
    assert environment.from_environment() is not None
    assert environment.SITE not in os.environ
    assert environment.from_environment() is not None, "it is remembered"
