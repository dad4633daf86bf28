"""Providers start blocks of workers on one kind of machine. Each is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowlib.providers.aws import AWSProvider as AWSProvider
    from flowlib.providers.base import ExecutionProvider as ExecutionProvider
    from flowlib.providers.condor import CondorProvider as CondorProvider
    from flowlib.providers.flux import FluxProvider as FluxProvider
    from flowlib.providers.grid_engine import GridEngineProvider as GridEngineProvider
    from flowlib.providers.kubernetes import KubernetesProvider as KubernetesProvider
    from flowlib.providers.local import LocalProvider as LocalProvider
    from flowlib.providers.lsf import LSFProvider as LSFProvider
    from flowlib.providers.pbspro import PBSProProvider as PBSProProvider
    from flowlib.providers.slurm import SlurmProvider as SlurmProvider
    from flowlib.providers.ssh import SSHProvider as SSHProvider
    from flowlib.providers.torque import TorqueProvider as TorqueProvider

__all__ = [
    "AWSProvider",
    "CondorProvider",
    "ExecutionProvider",
    "FluxProvider",
    "GridEngineProvider",
    "KubernetesProvider",
    "LSFProvider",
    "LocalProvider",
    "PBSProProvider",
    "SSHProvider",
    "SlurmProvider",
    "TorqueProvider",
]

_HOMES = {
    "AWSProvider": "flowlib.providers.aws",
    "CondorProvider": "flowlib.providers.condor",
    "ExecutionProvider": "flowlib.providers.base",
    "FluxProvider": "flowlib.providers.flux",
    "GridEngineProvider": "flowlib.providers.grid_engine",
    "KubernetesProvider": "flowlib.providers.kubernetes",
    "LSFProvider": "flowlib.providers.lsf",
    "LocalProvider": "flowlib.providers.local",
    "PBSProProvider": "flowlib.providers.pbspro",
    "SSHProvider": "flowlib.providers.ssh",
    "SlurmProvider": "flowlib.providers.slurm",
    "TorqueProvider": "flowlib.providers.torque",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        from flowlib._aliases import refuse_unoffered, submodules

        refuse_unoffered(name)
        return submodules(__name__)(name)
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
