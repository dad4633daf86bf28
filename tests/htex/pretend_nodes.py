"""Nodes that are not there, for a real ``mpirun``: it starts its daemons by a script that stays on this machine.

Each daemon gets a directory of its own, as it would have on a node of its own, and tells its processes the node's name
in ``PRETEND_NODE``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

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


def implementations() -> dict[str, str]:
    """The ``mpiexec`` programs on this machine by the name of their implementation."""
    found: dict[str, str] = {}
    for name in ("mpiexec.openmpi", "mpiexec.mpich", "mpiexec.hydra", "mpiexec"):
        path = shutil.which(name)
        if path is None:
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
        kind = "openmpi" if "OpenRTE" in said.stdout or "Open MPI" in said.stdout else "mpich"
        found.setdefault(kind, path)
    return found


def on_path(directory: Path, mpiexec: str) -> str:
    """A PATH on which ``mpiexec`` and ``mpirun`` are this program."""
    directory.mkdir()
    for name in ("mpiexec", "mpirun"):
        # A link would not do: Open MPI finds out by its own name what it is.
        (directory / name).write_text(f'#!/bin/sh\nexec {mpiexec} "$@"\n')
        (directory / name).chmod(0o700)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"
