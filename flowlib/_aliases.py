"""Other names of modules: paths that scripts of the field import and that lie elsewhere here.

An alias is the module itself under a second name: a class found through either is one class, a patch through either
is seen through both, and pickles name the real path.  The tables below are all there is to it.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader, MetaPathFinder
    from types import ModuleType
else:
    # Python asks for the methods only, and importing the classes would take longer than all of this.
    Loader = MetaPathFinder = object

ALIASES = {
    "flowlib.app.futures": "flowlib.dataflow.futures",
    "flowlib.data_provider.errors": "flowlib.errors",
    "flowlib.dataflow.dependency_resolvers": "flowlib.dataflow.dependencies",
    "flowlib.dataflow.dflow": "flowlib.dataflow.kernel",
    "flowlib.dataflow.errors": "flowlib.errors",
    "flowlib.dataflow.rundirs": "flowlib.rundirs",
    "flowlib.dataflow.taskrecord": "flowlib.dataflow.record",
    "flowlib.executors.errors": "flowlib.errors",
    "flowlib.executors.high_throughput.errors": "flowlib.errors",
    "flowlib.jobs.errors": "flowlib.errors",
    "flowlib.jobs.strategy": "flowlib.scaling",
    "flowlib.launchers.base": "flowlib.launchers",
    "flowlib.launchers.errors": "flowlib.errors",
    "flowlib.launchers.launchers": "flowlib.launchers",
    "flowlib.log_utils": "flowlib.logs",
    "flowlib.logconfigs": "flowlib.logs",
    "flowlib.logconfigs.base": "flowlib.logs",
    "flowlib.logconfigs.file": "flowlib.logs",
    "flowlib.logconfigs.json": "flowlib.logs",
    "flowlib.logconfigs.noop": "flowlib.logs",
    "flowlib.providers.aws.aws": "flowlib.providers.aws",
    "flowlib.providers.condor.condor": "flowlib.providers.condor",
    "flowlib.providers.errors": "flowlib.errors",
    "flowlib.providers.grid_engine.grid_engine": "flowlib.providers.grid_engine",
    "flowlib.providers.kubernetes.kube": "flowlib.providers.kubernetes",
    "flowlib.providers.local.local": "flowlib.providers.local",
    "flowlib.providers.lsf.lsf": "flowlib.providers.lsf",
    "flowlib.providers.pbspro.pbspro": "flowlib.providers.pbspro",
    "flowlib.providers.slurm.slurm": "flowlib.providers.slurm",
    "flowlib.providers.torque.torque": "flowlib.providers.torque",
    "flowlib.serialize.errors": "flowlib.errors",
    "flowlib.usage_tracking": "flowlib.usage",
    "flowlib.usage_tracking.levels": "flowlib.usage",
}
"""Alias to real module."""

_HTEX = "HighThroughputExecutor does this work"
_LATER = "comes with a later release"
_MACHINES = "start the machines by their own tools and run flowlib on them, with HighThroughputExecutor"

UNOFFERED = {
    "flowlib.executors.radical": f"RADICAL-Pilot is not supported: {_HTEX}",
    "flowlib.executors.taskvine": f"TaskVine is not supported: {_HTEX}",
    "flowlib.executors.workqueue": f"Work Queue is not supported: {_HTEX}",
    "flowlib.monitoring": "there is no MonitoringHub: every run records its events by itself, see `flowlib events`",
    "flowlib.providers.ad_hoc": "AdHocProvider is not offered: SSHProvider(hosts=[...]) takes its place",
    "flowlib.providers.azure": f"Azure is not supported: {_MACHINES}",
    "flowlib.providers.googlecloud": f"Google Cloud is not supported: {_MACHINES}",
    "flowlib.executors.flux": f"Flux {_LATER}",
    "flowlib.executors.globus_compute": f"Globus Compute {_LATER}",
    "flowlib.channels": "there are no channels: SSHProvider starts blocks on hosts, SSHTransport reaches login nodes",
}
"""Modules that the field's scripts may import and that are not there, with what to do instead."""

UNOFFERED_NAMES = {
    "AdHocProvider": "flowlib.providers.ad_hoc",
    "AzureProvider": "flowlib.providers.azure",
    "FluxExecutor": "flowlib.executors.flux",
    "GlobusComputeExecutor": "flowlib.executors.globus_compute",
    "GoogleCloudProvider": "flowlib.providers.googlecloud",
    "MonitoringHub": "flowlib.monitoring",
    "RadicalPilotExecutor": "flowlib.executors.radical",
    "TaskVineExecutor": "flowlib.executors.taskvine",
    "WorkQueueExecutor": "flowlib.executors.workqueue",
}
"""Names of classes in those modules, which packages offer directly as well."""

_PACKAGES = {alias.rpartition(".")[0] for alias in ALIASES}


def refuse_unoffered(name: str) -> None:
    """For a package's ``__getattr__``: say what to use instead of a class that the field has and flowlib has not.

    Raises:
        ImportError: ``name`` is one of those.
    """
    home = UNOFFERED_NAMES.get(name)
    if home is not None:
        raise ImportError(f"flowlib has no {name}: {UNOFFERED[home]}", name=home)


class AliasLoader(Loader):
    """Loads an alias: the real module."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The real module; Python is about to overwrite its spec, so that is kept."""
        module = importlib.import_module(ALIASES[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed twice."""
        given = module.__spec__
        if given is not None and given.loader is self:
            module.__spec__ = given.loader_state


class AliasFinder(MetaPathFinder):
    """Answers imports of aliases. Stands first, but looks at names of the tables only."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What to load for ``fullname``; None for everything that is not in the tables.

        Raises:
            ModuleNotFoundError: It, or the package that it is in, is not offered.
        """
        if not fullname.startswith("flowlib."):
            return None
        if fullname in ALIASES:
            return ModuleSpec(fullname, AliasLoader(), is_package=fullname in _PACKAGES)
        reason = UNOFFERED.get(fullname)
        if reason is not None:
            raise ModuleNotFoundError(f"No module named {fullname!r}: {reason}", name=fullname)
        if fullname in _PACKAGES:
            spec = PathFinder.find_spec(fullname, path)
            if spec is not None and spec.submodule_search_locations is None:
                # A plain module here, a package there: Python looks for submodules only in what has a path.
                spec.submodule_search_locations = []
            return spec
        return None


def submodules(package: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for a package: its modules are there as attributes without having been imported.

    Args:
        package: The package's name.
    """

    def get(name: str) -> Any:
        module = f"{package}.{name}"
        if not name.startswith("_"):
            try:
                return importlib.import_module(module)
            except ModuleNotFoundError as e:
                if e.name != module or module in UNOFFERED:
                    raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)

    return get


def install() -> None:
    """Answer imports of aliases from now on."""
    mine = [f for f in sys.meta_path if type(f).__module__ == __name__]
    if not mine:
        sys.meta_path.insert(0, AliasFinder())
