"""The demonstration runs unchanged on every scheduler, chosen by one name; on real servers: in their own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowlib.testing import KINDS
from tests.demo import check, demo
from tests.faults.sampling import sample

FAKES = [f"fake-{KINDS[kind].site}" for kind in sorted(KINDS)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("site", sample(FAKES, 2))
def test_on_fakes(tmp_path: Path, site: str) -> None:
    """On each fake scheduler it writes the report that it writes here, in jobs of that scheduler."""
    run = check(tmp_path, demo(tmp_path, site))
    assert list((run / "submit_scripts").glob("*.sh.0.id")), "it ran in a job"


def test_unknown_site(tmp_path: Path) -> None:
    """A name that nobody knows is refused, with the nearest that there is."""
    done = demo(tmp_path, "fontera")
    assert done.returncode != 0
    assert "did you mean 'frontera'" in done.stderr
