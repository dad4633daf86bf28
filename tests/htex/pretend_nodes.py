"""Nodes that are not there, for a real ``mpirun``: it starts its daemons by a script that stays on this machine.

Each daemon gets a directory of its own, as it would have on a node of its own, and tells its processes the node's name
in ``PRETEND_NODE``.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

_AGENT = """#!/bin/sh
while [ "$1" = -x ]; do shift; done
host=$1
shift
export PRETEND_NODE=$host TMPDIR={root}/$host OMPI_MCA_orte_tmpdir_base={root}/$host
mkdir -p "$TMPDIR"
exec sh -c "$*"
"""


def environment(root: Path) -> dict[str, str]:
    """The variables by which Open MPI and MPICH take any name for a node on this machine.

    Args:
        root: Directory for the nodes' temporary files; its path must be short.
    """
    agent = root / "agent"
    agent.write_text(_AGENT.format(root=root))
    agent.chmod(0o700)
    return {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_plm_rsh_agent": str(agent),
        # Sharing a description of the hardware between processes fails where several daemons are on one machine.
        "OMPI_MCA_rtc": "^hwloc",
        "OMPI_MCA_btl": "self,tcp",
        "OMPI_MCA_btl_tcp_if_include": "lo",
        "OMPI_MCA_oob_tcp_if_include": "lo",
        "PRTE_MCA_plm_ssh_agent": str(agent),
        "PRTE_ALLOW_RUN_AS_ROOT": "1",
        "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "HYDRA_LAUNCHER": "ssh",
        "HYDRA_LAUNCHER_EXEC": str(agent),
    }


class Implementation(NamedTuple):
    """An MPI that is installed here.

    Attributes:
        mpiexec: Its program.
        environment: What it needs to find its own files.
    """

    mpiexec: str
    environment: dict[str, str]


def find(kind: str) -> Implementation | None:
    """The MPI of that kind ("openmpi", "mpich") that came with this Python's packages, or the system's."""
    here = Path(sys.executable).parent
    if kind == "mpich":
        path = shutil.which("mpiexec.hydra", path=str(here)) or shutil.which("mpiexec.hydra")
        return None if path is None else Implementation(path, {})
    if (here / "ompirun_wrapper").exists():
        # It was built for another place.
        prefix = str(here.parent)
        variables = {"OPAL_PREFIX": prefix, "PRTE_PREFIX": prefix, "PMIX_PREFIX": prefix, "PATH": _path(here)}
        return Implementation(str(here / "ompirun_wrapper"), variables)
    path = shutil.which("mpiexec.openmpi")
    return None if path is None else Implementation(path, {})


def install(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``mpiexec`` and ``mpirun`` programs that take any name for a node on this machine.

    Args:
        kind: "openmpi" or "mpich".
        root: Directory for them and the nodes' temporary files; its path must be short.
        monkeypatch: For the environment.
    """
    found = find(kind)
    if found is None:
        pytest.skip(f"no {kind} here: `pip install {kind}`, which the development setup does, brings it")
    programs = root / "bin"
    programs.mkdir()
    for name in ("mpiexec", "mpirun"):
        # A link would not do: Open MPI finds out by its own name what it is.
        (programs / name).write_text(f'#!/bin/sh\nexec {found.mpiexec} "$@"\n')
        (programs / name).chmod(0o700)
    for name, value in {**environment(root), **found.environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", _path(programs))


def _path(first: Path) -> str:
    return f"{first}{os.pathsep}{os.environ['PATH']}"
