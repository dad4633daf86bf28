"""Command lines that start an MPI program on certain nodes, for each launcher: text from numbers and names.

A task puts one of them in front of its program.  All are in its environment, so that an app can use the one it was
written for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LAUNCHERS = ("srun", "mpiexec", "mpirun", "aprun", "jsrun", "flux")
OPEN_MPI = "Open MPI"
"""How ``mpiexec`` and ``mpirun`` take their options: as in Open MPI, or as in MPICH and its many relatives."""
MPICH = "MPICH"
_SIGNS = ("open mpi", "openrte", "open-mpi", "prrte")


def flavour(version: str) -> str:
    """What an ``mpiexec`` is, by what it prints for ``--version``.

    Example:
        >>> flavour("mpiexec (OpenRTE) 4.1.4"), flavour("HYDRA build details:")
        ('Open MPI', 'MPICH')
    """
    return OPEN_MPI if any(sign in version.lower() for sign in _SIGNS) else MPICH


def prefix(launcher: str, kind: str, nodes: Sequence[str], ranks: int, per_node: int, options: str = "") -> str:
    """The command line of one launcher.

    Args:
        launcher: One of ``LAUNCHERS``.
        kind: ``OPEN_MPI`` or ``MPICH``; of meaning for ``mpiexec`` and ``mpirun``.
        nodes: Names of the nodes.
        ranks: Processes in all.
        per_node: Most processes on each.
        options: Text that is put at the end.

    Example:
        >>> prefix("mpiexec", MPICH, ["a", "b"], 4, 2)
        'mpiexec -n 4 -ppn 2 -hosts a,b'
        >>> prefix("mpiexec", OPEN_MPI, ["a", "b"], 4, 2)
        'mpiexec -n 4 --host a:2,b:2 --map-by ppr:2:node'
    """
    names = ",".join(nodes)
    if launcher == "srun":
        text = f"srun --ntasks {ranks} --ntasks-per-node {per_node} --nodelist {names} --nodes {len(nodes)}"
    elif launcher == "aprun":
        text = f"aprun -n {ranks} -N {per_node} -L {names}"
    elif launcher == "jsrun":
        # It keeps account of the job's nodes itself, and takes no names.
        text = f"jsrun -n {ranks} -r {per_node}"
    elif launcher == "flux":
        text = f"flux run -N {len(nodes)} -n {ranks} --requires=hosts:{names}"
    elif kind == OPEN_MPI:
        hosts = ",".join(f"{name}:{per_node}" for name in nodes)
        text = f"{launcher} -n {ranks} --host {hosts} --map-by ppr:{per_node}:node"
    else:
        text = f"{launcher} -n {ranks} -ppn {per_node} -hosts {names}"
    return f"{text} {options}" if options else text


def task_environment(
    launcher: str, kinds: Mapping[str, str], nodes: Sequence[str], ranks: int, per_node: int, options: str = ""
) -> dict[str, str]:
    """The variables that an MPI task finds.

    Args:
        launcher: The executor's.
        kinds: What ``mpiexec`` and ``mpirun`` are.
        nodes: Names of the task's nodes.
        ranks: Processes in all.
        per_node: Most processes on each.
        options: For the end of every command line.

    Example:
        >>> found = task_environment("srun", {}, ["a", "b"], 2, 1)
        >>> found["FLOWLIB_MPI_PREFIX"] == found["FLOWLIB_SRUN_PREFIX"]
        True
    """
    lines = {name: prefix(name, kinds.get(name, MPICH), nodes, ranks, per_node, options) for name in LAUNCHERS}
    return {
        "FLOWLIB_NUM_NODES": str(len(nodes)),
        "FLOWLIB_NUM_RANKS": str(ranks),
        "FLOWLIB_RANKS_PER_NODE": str(per_node),
        "FLOWLIB_MPI_NODELIST": ",".join(nodes),
        "FLOWLIB_MPI_PREFIX": lines[launcher],
        **{f"FLOWLIB_{name.upper()}_PREFIX": line for name, line in lines.items()},
    }


def hostfile(nodes: Sequence[str], ranks: int, per_node: int) -> str:
    """The text of a host file that every launcher reads alike: a line for each process.

    Example:
        >>> hostfile(["a", "b"], 3, 2)
        'a\\na\\nb\\n'
    """
    places = [name for name in nodes for _ in range(per_node)]
    return "".join(f"{name}\n" for name in places[:ranks])
