"""The leak checks find what they are for; a check that finds nothing would look just the same."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests import leaks


def soon() -> float:
    """A deadline for what will not go away."""
    return time.monotonic() + 0.05


def later() -> float:
    """A deadline for what will."""
    return time.monotonic() + 10


def test_thread_is_found() -> None:
    """A thread that stays is named; one that ends in time is not."""
    before, stop = leaks.observe(), threading.Event()
    thread = threading.Thread(target=stop.wait, args=(20,), name="stays")
    thread.start()
    try:
        assert leaks.new_threads(before, soon()) == ["thread 'stays'"]
    finally:
        stop.set()
    assert leaks.new_threads(before, later()) == []


def test_process_is_found() -> None:
    """A child, a grandchild whose parent has gone, and a zombie are all found, and nothing once they are gone."""
    before, marked = leaks.observe(), frozenset(leaks.marked_processes())
    program = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0).pid, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        orphan = int(child.stdout.readline())
        try:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert any("zombie" in found for found in leaks.new_children(before, soon()))
            child.wait(10)
            assert set(leaks.marked_processes()) - marked == {orphan}
        finally:
            found = leaks.orphans(marked, soon())
    assert len(found) == 1
    assert found[0].startswith(f"process {orphan}:")
    assert leaks.orphans(marked, later()) == []
    assert leaks.new_children(before, later()) == []


def test_open_file_is_found(tmp_path: Path) -> None:
    """A descriptor that stays open is named with its path."""
    before = leaks.observe()
    fd = os.open(tmp_path / "left-open", os.O_CREAT | os.O_RDWR)
    try:
        found = leaks.new_files(before, soon())
    finally:
        os.close(fd)
    assert len(found) == 1
    assert found[0].startswith(f"descriptor {fd}:")
    assert leaks.new_files(before, later()) == []


@pytest.mark.slow
def test_leaky_test_fails(pytester: pytest.Pytester) -> None:
    """A test that leaves a thread behind fails, also if all it asserts is true; its neighbour passes."""
    root = Path(__file__).parents[2]
    pytester.makeconftest("from tests.conftest import *\nfrom tests.conftest import _test_leaves_nothing")
    pytester.makepyfile(
        """
        import threading

        def test_leaks():
            threading.Thread(target=threading.Event().wait, args=(8,), name="left", daemon=True).start()

        def test_clean():
            assert True
        """
    )
    result = pytester.run(
        sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", f"--rootdir={root}",
        "-c", str(root / "pyproject.toml"), str(pytester.path), timeout=50,
    )  # fmt: skip
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left behind: thread 'left' (daemon)*"])
