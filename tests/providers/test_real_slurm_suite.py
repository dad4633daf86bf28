"""The suite that every provider passes, on a real Slurm; skipped where none is installed or this is not root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.launchers import SimpleLauncher
from flowlib.providers import SlurmProvider
from flowlib.testing import wait_until
from flowlib.testing.provider_suite import Backend, ProviderSuite
from tests.faults.sampling import SOAK

from .real_slurm import Slurm, missing, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no real Slurm: {missing()}"),
    pytest.mark.timeout(600),  # the first test may have to install it
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    """A Slurm for all tests of this file."""
    with running() as slurm:
        yield slurm


class OnSlurm(Backend):
    seconds = 40.0

    def __init__(self, slurm: Slurm, directory: Path) -> None:
        self.slurm = slurm
        self.directory = directory

    def provider(self, **options: Any) -> SlurmProvider:
        settings = {"launcher": SimpleLauncher(), "exclusive": False, "status_polling_interval": 0.5, **options}
        made = SlurmProvider(**settings)
        made.script_dir = str(self.directory / 'my "scripts" 100% $HOME o\'x')
        return made

    def provider_with_walltime(self) -> SlurmProvider:
        return self.provider(walltime="1m")

    def start_foreign(self) -> Callable[[], bool]:
        id_ = self.slurm.command("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 1000")
        assert id_ is not None
        return lambda: id_.strip() in (self.slurm.queue() or [])


class TestSlurm(ProviderSuite):
    @pytest.fixture
    def backend(self, cluster: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OnSlurm]:
        """Slurm's four pretended nodes; no job is left behind."""
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield OnSlurm(cluster, tmp_path)
        cluster.command("scancel", *(cluster.queue() or []))
        wait_until(lambda: cluster.queue() == [], 40)

    if not SOAK:
        test_walltime = None  # type: ignore[assignment]  # a minute and a half: Slurm counts in minutes
    else:
        test_walltime = pytest.mark.timeout(240)(ProviderSuite.test_walltime)
