"""Running the demonstration in tests, on a small library and wherever a site's name says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def demo(
    directory: Path, site: str, text: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it.

    Args:
        directory: Where its input, its report and the site's file go.
        site: Name of the site.
        text: The site's file; "" if flowlib knows it.
        environment: More variables.
    """
    source = directory / "library"
    source.mkdir()
    (source / "heapq.py").write_text('def push(heap):\n    """Push."""\n    return len(heap)\n' * 20)
    (source / "more.py").write_text("import sys, os\n")
    if text:
        (directory / f"{site}.toml").write_text(text)
    return subprocess.run(
        [str(ROOT / "scripts" / "demo"), site, "--source", str(source), "--output", str(directory / "out put")],
        env={
            **os.environ, "FLOWLIB_DEMO_PYTHON": sys.executable, "FLOWLIB_SITES": str(directory), **(environment or {}),
        },
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def check(directory: Path, done: subprocess.CompletedProcess[str]) -> Path:
    """See that it wrote its report; its run directory."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 modules with 61 lines" in done.stdout
    assert "broken_on_purpose.py (made by this demo)" in done.stdout
    assert (directory / "out put" / "index.html").exists()
    return directory / "out put" / "runinfo" / "000"
