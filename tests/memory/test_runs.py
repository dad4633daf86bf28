"""Results that outlive their run: second runs, killed runs, equal calls at the same time, what spoils a result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib import File, bash_app, python_app
from flowlib.cli import main
from flowlib.config import Config
from flowlib.executors import ThreadPoolExecutor
from flowlib.memory.project import ProjectMemoizer
from tests.faults.sampling import sample

DEADLINE = 30
Load = Callable[..., Any]

PROGRAM = """
import os, sys
import flowlib
from flowlib.config import Config
{extra}
@flowlib.python_app(cache=True)
def work(x):
    with open("calls", "a") as f:
        f.write(f"{{x}} ")
    return {value}

with flowlib.load(Config(executors=[{executor}])):
    futures = [work(i) for i in range({count})]
    print(sum(f.result() for f in futures), [f.record.cache.state for f in futures[:1]], *futures[0].record.cache.why())
"""
THREADS = "flowlib.executors.ThreadPoolExecutor(max_threads=2)"
WORKERS = "flowlib.executors.HighThroughputExecutor(address='127.0.0.1', max_workers_per_node=2)"


def script(place: Path, extra: str = "", value: str = "x", executor: str = THREADS, count: int = 3) -> list[str]:
    """Write the program; its command."""
    text = "import flowlib.executors\n" + PROGRAM.format(extra=extra, value=value, executor=executor, count=count)
    (place / "script.py").write_text(text)
    return [sys.executable, "script.py"]


def run(place: Path, **parts: Any) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    done = subprocess.run(script(place, **parts), cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done


def calls(place: Path) -> list[int]:
    """What ran so far."""
    path = place / "calls"
    return [int(x) for x in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize("executor", [THREADS, WORKERS], ids=["threads", "workers"])
def test_the_second_run_reuses_the_first(tmp_path: Path, executor: str) -> None:
    """A script that is started again runs nothing again, says so, and says how to switch that off."""
    first = run(tmp_path, executor=executor)
    second = run(tmp_path, executor=executor)
    assert sorted(calls(tmp_path)) == [0, 1, 2]
    assert first.stdout.split()[:2] == ["3", "['miss']"]
    assert second.stdout.split()[:2] == ["3", "['hit']"]
    assert "BasicMemoizer" in second.stderr
    assert "3 of 3" in second.stderr
    assert "earlier runs" not in first.stderr


def test_changed_code_runs_again_and_says_what_changed(tmp_path: Path) -> None:
    """A helper, a constant or a default that changed makes a miss that names it; a comment does not."""
    helper = "RATE = 1\ndef helper(x, by=0):\n    return x * RATE + by\n"
    run(tmp_path, extra=helper, value="helper(x)", count=1)
    same = run(tmp_path, extra="# what\n\n" + helper, value="helper( x )  # call", count=1)
    assert "['hit']" in same.stdout
    for old, new, named in (
        ("RATE = 1", "RATE = 2", "RATE"),
        ("x * RATE", "x - RATE", "helper"),
        ("by=0", "by=1", "helper"),
    ):
        changed = run(tmp_path, extra=helper.replace(old, new), value="helper(x)", count=1)
        assert f"__main__.{named} changed" in changed.stdout
        assert "['miss']" in changed.stdout
    assert len(calls(tmp_path)) == 4


@pytest.mark.parametrize("point", sample(list(range(20)), 2))
def test_a_killed_driver_loses_nothing_that_was_finished(tmp_path: Path, point: int) -> None:
    """Whatever SIGKILL hits: what anybody had seen as finished is there in the next run, and does not run again."""
    extra = "import threading\nseen = os.open('seen', os.O_CREAT | os.O_APPEND | os.O_WRONLY)"
    command = script(tmp_path, extra, count=200)
    text = (tmp_path / "script.py").read_text()
    text = text.replace(
        "    print(", "    for i, f in enumerate(futures):\n        f.result(); os.write(seen, b'%d ' % i)\n    print("
    )
    (tmp_path / "script.py").write_text(text)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wanted, deadline = 1 + point * 9, time.monotonic() + DEADLINE
    never = threading.Event()
    while len(calls(tmp_path)) < wanted and process.poll() is None and time.monotonic() < deadline:
        never.wait(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE)
    seen = {int(x) for x in (tmp_path / "seen").read_text().split()}
    before = calls(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    again = calls(tmp_path)[len(before) :]
    assert not seen & set(again)
    assert set(calls(tmp_path)) == set(range(200))


def test_equal_calls_on_their_way_run_once(load: Load) -> None:
    """Calls that are equal to one that runs get its value; after a failure the next call runs."""
    load(ThreadPoolExecutor(max_threads=4))
    gate, ran = threading.Event(), []

    @python_app(cache=True)
    def slow(x: int) -> int:
        ran.append(x)
        gate.wait(DEADLINE)
        if len(ran) == 1:
            raise ValueError("the first")
        return x

    for outcome in ("fails", "returns"):
        gate.clear()
        futures = [slow(1) for _ in range(5)]
        gate.set()
        if outcome == "fails":
            assert [type(f.exception(DEADLINE)) for f in futures] == [ValueError] * 5
        else:
            assert [f.result(DEADLINE) for f in futures] == [1] * 5
    assert ran == [1, 1]


def test_a_withdrawn_call_leaves_its_place_to_the_next(load: Load) -> None:
    """When the call that others wait for is cancelled, one of them runs."""
    load(ThreadPoolExecutor(max_threads=1))
    gate = threading.Event()

    @python_app
    def block() -> None:
        gate.wait(DEADLINE)

    @python_app(cache=True)
    def value(x: int) -> int:
        return x

    blocked = block()
    first, second = value(1), value(1)
    assert first.cancel()
    gate.set()
    assert second.result(DEADLINE) == 1
    blocked.result(DEADLINE)


def test_refresh_and_why(load: Load, run_dir: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A refreshed call runs and its value replaces the old; `flowlib why` and `cache` tell of them."""
    kernel = load(ThreadPoolExecutor())
    values = iter(range(10))

    @python_app(cache=True)
    def draw(x: int, *, y: int = 0) -> int:
        return next(values)

    fresh = draw.options(refresh=True)
    calls = [draw, draw, fresh, draw]
    assert [call(1).result(DEADLINE) for call in calls] == [0, 0, 1, 1]
    assert draw(1, y=0).result(DEADLINE) == 1
    other = draw(1, y=5)
    assert other.result(DEADLINE) == 2
    cache = other.record.cache
    assert cache is not None
    assert not cache.hit
    kernel.cleanup()
    assert main(["why", str(other.tid), run_dir]) == 0
    assert "miss\n  argument y is new" in capsys.readouterr().out
    assert main(["cache", "ls", "--store", run_dir]) == 0
    assert "draw: 2 results" in capsys.readouterr().out
    assert main(["cache", "rm", "*draw", "--store", run_dir]) == 0
    assert "entries removed" in capsys.readouterr().out
    assert main(["cache", "ls", "--store", run_dir]) == 0
    assert ": 0 results" in capsys.readouterr().out
    assert main(["cache", "gc", "--max-age", "1d", "--store", run_dir]) == 0


