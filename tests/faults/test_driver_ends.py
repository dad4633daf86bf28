"""Nothing is left behind, however the driver ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = """
import os, sys, signal, time
import flowlib
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor
from flowlib.providers import LocalProvider

@flowlib.python_app
def busy(seconds):
    import subprocess, time
    subprocess.Popen(["sleep", "7000"])
    time.sleep(seconds)

executor = HighThroughputExecutor(label="e", address="127.0.0.1", max_workers_per_node=2,
                                  provider=LocalProvider(init_blocks=2, max_blocks=2))
{load}
futures = [busy(600) for _ in range(8)]
probe = flowlib.python_app(lambda: 1)
import psutil
me = psutil.Process()
def names():
    found = []
    for child in me.children(recursive=True):
        try:
            found.append(child.name())
        except psutil.NoSuchProcess:
            continue
    return found
while names().count("sleep") < 4:
    signal.sigtimedwait([], 0.05)
print("children", *[p.pid for p in me.children(recursive=True)], flush=True)
sys.stdin.readline()
{end}
"""

LOAD = 'kernel = flowlib.load(Config(executors=[executor], run_dir="runinfo"))'

ENDS = {
    "return": "",
    "exception": 'raise RuntimeError("the script failed")',
    "sys.exit": "sys.exit(5)",
    "os._exit": "os._exit(6)",
    "cleanup": "kernel.cleanup()",
    "SIGINT": "time.sleep(600)",
    "SIGTERM": "time.sleep(600)",
    "SIGKILL": "time.sleep(600)",
    "SIGHUP": "time.sleep(600)",
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(tmp_path: Path, end: str) -> None:
    """Within ten seconds of the driver's end all its local processes are gone, tasks' children included."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(load=LOAD, end=ENDS[end]))
    with open(tmp_path / "err.txt", "w") as err:
        driver = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            start_new_session=True,
        )
    try:
        assert driver.stdout is not None and driver.stdin is not None
        line = driver.stdout.readline()
        assert line.startswith("children"), (tmp_path / "err.txt").read_text()
        children = [psutil.Process(int(pid)) for pid in line.split()[1:]]
        assert len(children) >= 9
        began = time.monotonic()
        if end.startswith("SIG"):
            os.kill(driver.pid, getattr(signal, end))
        else:
            driver.stdin.write("go\n")
            driver.stdin.flush()
        driver.wait(10)
        _, alive = psutil.wait_procs(children, timeout=max(0.1, 10 - (time.monotonic() - began)))
        left = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert not left, [p.cmdline() for p in left]
    finally:
        driver.kill()
        driver.communicate()
