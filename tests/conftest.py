"""What holds for every test: it leaves nothing behind, works in a directory of its own, and a long matrix is sampled."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TextIO

import hypothesis
import pytest

pytest.register_assert_rewrite("flowlib.testing")
from tests import leaks  # noqa: E402

os.environ["FLOWLIB_TEST_MARK"] = leaks.MARK
# No deadline per example: a shared machine stalls now and then, and pytest's own timeout ends what hangs. No phase that
# traces: some builds of CPython 3.11 then loop for ever within the interpreter, now and then.
_PHASES = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain]
hypothesis.settings.register_profile("sample", deadline=None, print_blob=True, phases=_PHASES)
hypothesis.settings.register_profile("soak", deadline=None, print_blob=True, phases=_PHASES, max_examples=2000)
hypothesis.settings.load_profile("soak" if os.environ.get("FLOWLIB_SOAK") == "1" else "sample")

GRACE = 5.0
"""Seconds that what a test started may take to be gone; waits end as soon as it is."""


HUNG = 60.0
"""Seconds past its timeout after which a test that did not end is hung: the session ends, `scripts/test` says where."""
_hung = pytest.StashKey[TextIO]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Fix what could differ from run to run: the seed of sampled matrices, signals that are ignored."""
    os.environ.setdefault("FLOWLIB_TEST_SEED", str(int(time.time()) % 100_000))
    # Ignored where the tests run in the background, and then by every process that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    path = os.environ.get("FLOWLIB_TEST_HUNG")
    if path is None:
        config.stash[_hung] = tempfile.TemporaryFile("w")
    else:
        config.stash[_hung] = open(path + os.environ.get("PYTEST_XDIST_WORKER", ""), "w")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what ``pytest_configure`` opened."""
    config.stash[_hung].close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the session when a test hangs so badly that the exception of its timeout did not end it.

    That exception comes once.  What waits for ever behind it, in a ``finally`` or in the clean-up of a fixture, would
    take the whole session with it, and nobody would learn where.
    """
    marker = item.get_closest_marker("timeout")
    limit = float(item.config.getoption("timeout") or item.config.getini("timeout"))
    if marker is not None:
        limit = float(marker.args[0])
    file = item.config.stash[_hung]
    print(item.nodeid, file=file, flush=True)
    faulthandler.dump_traceback_later(limit + HUNG, file=file, exit=True)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        file.seek(0)
        file.truncate()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let reports of names that are not Unicode reach the process that prints them."""
    return _printable((yield))


def _printable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {key: _printable(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(_printable, data))
    return data


def pytest_report_header(config: pytest.Config) -> str:
    """How to repeat this run's choice of samples."""
    part = "everything (soak)" if os.environ.get("FLOWLIB_SOAK") == "1" else "a sample"
    return f"long matrices: {part}, FLOWLIB_TEST_SEED={os.environ['FLOWLIB_TEST_SEED']}"


@pytest.fixture(autouse=True, scope="module")
def _module_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a module, with its fixtures gone, nothing it started is left: not even an orphan."""
    before, processes, memory = leaks.observe(), frozenset(leaks.marked_processes()), leaks.shared_memory()
    yield
    _clean_up_loaded_kernel()
    deadline = time.monotonic() + 2 * GRACE
    allowed = _allowed(request.node.get_closest_marker("leaks"))
    left = [] if "threads" in allowed else leaks.new_threads(before, deadline)
    if "processes" not in allowed:
        left += leaks.orphans(processes, deadline)
    if "files" not in allowed:
        left += leaks.new_files(before, deadline)
        left += [f"/dev/shm/{name}" for name in leaks.shared_memory() - memory]
    if left:
        pytest.fail(f"{request.node.name} left behind: " + "; ".join(left), pytrace=False)


@pytest.fixture(autouse=True)
def _test_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test, what it started is gone; a kernel shared by a module is checked after the module."""
    before = leaks.observe()
    shared = any(thread.name.startswith("flowlib") for thread in before.threads) or _loaded_kernel() is not None
    yield
    if shared:
        return
    left = ["a loaded kernel"] if _clean_up_loaded_kernel() else []
    deadline = time.monotonic() + GRACE
    allowed = _allowed(request.node.get_closest_marker("leaks"))
    if "threads" not in allowed:
        left += leaks.new_threads(before, deadline)
    if "processes" not in allowed:
        left += leaks.new_children(before, deadline)
    if "files" not in allowed:
        left += leaks.new_files(before, deadline)
    if left:
        for pid in leaks.descendants() - before.children:
            leaks.kill(pid)
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


def _allowed(marker: pytest.Mark | None) -> tuple[Any, ...]:
    return marker.args if marker is not None else ()


def _loaded_kernel() -> Any:
    """The kernel that ``flowlib.load`` made, if any; imports nothing by itself."""
    loader = sys.modules.get("flowlib.dataflow.loader")
    if loader is None:
        return None
    try:
        return loader.dfk()
    except Exception as e:
        if type(e).__name__ != "NoDataFlowKernelError":
            raise
        return None


def _clean_up_loaded_kernel() -> bool:
    """End a kernel that a test forgot, so that the next test can load its own."""
    kernel = _loaded_kernel()
    if kernel is None:
        return False
    loader = sys.modules["flowlib.dataflow.loader"]
    try:
        if not getattr(kernel, "cleanup_called", False):
            kernel.cleanup()
    finally:
        loader.clear()
    return True


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    """Where a Config may keep its runs."""
    return str(tmp_path / "runinfo")


@pytest.fixture
def load(run_dir: str) -> Iterator[Callable[..., Any]]:
    """Loads a Config for this test: ``load(executor, ..., retries=1)``; cleaned up afterwards, also on failure."""
    import flowlib
    from flowlib.config import Config

    kernels: list[Any] = []

    def load_config(*executors: Any, **settings: Any) -> Any:
        settings.setdefault("run_dir", run_dir)
        config = Config(executors=list(executors), **settings) if executors else Config(**settings)
        kernels.append(flowlib.load(config))
        return kernels[-1]

    yield load_config
    for kernel in kernels:
        if not getattr(kernel, "cleanup_called", False):
            kernel.cleanup()
    flowlib.clear()
