"""The context of a running task."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from time import monotonic
from typing import Any

import msgspec
import pytest

from flowlib import context as contexts
from flowlib.context import TaskContext, current, enter, find_current
from flowlib.errors import SerializationError
from flowlib.serialize.values import load_value


def test_outside() -> None:
    """Outside of a task the error says where to call it."""
    assert find_current() is None
    with pytest.raises(RuntimeError, match="inside of a running task"):
        current()


def test_enter_and_exit() -> None:
    """Inside, the task is known; tasks inside tasks nest."""
    outer, inner = TaskContext(1, 0, "f", "threads"), TaskContext(2, 3)
    token = enter(outer)
    assert current() is outer
    again = enter(inner)
    assert (current().task_id, current().attempt) == (2, 3)
    contexts.exit(inner, again)
    assert current() is outer
    contexts.exit(outer, token)
    assert find_current() is None


def test_threads() -> None:
    """A thread that a task starts sees the task where the process runs nothing else, and else does not."""
    seen: list[Any] = []
    for everywhere in (False, True):
        context = TaskContext(1, 0)
        token = enter(context, everywhere)
        thread = threading.Thread(target=lambda: seen.append(find_current()))
        thread.start()
        thread.join(10)
        contexts.exit(context, token)
        assert find_current() is None
    assert [bool(s) for s in seen] == [False, True]


def test_coroutines() -> None:
    """What a task runs with asyncio sees it."""

    async def ask() -> int:
        await asyncio.sleep(0)
        return current().task_id

    async def main() -> list[int]:
        return list(await asyncio.gather(ask(), asyncio.create_task(ask())))

    context = TaskContext(7, 0)
    token = enter(context)
    try:
        assert asyncio.run(main()) == [7, 7]
    finally:
        contexts.exit(context, token)


def test_directory() -> None:
    """The directory is made when asked for, stays the same, and goes with all it holds."""
    context = TaskContext(5, 1)
    token = enter(context)
    path = context.tmpdir
    assert path.is_dir()
    assert context.tmpdir == path
    assert path.stat().st_mode & 0o077 == 0
    (path / "deep").mkdir()
    (path / "deep" / "file").write_text("x")
    contexts.exit(context, token)
    assert not path.exists()
    context.close()


def test_no_directory_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A task that asks for nothing makes nothing."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    context = TaskContext(5, 1)
    contexts.exit(context, enter(context))
    assert os.listdir(tmp_path) == []


def test_remaining() -> None:
    """The time left counts down to 0; without a walltime there is none."""
    assert TaskContext(1, 0).remaining is None
    assert TaskContext(1, 0, deadline=monotonic() - 5).remaining == 0
    left = TaskContext(1, 0, deadline=monotonic() + 100).remaining
    assert left is not None
    assert 90 < left <= 100


def test_progress() -> None:
    """Progress is told at most ten times a second, except the last step."""
    notes: list[tuple[str, Any]] = []
    context = TaskContext(1, 0, notify=lambda kind, body: notes.append((kind, msgspec.msgpack.decode(body))))
    for step in range(1, 1001):
        context.progress(step, 1000, "working")
    assert notes[0] == ("progress", [1, 1000, "working"])
    assert notes[-1] == ("progress", [1000, 1000, "working"])
    assert len(notes) < 500


def test_emit() -> None:
    """Every emitted value is told, pickled; one that cannot be is the task's error."""
    notes: list[tuple[str, bytes]] = []
    context = TaskContext(1, 0, notify=lambda kind, body: notes.append((kind, body)))
    for value in ({"loss": 0.5}, None, "x"):
        context.emit(value)
    assert [(kind, load_value(body)) for kind, body in notes] == [("emit", v) for v in ({"loss": 0.5}, None, "x")]
    with pytest.raises(SerializationError):
        context.emit(threading.Lock())


def test_nobody_listens() -> None:
    """Without anybody to tell, telling does nothing."""
    TaskContext(1, 0).progress(1)
    TaskContext(1, 0).emit(1)


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    """Log messages name the task, and carry it as fields."""
    with caplog.at_level(logging.INFO, "flowlib.task"):
        TaskContext(12, 1, "simulate").log.info("at %s %%", 50)
    (record,) = caplog.records
    assert record.getMessage() == "task 12 (simulate), try 1: at 50 %"
    assert (record.task, record.attempt, record.app) == (12, 1, "simulate")  # type: ignore[attr-defined]
