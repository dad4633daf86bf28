"""The writer and the reader of event logs on real files, with disks that fill up, hang and come back."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowlib.errors import ConfigurationError
from flowlib.events import log as log_module
from flowlib.events.framing import MAGIC
from flowlib.events.log import EventLog, run_started
from flowlib.events.reader import EventReader
from flowlib.events.schema import FIELDS, FORMAT, Code

DEADLINE = 20.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the log goes."""
    return str(tmp_path / "events.log")


def read(path: str) -> list[list[Any]]:
    """Every record of an undamaged log."""
    with EventReader(path) as reader:
        records = list(reader.read())
        assert (reader.damage, reader.unfinished) == ([], 0)
        return records


def wait_until(condition: Callable[[], bool]) -> None:
    """Give other threads time, up to a deadline."""
    deadline = time.monotonic() + DEADLINE
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        tick.wait(0.005)


class Disk:
    """A disk that the test can fill, hang and repair."""

    def __init__(self) -> None:
        self.full = threading.Event()
        self.answers = threading.Event()
        self.answers.set()
        self.refused = threading.Event()
        self.piece = sys.maxsize

    def write(self, fd: int, data: memoryview) -> int:
        assert self.answers.wait(DEADLINE)
        if self.full.is_set():
            self.refused.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data[: self.piece])


