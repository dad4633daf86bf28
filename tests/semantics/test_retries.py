"""Retries by cause mean the same on every executor."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowlib import Retry, bash_app, python_app
from flowlib.errors import AppTimeout, BashExitFailure

DEADLINE = 20.0


@python_app
def until_there_are(path: str, lines: int, kind: str) -> int:
    """Fail until it was called so often."""
    import builtins
    from pathlib import Path

    with open(path, "a") as file:
        file.write("x\n")
    if len(Path(path).read_text()) < 2 * lines:
        raise getattr(builtins, kind)("not yet")
    return lines


@python_app(walltime=0.2)
def too_long(path: str) -> None:
    """Takes longer than it may."""
    import time

    with open(path, "a") as file:
        file.write("x\n")
    for _ in range(1000):
        time.sleep(0.01)


@bash_app
def fails(path: str) -> str:
    """A command that fails."""
    return f"echo x >> {path}; exit 3"


@pytest.mark.parametrize(
    ("policy", "name", "survives"),
    [
        (Retry(error=2), "ValueError", True),
        (Retry(error=1), "ValueError", False),
        (Retry(timeout=5, oom=5, crash=5, lost=5), "ValueError", False),
        (Retry({"LookupError": 2}), "KeyError", True),
        (Retry({OSError: 2}, backoff=0.01), "ConnectionResetError", True),
        (Retry({OSError: 2}), "KeyError", False),
    ],
)
def test_errors(tmp_path: Path, policy: Retry, name: str, survives: bool) -> None:
    """Exceptions of the app are told apart by class and base class."""
    future = until_there_are.options(retries=policy)(str(tmp_path / "lines"), 3, name)
    error = future.exception(DEADLINE)
    assert (error is None) is survives
    assert survives or type(error).__name__ == name


def test_timeouts(tmp_path: Path) -> None:
    """A walltime that is over is a cause of its own, and the final failure says how often that was."""
    path = tmp_path / "lines"
    error = too_long.options(retries=Retry(error=9, timeout=1))(str(path)).exception(DEADLINE)
    assert isinstance(error, AppTimeout)
    assert path.read_text() == "x\nx\n"
    assert error.__notes__[-1].startswith("2 tries: walltime exceeded")


def test_bash(tmp_path: Path) -> None:
    """A command that fails is an exception of the app, of a class that can be named."""
    path = tmp_path / "lines"
    error = fails.options(retries=Retry({BashExitFailure: 2}))(str(path)).exception(DEADLINE)
    assert isinstance(error, BashExitFailure)
    assert path.read_text() == "x\n" * 3
    assert error.__notes__[-1].startswith("3 tries: BashExitFailure")
