"""Nodes that are not there, for a real ``mpirun``: it starts its daemons by a script that stays on this machine.

Each daemon gets a directory of its own, as it would have on a node of its own, and tells its processes the node's name
in ``PRETEND_NODE``.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

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
        "HYDRA_LAUNCHER": "ssh",
        "HYDRA_LAUNCHER_EXEC": str(agent),
    }


def find(kind: str) -> str | None:
    """The ``mpiexec`` of that kind: "openmpi" of the system's, "mpich" also as it comes with this Python's packages.

    Open MPI comes as a package for Python too, but is too new for this: its launcher hangs now and then where all
    nodes are one machine, whoever starts it.
    """
    if kind == "mpich":
        return shutil.which("mpiexec.hydra", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec.mpich")
    return shutil.which("mpiexec.openmpi")


def install(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``mpiexec`` and ``mpirun`` programs that take any name for a node on this machine.

    Args:
        kind: "openmpi" or "mpich".
        root: Directory for them and the nodes' temporary files; its path must be short.
        monkeypatch: For the environment.
    """
    found = find(kind)
    if found is None:
        pytest.skip(
            {
                "mpich": "no MPICH here: the development setup installs it, where there is a package of it",
                "openmpi": "no Open MPI here: only the system's packages have one (Debian: openmpi-bin)",
            }[kind]
        )
    programs = root / "bin"
    programs.mkdir()
    for name in ("mpiexec", "mpirun"):
        # A link would not do: Open MPI finds out by its own name what it is.
        (programs / name).write_text(f'#!/bin/sh\nexec {found} "$@"\n')
        (programs / name).chmod(0o700)
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", _path(programs))


def _path(first: Path) -> str:
    return f"{first}{os.pathsep}{os.environ['PATH']}"
