"""A run's LogConfig is used in the interchange, managers and workers, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import flowlib
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor
from flowlib.logs import FileLogging, JSONLogging, LogConfig, NoopLogging, Unregister


class HereOnly(LogConfig):
    """Works in the process that made it, and in no other."""

    def __init__(self) -> None:
        self.missing = False

    def __getstate__(self) -> dict[str, Any]:
        return {"missing": True}

    def initialize_logging(self, *, log_dir: str, log_name: str) -> Unregister:
        """Fail elsewhere."""
        if self.missing:
            raise RuntimeError("no such collector on this host")
        return lambda: None


def logs_of_a_run(path: Path, setting: LogConfig) -> dict[str, str]:
    """What the far processes of a run with one task have logged, by the name of the file."""
    executor = HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=1)
    config = Config(executors=[executor], run_dir=str(path), initialize_logging=setting)
    with flowlib.load(config) as kernel:
        assert flowlib.python_app(abs)(-1).result(30) == 1
        directory = Path(kernel.run_dir) / "htex"
    block = directory / "block-0"
    found = [directory / "interchange.log", directory / "interchange.jsonlog", *block.glob("*/*log")]
    return {file.name: file.read_text() for file in found if file.exists()}


def test_format_of_the_user(tmp_path: Path) -> None:
    """Interchange, manager and worker write their lines in the format that the Config has."""
    logs = logs_of_a_run(tmp_path, FileLogging(format_string="TOKEN %(message)s"))
    for name in ("interchange.log", "manager.log", "worker_0.log"):
        assert logs[name].startswith("TOKEN "), f"{name}: {logs[name][:200]}"


def test_json(tmp_path: Path) -> None:
    """With JSONLogging each has a file of JSON lines."""
    logs = logs_of_a_run(tmp_path, JSONLogging())
    for name in ("interchange.jsonlog", "manager.jsonlog", "worker_0.jsonlog"):
        lines = [json.loads(line) for line in logs[name].splitlines()]
        assert lines and all(line["logger"].startswith("flowlib.") for line in lines), name


def test_none(tmp_path: Path) -> None:
    """With NoopLogging nobody logs."""
    assert not any(logs_of_a_run(tmp_path, NoopLogging()).values())


def test_one_that_fails_there(tmp_path: Path) -> None:
    """One that cannot start elsewhere costs no task: the log there is plain and says why."""
    logs = logs_of_a_run(tmp_path, HereOnly())
    for name in ("interchange.log", "manager.log", "worker_0.log"):
        assert "no such collector on this host" in logs[name], f"{name}: {logs[name][:200]}"
