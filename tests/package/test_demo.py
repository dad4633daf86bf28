"""The demonstration runs unchanged on every scheduler, chosen by one name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowlib.testing import KINDS
from tests.faults.sampling import sample

ROOT = Path(__file__).parents[2]
FAKES = [f"fake-{KINDS[kind].site}" for kind in sorted(KINDS)]

pytestmark = pytest.mark.slow


def demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it on a small library."""
    source = tmp_path / "library"
    source.mkdir()
    (source / "heapq.py").write_text('def push(heap):\n    """Push."""\n    return len(heap)\n' * 20)
    (source / "more.py").write_text("import sys, os\n")
    folders = ["--source", str(source), "--output", str(tmp_path / "out put")]
    return subprocess.run(
        [str(ROOT / "scripts" / "demo"), *arguments[:1], *folders, *arguments[1:]],
        env={**os.environ, "FLOWLIB_DEMO_PYTHON": sys.executable},
        capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("site", sample(FAKES, 2))
def test_on_fakes(tmp_path: Path, site: str) -> None:
    """On each fake scheduler it writes the report that it writes here, in jobs of that scheduler."""
    done = demo(tmp_path, site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 modules with 61 lines" in done.stdout
    assert "broken_on_purpose.py (made by this demo)" in done.stdout
    assert (tmp_path / "out put" / "index.html").exists()
    assert list((tmp_path / "out put" / "runinfo" / "000" / "submit_scripts").glob("*.sh.0.id")), "it ran in a job"


def test_unknown_site(tmp_path: Path) -> None:
    """A name that nobody knows is refused, with the nearest that there is."""
    done = demo(tmp_path, "fontera")
    assert done.returncode != 0
    assert "did you mean 'frontera'" in done.stderr
