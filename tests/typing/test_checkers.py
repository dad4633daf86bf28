"""mypy --strict and pyright agree with ``user_code.py``, as a user with neither's configuration would run them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = Path(__file__).with_name("user_code.py")

CHECKERS = {
    "mypy": ["--strict", "--config-file=", "--python-version=3.10", "--cache-dir=.mypy_cache/user_code"],
    "pyright": ["--pythonpath", sys.executable, "--pythonversion", "3.10"],
}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("checker", CHECKERS)
def test_user_code(checker: str) -> None:
    """What is right passes, and every line that is marked as wrong is refused."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    command = [sys.executable, "-m", checker, *CHECKERS[checker], str(CODE.relative_to(ROOT))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
