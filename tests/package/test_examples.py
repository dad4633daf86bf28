"""The examples run, as a reader would run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def example(name: str, *arguments: str, cwd: Path) -> str:
    """The output of an example that must succeed within a minute."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_parameter_sweep(tmp_path: Path) -> None:
    """The sweep prints a line for each size, near the theory."""
    lines = example("parameter_sweep.py", cwd=tmp_path).splitlines()
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["100", "1,000", "10,000", "100,000"]
    assert all(0.85 < float(measured) / float(theory) < 1.15 for _, measured, theory in rows)


def test_bash_pipeline(tmp_path: Path) -> None:
    """Two dice make the sums 2 to 12, 300 000 throws in all."""
    rows = [line.split() for line in example("bash_pipeline.py", cwd=tmp_path).splitlines() if "#" in line]
    assert [int(row[0]) for row in rows] == list(range(2, 13))
    assert sum(int(row[-1]) for row in rows) == 300_000


def test_recursive_join(tmp_path: Path) -> None:
    """The integral is right to three digits."""
    assert "0.504" in example("recursive_join.py", cwd=tmp_path)


def test_stdlib_report(tmp_path: Path) -> None:
    """The report of a small library names its parts and the inputs that could not be parsed; tests count apart."""
    source = tmp_path / "library"
    (source / "package").mkdir(parents=True)
    (source / "heapq.py").write_text('def push(heap):\n    """Push."""\n    return len(heap)\n' * 20)
    (source / "package" / "__init__.py").write_text("import sys, os\n")
    (source / "package" / "bad.py").write_text("def f(:\n")
    (source / "package" / "tests").mkdir()
    (source / "package" / "tests" / "test_it.py").write_text("import unittest\nown_tests_call_this()\n")
    output = tmp_path / "out put"
    text = example("stdlib_report.py", "--source", str(source), "--output", str(output), cwd=tmp_path)
    page = (output / "index.html").read_text()
    assert "2 files are not valid Python, and failed again when tried alone" in text
    assert "broken_on_purpose.py (made by this demo)  line 32: invalid syntax" in text
    assert "package/bad.py  line 1: invalid syntax" in text
    assert "2 modules with 61 lines, and 1 of tests with 2" in text
    assert 'broken_on_purpose.py <span class="mark">made by this demo</span></td><td>2</td>' in page
    assert "<svg" in page
    assert "heapq" in page
    assert "own_tests_call_this" not in page