def test_everything_from_every_thread(path: str) -> None:
    """Records from many threads are all there, once, in each thread's order; the file is private."""
    with EventLog(path, period=0.001) as log:

        def emit(thread: int) -> None:
            for i in range(2000):
                log.emit((Code.TASK_DONE, 0.0, i, thread))

        threads = [threading.Thread(target=emit, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert log.close(DEADLINE)
    records = read(path)
    for n in range(4):
        assert [record[2] for record in records if record[3] == n] == list(range(2000))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_emit_is_a_builtin(path: str) -> None:
    """On the task path no Python function of the log runs."""
    with EventLog(path) as log:
        assert type(log.emit) is type([].append)


def test_follow_a_live_log(path: str) -> None:
    """A reader sees what was flushed and goes on from there."""
    with EventLog(path) as log, EventReader(path) as reader:
        assert log.flush(DEADLINE)
        assert list(reader.read()) == []
        for number in range(3):
            log.emit((Code.TASK_DONE, 1.0, number, 3))
            assert log.flush(DEADLINE)
            assert list(reader.read()) == [[Code.TASK_DONE, 1.0, number, 3]]


def test_written_without_being_asked(path: str) -> None:
    """Nobody needs to flush: a record is in the file soon."""
    with EventLog(path, period=0.01) as log, EventReader(path) as reader:
        log.emit((Code.TASK_DONE, 1.0, 1, 3))
        wait_until(lambda: len(list(reader.read())) == 1)


def test_flushed_records_survive_sigkill(path: str) -> None:
    """What was written is there after the process was killed in the middle of things."""
    program = (
        "import os, signal, sys\n"
        "from flowlib.events.log import EventLog\n"
        "log = EventLog(sys.argv[1])\n"
        "for i in range(5000): log.emit((13, 0.0, i, 3))\n"
        "assert log.flush(20)\n"
        "for i in range(5000): log.emit((13, 0.0, i, 3))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], timeout=30, capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
    with EventReader(path) as reader:
        assert [record[2] for record in reader.read()][:5000] == list(range(5000))


def test_partial_writes(path: str) -> None:
    """A disk that takes a few bytes at a time gets everything, in order, and nothing is given up meanwhile."""
    disk = Disk()
    disk.piece = 997
    with EventLog(path, limit=50_000, write=disk.write) as log:
        for i in range(30_000):
            log.emit((Code.TASK_DONE, 0.0, i, 3))
        assert log.close(DEADLINE)
    assert [record[2] for record in read(path)] == list(range(30_000))


def test_full_disk(path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a full disk nobody is disturbed, losses are bounded, shown once, and counted where they happened."""
    monkeypatch.setattr(log_module, "_RETRY", 0.01)
    disk = Disk()
    with EventLog(path, limit=100_000, period=0.001, write=disk.write) as log:
        log.emit((Code.TASK_DONE, 0.0, -1, 3))
        assert log.flush(DEADLINE)
        disk.full.set()
        for i in range(40_000):
            log.emit((Code.TASK_DONE, 0.0, i, 3))
        wait_until(lambda: log.lost.events > 1000)
        assert disk.refused.is_set()
        assert not log.flush(0.01)
        disk.full.clear()
        assert log.flush(DEADLINE)
        log.emit((Code.TASK_DONE, 0.0, -2, 3))
        assert not log.close(DEADLINE), "a log with a gap does not call itself complete"
    records = read(path)
    (dropped,) = [record for record in records if record[0] == Code.DROPPED]
    tasks = [record[2] for record in records if record[0] == Code.TASK_DONE]
    assert dropped[2] == log.lost.events == 40_002 - len(tasks)
    assert (tasks[0], tasks[-1]) == (-1, -2)
    assert "No space left" in dropped[4]
    told = capsys.readouterr().err
    assert told.count("is incomplete") == 1
    assert "tasks are not affected" in told


def test_disk_full_from_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """A log that never gets a byte to the disk ends in time and says so."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    log = EventLog("/dev/full")
    log.emit((Code.TASK_DONE, 0.0, 1, 3))
    assert not log.close(DEADLINE)
    assert "/dev/full is incomplete" in capsys.readouterr().err


def test_hanging_disk(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk that does not answer holds up neither emitters nor the end; memory stays bounded."""
    disk = Disk()
    disk.answers.clear()
    log = EventLog(path, limit=10_000, period=0.001, write=disk.write)
    for i in range(20_000):
        log.emit((Code.TASK_DONE, 0.0, i, 3))
    began = time.monotonic()
    assert not log.close(0.02)
    assert time.monotonic() - began < DEADLINE / 4
    assert "is incomplete" in capsys.readouterr().err
    disk.answers.set()
    wait_until(lambda: not any(t.name.startswith("flowlib-events") for t in threading.enumerate()))


def test_nonsense_does_not_stop_the_log(path: str) -> None:
    """What is no record is told in its place; the records around it are written."""
    with EventLog(path) as log:
        nonsense: list[Any] = [None, (), "text", {"a": 1}, ("x", 1)]
        log.emit((Code.TASK_DONE, 0.0, 1, 3))
        for thing in nonsense:
            log.emit(thing)
        log.emit((Code.TASK_SAMPLE, 0.0, 1, 0, 0.5, 1000))
        log.emit((Code.TASK_DONE, 0.0, 2, 3))
        assert log.close(DEADLINE)
    codes = [record[0] for record in read(path)]
    assert codes.count(Code.TASK_DONE) == 2
    assert codes.count(Code.MESSAGE) == len(nonsense)
    assert codes.count(Code.TASK_SAMPLE) == 1


def test_a_torn_log_is_continued(path: str) -> None:
    """A second writer goes on after what a killed one left; the reader steps over the torn frame."""
    with EventLog(path) as log:
        log.emit((Code.TASK_DONE, 0.0, 1, 3))
        assert log.flush(DEADLINE)
        size = os.path.getsize(path)
        log.emit((Code.TASK_DONE, 0.0, 2, 3))
    os.truncate(path, os.path.getsize(path) - 3)
    with EventLog(path) as log:
        log.emit((Code.TASK_DONE, 0.0, 3, 3))
    with EventReader(path) as reader:
        assert [record[2] for record in reader.read()] == [1, 3]
        assert [damage.offset for damage in reader.damage] == [size]


def test_close_twice(path: str) -> None:
    """Closing again does nothing, and a flush of a closed log tells that all is written."""
    log = EventLog(path)
    log.emit((Code.TASK_DONE, 0.0, 1, 3))
    assert log.close(DEADLINE)
    assert log.close(DEADLINE)
    assert len(read(path)) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_leaves_the_log_alone(path: str) -> None:
    """A child that a user's script forks can end without waiting for threads that it does not have."""
    with EventLog(path) as log:
        log.emit((Code.TASK_DONE, 0.0, 1, 3))
        assert log.flush(DEADLINE)
        log._changed.acquire()
        child = os.fork()
        if child == 0:
            os._exit(int(log.close(DEADLINE) or log.flush(DEADLINE)))
        log._changed.release()
        assert os.waitpid(child, 0)[1] == 0
        log.emit((Code.TASK_DONE, 0.0, 2, 3))
    assert [record[2] for record in read(path)] == [1, 2]


def test_cannot_be_opened(tmp_path: Path) -> None:
    """A log in a directory that is not there is an error at once, which names the file."""
    with pytest.raises(FileNotFoundError, match=r"gone/events\.log"):
        EventLog(str(tmp_path / "gone" / "events.log"))


def test_no_event_log(path: str) -> None:
    """Another kind of file is refused with a hint; an empty one has no records."""
    Path(path).write_bytes(b"")
    assert read(path) == []
    Path(path).write_bytes(b"something else altogether\n" * 100)
    with EventReader(path) as reader, pytest.raises(ConfigurationError, match="no event log"):
        list(reader.read())


def test_newer_format(path: str) -> None:
    """A log of a later format is refused with both numbers."""
    Path(path).write_bytes(MAGIC.replace(b"%d" % FORMAT, b"%d" % (FORMAT + 1)) + b"\0" * 50)
    with EventReader(path) as reader, pytest.raises(ConfigurationError, match=f"has format {FORMAT + 1}"):
        list(reader.read())


def test_run_started_fits_the_schema(path: str) -> None:
    """The first record of a run has every field, with the facts of this process."""
    record = run_started("id", "/runs/000", script="s.py", config="Config()")
    assert len(record) == 1 + len(FIELDS[Code.RUN_STARTED])
    with EventLog(path) as log:
        log.emit(record)
    fields = dict(zip(FIELDS[Code.RUN_STARTED], read(path)[0][1:], strict=True))
    assert (fields["pid"], fields["script"], fields["format"]) == (os.getpid(), "s.py", FORMAT)
