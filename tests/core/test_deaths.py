"""How the end of a worker is told."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from flowlib import errors
from flowlib.executors.high_throughput import page
from flowlib.executors.high_throughput.deaths import (
    Death,
    describe,
    last_lines,
    manager_lost,
    out_of_memory,
    timed_out,
    worker_lost,
)
from flowlib.serialize.envelope import decode_failure, rebuild


@pytest.mark.parametrize(
    ("death", "text"),
    [
        (Death(0), "it ended with exit code 0"),
        (Death(137 << 8), "it ended with exit code 137"),
        (Death(None), "it vanished"),
        (Death(signal.SIGTERM), "killed by SIGTERM"),
        (Death(signal.SIGSEGV), "killed by SIGSEGV (segmentation fault in native code)"),
        (Death(signal.SIGSEGV | 0x80), "killed by SIGSEGV (segmentation fault in native code)"),
        (Death(50), "killed by signal 50"),
        (
            Death(signal.SIGKILL, 3 << 30),
            "killed by SIGKILL, perhaps by the kernel's out-of-memory killer; its largest memory use was 3072 MiB",
        ),
        (
            Death(signal.SIGKILL, 0, 0, True),
            "killed by SIGKILL by the kernel's out-of-memory killer, which was at work on this node",
        ),
        (Death(signal.SIGKILL, 0, 0, False), "killed by SIGKILL, not by the kernel's out-of-memory killer"),
        (Death(1 << 8, 0, page.LINK_BROKEN), "the task closed or replaced the file descriptor"),
    ],
)
def test_phrases(death: Death, text: str) -> None:
    """Exit codes, signals and last words are named as people know them."""
    assert describe(death).startswith(text)


def test_last_lines(tmp_path: Path) -> None:
    """The end of a log without empty lines; from the crash on where there was one; nothing of a log that is not there."""
    log = tmp_path / "worker_0.log"
    assert last_lines(str(log)) == []
    log.write_text("".join(f"line {i}\n\n" for i in range(5000)))
    assert last_lines(str(log)) == [f"line {i}" for i in range(4988, 5000)]
    log.write_text("before\nFatal Python error: Aborted\n" + "".join(f"  frame {i}\n" for i in range(40)))
    lines = last_lines(str(log))
    assert lines[:2] == ["Fatal Python error: Aborted", "  frame 0"]
    assert len(lines) == 12


def test_payloads_become_errors(tmp_path: Path) -> None:
    """The driver rebuilds each as the class that it names, with all that was known."""
    log = tmp_path / "worker_3.log"
    log.write_text("the last words\n")
    lost = rebuild(decode_failure(worker_lost(3, "node7", "killed by SIGKILL", str(log))))
    assert isinstance(lost, errors.WorkerLost)
    assert (lost.worker_id, lost.hostname, lost.log) == (3, "node7", str(log))
    assert "killed by SIGKILL" in str(lost)
    assert "  the last words" in str(lost)
    late = rebuild(decode_failure(timed_out(3, "node7", 2.5, str(log))))
    assert isinstance(late, errors.AppTimeout)
    assert "walltime of 2.5 s" in str(late)
    assert "the last words" in str(late)
    hog = rebuild(decode_failure(out_of_memory(3, "node7", 1 << 30, 3 << 29, "killed", str(log))))
    assert isinstance(hog, errors.OutOfMemory)
    assert (hog.requested, hog.peak, hog.hostname, hog.worker_id) == (1 << 30, 3 << 29, "node7", 3)
    assert "requested: 1024 MiB, peak: 1536 MiB" in str(hog)
    gone = rebuild(decode_failure(manager_lost("abc", "node7", "told to end", str(log))))
    assert isinstance(gone, errors.ManagerLost)
    assert "told to end" in str(gone)
