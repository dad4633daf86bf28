"""Modules of the user's that are named like those of the standard library."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import flowlib
from flowlib import bash_app, python_app
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor
from flowlib.executors.high_throughput import safe_path
from flowlib.providers import LocalProvider


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 always looks into the current directory first")
def test_modules_beside_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They break none of flowlib's processes, and what tasks start finds its neighbours as ever."""
    for name in ("heapq", "json", "logging", "queue", "selectors", "socket"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the wrong {name}')")
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "neighbour.py").write_text("")
    (tmp_path / "tool" / "tool.py").write_text("import neighbour")
    monkeypatch.chdir(tmp_path)

    @python_app
    def variable() -> str | None:
        return os.environ.get("PYTHONSAFEPATH")

    @bash_app
    def tool() -> str:
        return f"{sys.executable} tool/tool.py"

    provider = LocalProvider(init_blocks=1, max_blocks=1)
    executor = HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=1, provider=provider)
    with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runinfo"))):
        assert variable().result(30) is None
        assert tool().result(30) == 0


def test_a_setting_of_the_users_stays() -> None:
    """Only what flowlib has set is taken away."""
    environ = {safe_path.VARIABLE: "1"}
    safe_path.forget(environ)
    assert environ == {safe_path.VARIABLE: "1"}
