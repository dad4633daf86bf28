"""Batch providers with real jobs, run by fake schedulers that answer late, wrongly or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowlib.errors import SubmitException
from flowlib.jobs.states import JobState
from flowlib.testing import KINDS, FakeScheduler, fake_scheduler, status_of, wait_until
from flowlib.testing.provider_suite import ProviderSuite
from flowlib.testing.scheduler_suite import FakeBackend, OutageSuite, SubmissionSuite
from tests.faults.sampling import sample

SOME = ["slurm", *sample(sorted(set(KINDS) - {"slurm"}), 2)]
"""Those on which the longer tests are run: others with other seeds, all in a soak."""


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[FakeScheduler]:
    """A fake Slurm, whose commands are on PATH."""
    with fake_scheduler("slurm", tmp_path, queues=["debug"]) as found:
        yield found


class OnFakes:
    @pytest.fixture
    def backend(self, kind: str, tmp_path: Path) -> Iterator[FakeBackend]:
        """A provider on a fake scheduler of the kind that the class is run with."""
        with fake_scheduler(kind, tmp_path / "cluster") as scheduler:
            yield FakeBackend(scheduler)


@pytest.mark.parametrize("kind", SOME)
class TestProviders(OnFakes, ProviderSuite):
    pass


@pytest.mark.parametrize("kind", sorted(KINDS))
class TestSubmissions(OnFakes, SubmissionSuite):
    pass


@pytest.mark.parametrize("kind", SOME)
class TestOutages(OnFakes, OutageSuite):
    pass


def test_slurm_specials(slurm: FakeScheduler) -> None:
    """A job that can never start is a failed block at once, is removed, and says why; no accounting does no harm."""
    slurm.change(accounting=False)
    slurm.hold()
    provider = slurm.provider(partition="debug")
    job = provider.submit("true", 1)
    slurm.set_reason(1, "PartitionTimeLimit")
    found = status_of(provider, job)
    assert found.state is JobState.FAILED
    assert "it can never start: PartitionTimeLimit" in str(found.message)
    wait_until(lambda: not slurm.alive())
    with pytest.raises(SubmitException, match="invalid partition specified: nosuch"):
        slurm.provider(partition="nosuch").submit("true", 1)
