"""The progress display: on a terminal, in a file, in a notebook, and when the terminal goes away."""

from __future__ import annotations

import io
import os
import pty
import sys
import threading
import types
from typing import Any

import pytest

from flowlib.console import say
from flowlib.dataflow.states import States
from flowlib.display import ProgressDisplay, table
from flowlib.tally import Snapshot, Tally

DEADLINE = 20.0


class Kernel:
    """Counts up each time it is asked; tells when it was asked often enough."""

    def __init__(self, total: int = 5) -> None:
        self.total = total
        self.asked = 0
        self.finished = threading.Event()

    def progress_snapshot(self) -> Snapshot:
        done = min(self.asked, self.total)
        self.asked += 1
        if self.asked > self.total:
            self.finished.set()
        return {"simulate": {States.exec_done: done, States.launched: self.total - done}}


class Executor:
    def progress_facts(self) -> dict[str, int]:
        return {"blocks": 1, "workers": 2}


def test_lines() -> None:
    """Elsewhere than on a terminal it is plain lines, none twice, the last one with the end of it."""
    kernel, stream = Kernel(), io.StringIO()
    kernel.executors = {"htex": Executor()}  # type: ignore[attr-defined]
    with ProgressDisplay(kernel, stream, period=0.001):
        assert kernel.finished.wait(DEADLINE)
    lines = stream.getvalue().splitlines()
    assert len(set(lines)) == len(lines)
    assert lines[-1].startswith("flowlib: 5 of 5 done")
    assert lines[-1].endswith("[htex: 1 block, 2 workers]")


def test_quiet_without_tasks() -> None:
    """A run without tasks prints nothing."""
    kernel, stream = Kernel(total=0), io.StringIO()
    with ProgressDisplay(kernel, stream, period=0.001):
        assert kernel.finished.wait(DEADLINE)
    assert stream.getvalue() == ""


def test_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a table is drawn and drawn over; the cursor is given back."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    kernel, shown = Kernel(), bytearray()

    def drain() -> None:
        while b"\x1b[?25h" not in shown:
            shown.extend(os.read(ours, 4096))

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    with open(theirs, "w", encoding="utf-8") as stream:
        with ProgressDisplay(kernel, stream, period=0.001):
            assert kernel.finished.wait(DEADLINE)
        reader.join(DEADLINE)
    assert not reader.is_alive()
    os.close(ours)
    text = shown.decode()
    assert "simulate" in text
    assert "5 of 5 tasks" in text


def test_terminal_that_is_gone() -> None:
    """A stream that breaks ends the display and nothing else."""

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError("gone")

    kernel = Kernel()
    display = ProgressDisplay(kernel, Broken(), period=0.001)
    display.start()
    display.start()
    display.stop(DEADLINE)
    display.stop()


def test_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard error shows nothing and runs on."""
    kernel, closed = Kernel(), io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", None)
    with ProgressDisplay(kernel), ProgressDisplay(kernel, closed):
        say("nobody hears this")
    monkeypatch.setattr(sys, "stderr", closed)
    say("nor this")
    assert kernel.asked == 0


def test_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook text is put below the cell and replaced."""
    shown: list[str] = []

    class Handle:
        def update(self, content: str) -> None:
            shown.append(content)

    def display(content: str, display_id: bool) -> Any:
        shown.append(content)
        return Handle()

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.Pretty = str
    ipython.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    kernel = Kernel()
    with ProgressDisplay(kernel, period=0.001):
        assert kernel.finished.wait(DEADLINE)
    assert shown[0] == "flowlib: no tasks yet"
    assert "simulate: 5 of 5 done, 0 failed" in shown[-1]


def test_many_apps_fit() -> None:
    """A run of a hundred apps shows those with the most open tasks and sums up the others."""
    from rich.console import Console

    tally = Tally()
    tally.update(0.0, {f"app{n}": {States.launched: n, States.exec_done: 1} for n in range(100)})
    console = Console(file=io.StringIO(), width=100)
    console.print(table(tally, "htex: 2 workers"))
    file = console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    assert "app99" in text
    assert "app88" in text
    assert "app87" not in text
    assert "88 more" in text
    assert "100 of 5050 tasks" in text
    assert "htex: 2 workers" in text
