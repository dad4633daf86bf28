"""Scripts as users of the field write them, run as programs: each must print OK last and leave in time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted(p.name for p in HERE.glob("*.py") if not p.name.startswith(("test_", "_")))


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, tmp_path: Path) -> None:
    """The script ends within a minute, without an error, and its last line says OK."""
    done = subprocess.run(
        [sys.executable, str(HERE / name)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("OK"), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