def test_a_missing_output_makes_a_miss(load: Load, in_tmp: Path) -> None:
    """A remembered call whose output file is gone or changed runs again."""
    load(ThreadPoolExecutor())

    @bash_app(cache=True)
    def write(outputs: Any = ()) -> str:
        return f"echo x >> calls; echo done > {outputs[0]}"

    def ran() -> int:
        write(outputs=[File("out")]).result(DEADLINE)
        return Path("calls").read_text().count("x")

    assert [ran(), ran()] == [1, 1]
    Path("out").unlink()
    assert [ran(), ran()] == [2, 2]
    Path("out").write_text("something else")
    assert [ran(), ran()] == [3, 3]


@pytest.mark.parametrize("files", ["content", "stat"])
def test_files_count_by_content_or_by_time(load: Load, in_tmp: Path, files: str) -> None:
    """A touched file is the same by content, another by time of change; changed content is another in both."""
    load(ThreadPoolExecutor(), memoizer=ProjectMemoizer(files=files))

    @python_app(cache=True)
    def size(file: Any) -> int:
        return os.stat(file).st_size

    Path("data").write_text("one")
    assert not size(File("data")).record.cache.hit
    os.utime("data", ns=(1, 1))
    assert size(File("data")).record.cache.hit is (files == "content")
    Path("data").write_text("other")
    assert size(File("data")).result(DEADLINE) == 5


def test_large_results_are_mapped(load: Load, run_dir: str) -> None:
    """A large array is a file of its own, is private to who gets it, and a flipped byte of it makes a miss."""
    np = pytest.importorskip("numpy")
    load(ThreadPoolExecutor())

    @python_app(cache=True)
    def zeros() -> Any:
        return np.zeros(1 << 18)

    zeros().result(DEADLINE)
    again = zeros()
    again.result(DEADLINE)[0] = 1
    assert again.record.cache.hit
    assert not zeros().result(DEADLINE).any()
    path = next(p for p in Path(run_dir, "memory", "objects").rglob("*") if p.is_file())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    damaged = zeros()
    assert not damaged.result(DEADLINE).any()
    assert not damaged.record.cache.hit


def test_a_store_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    """The run goes on without remembering, and one warning says why."""
    (tmp_path / "file").write_text("")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        config = Config(
            [ThreadPoolExecutor()], run_dir=str(tmp_path / "r"), memoizer=ProjectMemoizer(tmp_path / "file")
        )
        with flowlib.load(config):
            app = python_app(abs, cache=True)
            assert [app(-i).result(DEADLINE) for i in range(5)] == list(range(5))
    assert len([w for w in told if "not remembered" in str(w.message)]) == 1
