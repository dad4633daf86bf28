"""The public names: all there, documented, and as the field's scripts spell them."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import flowlib

ROOT = Path(__file__).parents[2]

FIELD = {
    "flowlib": [
        "AUTO_LOGNAME", "Config", "DataFlowKernel", "File", "HighThroughputExecutor", "ThreadPoolExecutor", "bash_app",
        "clear", "dfk", "join_app", "load", "python_app", "set_file_logger", "set_stream_logger",
        "wait_for_current_tasks",
    ],
    "flowlib.addresses": ["address_by_hostname", "address_by_interface", "address_by_route", "get_all_addresses"],
    "flowlib.app.app": ["bash_app", "join_app", "python_app"],
    "flowlib.app.errors": [
        "AppBadFormatting", "AppException", "AppTimeout", "BadStdStreamFile", "BashAppNoReturn", "BashExitFailure",
        "MissingOutputs",
    ],
    "flowlib.app.futures": ["DataFuture"],
    "flowlib.concurrent": ["FlowlibPoolExecutor"],
    "flowlib.config": ["Config"],
    "flowlib.data_provider.files": ["File"],
    "flowlib.dataflow.dependency_resolvers": ["DEEP_DEPENDENCY_RESOLVER", "SHALLOW_DEPENDENCY_RESOLVER"],
    "flowlib.dataflow.dflow": ["DataFlowKernel", "DataFlowKernelLoader"],
    "flowlib.dataflow.errors": ["BadCheckpoint", "DataFlowException", "DependencyError", "JoinError"],
    "flowlib.dataflow.futures": ["AppFuture"],
    "flowlib.dataflow.memoization": ["BasicMemoizer", "Memoizer", "id_for_memo"],
    "flowlib.dataflow.states": ["FINAL_FAILURE_STATES", "FINAL_STATES", "States"],
    "flowlib.errors": ["ConfigurationError", "FlowlibError", "NoDataFlowKernelError", "OptionalModuleMissing"],
    "flowlib.executors": ["HighThroughputExecutor", "InlineExecutor", "ThreadPoolExecutor"],
    "flowlib.executors.base": ["FlowlibExecutor"],
    "flowlib.executors.errors": ["BadStateException", "ExecutorError", "InvalidResourceSpecification", "ScalingFailed"],
    "flowlib.executors.high_throughput.errors": ["ManagerLost", "VersionMismatch", "WorkerLost"],
    "flowlib.executors.high_throughput.executor": ["HighThroughputExecutor"],
    "flowlib.executors.threads": ["ThreadPoolExecutor"],
    "flowlib.jobs.errors": ["TooManyJobFailuresError"],
    "flowlib.jobs.states": ["JobState", "JobStatus"],
    "flowlib.launchers": [
        "AprunLauncher", "GnuParallelLauncher", "JsrunLauncher", "MpiExecLauncher", "MpiRunLauncher", "SimpleLauncher",
        "SingleNodeLauncher", "SrunLauncher", "SrunMPILauncher", "WrappedLauncher",
    ],
    "flowlib.providers": [
        "CondorProvider", "GridEngineProvider", "LSFProvider", "LocalProvider", "PBSProProvider", "SlurmProvider",
        "TorqueProvider",
    ],
    "flowlib.providers.base": ["ExecutionProvider"],
    "flowlib.providers.condor.condor": ["CondorProvider"],
    "flowlib.providers.grid_engine.grid_engine": ["GridEngineProvider"],
    "flowlib.providers.lsf.lsf": ["LSFProvider"],
    "flowlib.providers.pbspro.pbspro": ["PBSProProvider"],
    "flowlib.providers.slurm.slurm": ["SlurmProvider"],
    "flowlib.providers.torque.torque": ["TorqueProvider"],
    "flowlib.providers.errors": ["ExecutionProviderException", "ScaleOutFailed", "SubmitException"],
    "flowlib.serialize.errors": ["DeserializationError", "SerializationError"],
    "flowlib.utils": ["get_all_checkpoints", "get_last_checkpoint"],
    "flowlib.version": ["VERSION"],
}  # fmt: skip


@pytest.mark.parametrize("module", FIELD)
def test_field_names(module: str) -> None:
    """The names that scripts of the field import are where they expect them."""
    found = importlib.import_module(module)
    assert [name for name in FIELD[module] if not hasattr(found, name)] == []


def test_all_is_true() -> None:
    """Everything in ``flowlib.__all__`` exists, is not private, and is listed once; ``dir`` shows it."""
    names = list(flowlib.__all__)
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith("_") and name != "__version__"] == []
    assert [name for name in names if not hasattr(flowlib, name)] == []
    assert set(names) <= set(dir(flowlib))


def test_public_names_are_documented() -> None:
    """Each public class and function says what it is for."""
    for name in flowlib.__all__:
        value = getattr(flowlib, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), name


def test_unknown_name() -> None:
    """A mistyped name is an AttributeError that names the module, as of any module."""
    with pytest.raises(AttributeError, match="pyton_app"):
        getattr(flowlib, "pyton_app")  # noqa: B009  # a type checker would refuse the plain form


def test_one_version() -> None:
    """``flowlib.__version__`` and pyproject.toml agree."""
    assert f'\nversion = "{flowlib.__version__}"\n' in (ROOT / "pyproject.toml").read_text()


def test_every_module_imports_first() -> None:
    """Each module can be the first that a process imports: there are no cycles that work only in one order."""
    names = []
    for top in ("flowlib", "providers", "executors", "configs"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            parts = parts if top == "flowlib" else ["flowlib", *parts]
            if not any((ROOT / top / p).is_symlink() for p in parts) and parts[-1] != "__main__":
                names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [m for m in sys.modules if m.partition('.')[0] == 'flowlib']:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *names], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
