"""The cores decide without clocks, threads, sockets or processes; nothing imports upwards or the wrong way round."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CORES = [
    "flowlib/dataflow/delays.py",
    "flowlib/dataflow/graph.py",
    "flowlib/dataflow/retry.py",
    "flowlib/dataflow/retry_checks.py",
    "flowlib/dataflow/states.py",
    "flowlib/dataflow/tries.py",
    "flowlib/app/streams.py",
    "flowlib/doctor/facts.py",
    "flowlib/doctor/findings.py",
    "flowlib/explain/capacity.py",
    "flowlib/explain/explanation.py",
    "flowlib/explain/history.py",
    "flowlib/explain/interval.py",
    "flowlib/explain/overview.py",
    "flowlib/explain/place.py",
    "flowlib/explain/reasons.py",
    "flowlib/explain/recount.py",
    "flowlib/explain/sentences.py",
    "flowlib/memory/arrays.py",
    "flowlib/memory/canonical.py",
    "flowlib/memory/code.py",
    "flowlib/memory/frames.py",
    "flowlib/memory/index.py",
    "flowlib/memory/why.py",
    "flowlib/runs/summary.py",
    "flowlib/scaling.py",
    "flowlib/sites/choices.py",
    "flowlib/sites/consistency.py",
    "flowlib/sites/kinds.py",
    "flowlib/sites/lines.py",
    "flowlib/sites/placeholders.py",
    "flowlib/sites/schedulers.py",
    "flowlib/sites/site.py",
    "flowlib/sites/words.py",
    "flowlib/ssh/problems.py",
    "flowlib/ssh/roster.py",
    "flowlib/ssh/scripts.py",
    "flowlib/ssh/targets.py",
    "flowlib/store/ledger.py",
    "flowlib/store/packing.py",
    "flowlib/store/pulls.py",
    "flowlib/suggest.py",
    "flowlib/units.py",
    "flowlib/machine_launchers.py",
    "providers/condor.py",
    "providers/dialect.py",
    "providers/flux.py",
    "providers/grid_engine.py",
    "providers/lsf.py",
    "providers/pbspro.py",
    "providers/pods.py",
    "providers/ec2.py",
    "providers/slurm.py",
    "providers/torque.py",
    "executors/high_throughput/affinity.py",
    "executors/high_throughput/avoidance.py",
    "executors/high_throughput/endings.py",
    "executors/high_throughput/health.py",
    "executors/high_throughput/lifetime.py",
    "executors/high_throughput/recovery.py",
    "executors/high_throughput/whereabouts.py",
    "executors/high_throughput/unconfirmed.py",
    "executors/high_throughput/dispatcher.py",
    "executors/high_throughput/manager_core.py",
    "executors/high_throughput/hostlists.py",
    "executors/high_throughput/messages.py",
    "executors/high_throughput/tokens.py",
    "executors/high_throughput/mpi_prefixes.py",
    "executors/high_throughput/mpi_request.py",
]
IMPURE = {
    "asyncio", "dill", "fcntl", "logging", "multiprocessing", "os", "psutil", "pickle", "queue", "random", "select",
    "selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time", "zmq",
}  # fmt: skip
HEAVY = ("asyncio", "dill", "msgspec", "psutil", "rich", "typeguard", "zmq")


def sources() -> list[str]:
    """All library files, as paths relative to the root."""
    found = []
    for top in ("flowlib", "providers", "executors", "configs"):
        for directory, _, files in os.walk(ROOT / top):
            found += [str(Path(directory, f).relative_to(ROOT)) for f in files if f.endswith(".py")]
    return sorted(found)


def imports(path: str) -> Iterator[tuple[str, bool]]:
    """Names of the modules a file imports at run time, with whether that happens when the file itself is imported."""
    tree = ast.parse((ROOT / path).read_text(), path)

    def walk(node: ast.AST, at_import: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                yield from walk(child, at_import)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} relative import"
            yield str(node.module), at_import
        inner = at_import and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inner)

    yield from walk(tree, True)


@pytest.mark.parametrize("core", CORES)
def test_cores_are_pure(core: str) -> None:
    """A core imports nothing that could look at the clock, wait, or talk to the outside, not even inside a function."""
    reached = {name.partition(".")[0] for name, _ in imports(core)}
    assert not reached & IMPURE


@pytest.mark.parametrize("path", sources())
def test_right_names(path: str) -> None:
    """Code imports ``flowlib.providers``, never ``providers``: that would make a second copy of every class."""
    assert not {name.partition(".")[0] for name, _ in imports(path)} & {"providers", "executors", "configs", "tests"}


def test_kernel_knows_no_executor() -> None:
    """The kernel and the apps reach executors through their interface only; ``load`` alone chooses a default."""
    for path in sources():
        if path != "flowlib/dataflow/loader.py" and path.startswith(
            ("flowlib/dataflow/", "flowlib/app/", "flowlib/serialize/", "flowlib/events/")
        ):
            reached = {name for name, _ in imports(path)}
            assert not {name for name in reached if name.startswith("flowlib.executors.high_throughput")}, path
            assert not {name for name in reached if name.startswith("flowlib.providers")}, path


def test_workers_load_little() -> None:
    """What runs on a node does not import the kernel, the Config or the checkers of constructors."""
    for name in ("manager", "template", "worker", "hygiene", "interchange"):
        path = f"executors/high_throughput/{name}.py"
        reached = {module for module, _ in imports(path)}
        assert not reached & {"typeguard", "rich", "flowlib.config", "flowlib.dataflow.kernel"}, path


def test_no_forks_by_multiprocessing() -> None:
    """Nothing in the library imports multiprocessing: children are started fresh, by ``python -m``."""
    for path in sources():
        assert "multiprocessing" not in {name.partition(".")[0] for name, _ in imports(path)}, path


def test_import_is_light() -> None:
    """``import flowlib`` and decorating a function load none of the heavy packages."""
    program = (
        "import sys, flowlib\n"
        "@flowlib.python_app\ndef f(x): return x\n"
        "@flowlib.bash_app\ndef g(): return 'true'\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == ("", "")
