"""Ten set-ups that cannot work: each ends, soon, in one message that says what was given, what is wrong, what to do.

The scripts are real processes on a fake Slurm, and what is looked at is what stands on the user's terminal.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.testing import FakeScheduler

SCRIPT = """\
import flowlib
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor
from flowlib.launchers import SimpleLauncher
from flowlib.providers import SlurmProvider

@flowlib.python_app
def one():
    return 1

provider = dict(launcher=SimpleLauncher(), cmd_timeout=5, status_polling_interval=0.2, max_blocks=1)
provider.update({provider!r})
executor = dict(label="htex", address="127.0.0.1", max_workers_per_node=1)
executor.update({executor!r})
htex = HighThroughputExecutor(provider=SlurmProvider(**provider), **executor)
htex.short_way = {short_way!r}
with flowlib.load(Config(executors=[htex], strategy_period=0.2, **{config!r})):
    print(one().result({patience!r}))
"""
SECONDS = 50
OTHER_PYTHON = """\
#!{python}
import platform, runpy, sys
platform.python_version = lambda: "3.99.0"
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
LIMIT = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"
ACCOUNT = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeScheduler]:
    """A fake Slurm."""
    found = FakeScheduler("slurm", tmp_path, queues=["debug"])
    yield found
    found.close()


def terminal(
    cluster: FakeScheduler, *, path: str = "", patience: float = SECONDS - 10, short_way: bool = True, **parts: Any
) -> str:
    """What a script with these parameters prints as errors; it does not succeed."""
    directory = cluster.directory
    values = {"provider": {}, "executor": {}, "config": {}, **parts}
    text = SCRIPT
    for name, value in {**values, "patience": patience, "short_way": short_way}.items():
        text = text.replace(f"{{{name}!r}}", repr(value))
    (directory / "script.py").write_text(text)
    environment = {**os.environ, **cluster.environment}
    environment["PATH"] = path or environment["PATH"]
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def check(text: str, *pieces: str) -> None:
    """Every piece is in the last paragraph's message, and no traceback but that of the user's own line is shown."""
    final = text[text.rindex("flowlib.errors.") :]
    for piece in pieces:
        assert piece in final, text
    assert text.count("Traceback") <= 1, text
    assert not re.search(r'File ".*(executors|providers)/', text), text


def test_wrong_account(cluster: FakeScheduler) -> None:
    """The scheduler's words, the account that was given, and where one's own are listed."""
    cluster.fault("sbatch", f"always fail 1 {ACCOUNT}")
    check(
        terminal(cluster, provider={"account": "nobody"}), "account='nobody'", "Invalid account", "sacctmgr show assoc"
    )
    assert len(cluster.calls("sbatch")) == 1, "what is refused for good is not asked for again"


def test_wrong_partition(cluster: FakeScheduler) -> None:
    """The partition that was given, and where those that there are are listed."""
    text = terminal(cluster, provider={"partition": "nosuch"})
    check(text, "partition='nosuch'", "Invalid partition name", "sinfo -s")


def test_no_scheduler(cluster: FakeScheduler) -> None:
    """A machine without sbatch is no login node."""
    check(terminal(cluster, path="/nonexistent"), "is this a login node?", "SSHTransport")


def test_no_python_on_the_node(cluster: FakeScheduler) -> None:
    """The Python that is not there, the job, its script, and the parameter that names another."""
    text = terminal(cluster, executor={"worker_python": "/no/such/python3"})
    check(text, "(job 1)", "EXIT CODE: 127", "/no/such/python3: not found", "script: ", "worker_python=")


def test_failing_worker_init(cluster: FakeScheduler) -> None:
    """The command's own words and its exit code."""
    text = terminal(cluster, provider={"worker_init": "echo gcc/99: no such module >&2; exit 3"})
    check(text, "EXIT CODE: 3", "gcc/99: no such module", "try the commands of worker_init")


def test_walltime_too_short(cluster: FakeScheduler) -> None:
    """A job that ended before its manager came says that this was its walltime."""
    text = terminal(cluster, provider={"walltime": "00:00:02", "worker_init": "exec sleep 40"})
    check(text, "TIMEOUT", "the walltime was over before a manager came")


def test_unreachable_address(cluster: FakeScheduler) -> None:
    """The address that was tried with the reason, and how to give another."""
    command = "sed -i s/127.0.0.1/127.0.0.99/g {blockfile} && {command}"
    executor = {"launch_cmd": command, "address_probe_timeout": 1}
    text = terminal(cluster, executor=executor, short_way=False)
    check(text, "127.0.0.99", "address_by_interface")


def test_other_python(cluster: FakeScheduler) -> None:
    """Both versions are named, with what to do."""
    other = cluster.directory / "python3"
    other.write_text(OTHER_PYTHON.format(python=sys.executable))
    other.chmod(0o755)
    text = terminal(cluster, executor={"worker_python": str(other)})
    here = ".".join(map(str, sys.version_info[:2]))
    check(text, "Python 3.99", f"Python {here}", "worker_python")


def test_full_queue(cluster: FakeScheduler) -> None:
    """What may pass is tried again, and the terminal says once that nothing starts and why."""
    cluster.fault("sbatch", f"always fail 1 {LIMIT}")
    text = terminal(cluster, patience=6)
    assert text.count("no block can be started now, it is tried again later") == 1
    assert "job submit limit" in text
    assert 2 <= len(cluster.calls("sbatch")) < 10


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a directory that nobody can write in")
def test_read_only_run_directory(cluster: FakeScheduler) -> None:
    """It is said at load, with the directory, before anything is submitted."""
    check(terminal_of_load(cluster), "cannot make a run directory in '/proc/runs'", "Config(run_dir=...)")
    assert not cluster.calls()


def terminal_of_load(cluster: FakeScheduler) -> str:
    """As ``terminal``; this one fails at load, whose cause, an OSError, may be shown as well."""
    text = terminal(cluster, config={"run_dir": "/proc/runs"})
    return text[text.rindex("Traceback") :]
