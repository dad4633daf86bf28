"""The suite that every provider passes, on this machine's processes; elsewhere on schedulers and hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.providers import LocalProvider
from flowlib.testing.provider_suite import Backend, ProviderSuite


class Here(Backend):
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[LocalProvider] = []
        self.foreign: list[subprocess.Popen[bytes]] = []

    def provider(self, **options: Any) -> LocalProvider:
        self.made.append(LocalProvider(**options))
        self.made[-1].script_dir = str(self.directory / "run" / "scripts")
        return self.made[-1]

    def provider_with_walltime(self) -> LocalProvider:
        return self.provider(walltime="1s")

    def start_foreign(self) -> Callable[[], bool]:
        self.foreign.append(subprocess.Popen(["sleep", "1000"]))
        return lambda: self.foreign[-1].poll() is None

    def close(self) -> None:
        for provider in self.made:
            provider.cancel(list(provider.resources))
            provider.status(list(provider.resources))
        for process in self.foreign:
            process.kill()
            process.wait()


class TestLocal(ProviderSuite):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Here]:
        """Jobs are processes of this machine."""
        here = Here(tmp_path)
        yield here
        here.close()
