"""Launchers that start managers by a program of the machine: ``srun``, ``mpiexec``, ``jsrun`` ...

Each hands over the command in one quoted piece, so that its variables are those of the node on which it runs, and ends
with that program's exit code, whether or not it talks.
"""

from __future__ import annotations

import shlex
from abc import abstractmethod

from flowlib.launchers import Launcher, spaced


class SpreadLauncher(Launcher):
    """Base of launchers that start the copies by a program of the machine.

    Args:
        overrides: More options for that program; they come after those of the launcher, and so win.
        debug: As for ``Launcher``.
    """

    def __init__(self, overrides: str = "", debug: bool = True) -> None:
        super().__init__(debug)
        self.overrides = overrides

    @abstractmethod
    def program(self, copies: int, tasks_per_node: int, nodes: int) -> str:
        """The program and its options, without ``overrides`` and without what it starts."""

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The program's command line, whose exit code is that of the text; see ``Launcher``."""
        program = self.program(tasks_per_node * nodes_per_block, tasks_per_node, nodes_per_block)
        return "\n".join([*self._setup(tasks_per_node), *self._said(program), self._line(program, command)])

    def _setup(self, tasks_per_node: int) -> list[str]:
        return []

    def _line(self, program: str, command: str) -> str:
        # Quoted as a whole: variables in the command are those of the node that it runs on.
        return f"{program}{spaced(self.overrides)} /bin/bash -c {shlex.quote(command)}"

    def _said(self, program: str) -> list[str]:
        text = shlex.quote(f"flowlib: starting managers by: {program}{spaced(self.overrides)}")
        return [f"echo {text} >&2"] if self.debug else []


_SLURM_CPUS = """\
export CORES="${SLURM_CPUS_ON_NODE:-}"
export NODES="${SLURM_JOB_NUM_NODES:-}"
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi"""
# The last line: since Slurm 22.05 a step does not take the number of CPUs from its job, and would get one.


class SrunLauncher(SpreadLauncher):
    """Starts the copies by Slurm's ``srun``. A copy that fails does not end the others.

    Args:
        debug: As for ``Launcher``.
        overrides: More options of ``srun``.

    Example:
        >>> print(SrunLauncher(debug=False)("manager", 1, 2).splitlines()[-1])
        srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0 -l /bin/bash -c manager
    """

    def __init__(self, debug: bool = True, overrides: str = "") -> None:
        super().__init__(overrides, debug)

    def program(self, copies: int, tasks_per_node: int, nodes: int) -> str:
        """See ``SpreadLauncher``."""
        size = f"--nodes={nodes} --ntasks={copies} --ntasks-per-node={tasks_per_node}"
        return f"srun {size} --kill-on-bad-exit=0 --wait=0 -l"

    def _setup(self, tasks_per_node: int) -> list[str]:
        return [_SLURM_CPUS]


class SrunMPILauncher(Launcher):
    """Starts each copy by an ``srun`` of its own, with its share of the job's nodes or cores: for MPI programs.

    The exit code is 0 if all succeeded, otherwise that of the last that failed.

    Args:
        debug: As for ``Launcher``.
        overrides: More options of ``srun``.
    """

    def __init__(self, debug: bool = True, overrides: str = "") -> None:
        super().__init__(debug)
        self.overrides = overrides

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The copies as a piece of bash; see ``Launcher``."""
        copies = tasks_per_node * nodes_per_block
        lines = [
            _SLURM_CPUS,
            "flowlib_pids=()",
            f"flowlib_nodes=$((${{NODES:-{nodes_per_block}}} / {copies}))",
            f"flowlib_cores=$((${{CORES:-1}} * ${{NODES:-{nodes_per_block}}} / {copies}))",
            f"for ((flowlib_i = 0; flowlib_i < {copies}; flowlib_i++)); do",
            "    if [ $flowlib_nodes -ge 1 ]; then",
            "        flowlib_share=(--exclusive --nodes=$flowlib_nodes --ntasks=$flowlib_cores)",
            "    else",
            "        flowlib_share=(--exact --nodes=1 --ntasks=$((flowlib_cores > 0 ? flowlib_cores : 1)))",
            "    fi",
            f'    srun "${{flowlib_share[@]}}" -l{spaced(self.overrides)} /bin/bash -c {shlex.quote(command)} &',
            "    flowlib_pids+=($!)",
            "done",
            "flowlib_code=0",
            'for flowlib_pid in "${flowlib_pids[@]}"; do',
            '    wait "$flowlib_pid" || flowlib_code=$?',
            "done",
        ]
        if self.debug:
            lines.append('[ $flowlib_code -ne 0 ] && echo "flowlib: an srun failed with exit code $flowlib_code" >&2')
        return "\n".join([*lines, "(exit $flowlib_code)"])


class AprunLauncher(SpreadLauncher):
    """Starts the copies by Cray's ``aprun``.

    Args:
        debug: As for ``Launcher``.
        overrides: More options of ``aprun``.
    """

    def __init__(self, debug: bool = True, overrides: str = "") -> None:
        super().__init__(overrides, debug)

    def program(self, copies: int, tasks_per_node: int, nodes: int) -> str:
        """See ``SpreadLauncher``."""
        return f"aprun -n {copies} -N {tasks_per_node}"


class JsrunLauncher(SpreadLauncher):
    """Starts the copies by ``jsrun``, on machines with LSF and IBM's job step manager.

    Args:
        debug: As for ``Launcher``.
        overrides: More options of ``jsrun``.
    """

    def __init__(self, debug: bool = True, overrides: str = "") -> None:
        super().__init__(overrides, debug)

    def program(self, copies: int, tasks_per_node: int, nodes: int) -> str:
        """See ``SpreadLauncher``."""
        return f"jsrun -n {copies} -r {tasks_per_node}"


class FluxLauncher(SpreadLauncher):
    """Starts the copies by ``flux run``, on whole nodes.

    Args:
        debug: As for ``Launcher``.
        overrides: More options of ``flux run``.
    """

    def __init__(self, debug: bool = True, overrides: str = "") -> None:
        super().__init__(overrides, debug)

    def program(self, copies: int, tasks_per_node: int, nodes: int) -> str:
        """See ``SpreadLauncher``."""
        # A manager places its workers by itself, and is no rank of an MPI program.
        return f"flux run --nodes={nodes} --ntasks={copies} --exclusive -o cpu-affinity=off -o exit-timeout=none"


_HOSTS = """\
flowlib_hosts=$(mktemp)
if [ -n "${PBS_NODEFILE:-}" ]; then sort -u "$PBS_NODEFILE"
elif [ -n "${LSB_DJOB_HOSTFILE:-}" ]; then sort -u "$LSB_DJOB_HOSTFILE"
elif [ -n "${PE_HOSTFILE:-}" ]; then awk '{ print $1 }' "$PE_HOSTFILE"
elif [ -n "${SLURM_JOB_NODELIST:-}" ]; then scontrol show hostnames "$SLURM_JOB_NODELIST"
else hostname
fi > "$flowlib_hosts"
"""
"""Writes the names of the block's nodes into a file, each once."""


class _HostsLauncher(SpreadLauncher):
    """One whose program takes a file of host names, and that has to remove it."""

    def _setup(self, tasks_per_node: int) -> list[str]:
        lines = [_HOSTS.rstrip()]
        if tasks_per_node > 1:
            repeat = f"awk '{{ for (i = 0; i < {tasks_per_node}; i++) print }}' \"$flowlib_hosts\""
            lines.append(f'{repeat} >"$flowlib_hosts.all" && mv "$flowlib_hosts.all" "$flowlib_hosts"')
        return lines

    def _line(self, program: str, command: str) -> str:
        line = super()._line(program, command)
        return f'{line}\nflowlib_code=$?\nrm -f "$flowlib_hosts"\n(exit $flowlib_code)'


class MpiExecLauncher(_HostsLauncher):
    """Starts the copies by ``mpiexec`` with a file of the block's nodes.

    Args:
        debug: As for ``Launcher``.
        bind_cmd: The option of this ``mpiexec`` that says what processes are bound to; they are bound to nothing.
        overrides: More options of ``mpiexec``.
    """

    def __init__(self, debug: bool = True, bind_cmd: str = "--bind-to", overrides: str = "") -> None:
        super().__init__(overrides, debug)
        self.bind_cmd = bind_cmd

    def program(self, copies: int, tasks_per_node: int, nodes: int) -> str:
        """See ``SpreadLauncher``."""
        return f'mpiexec {self.bind_cmd} none -n {copies} --hostfile "$flowlib_hosts"'


class MpiRunLauncher(SpreadLauncher):
    """Starts the copies by ``mpirun``, which knows the block's nodes by itself.

    Args:
        debug: As for ``Launcher``.
        bash_location: Path of bash on the nodes.
        overrides: More options of ``mpirun``.
    """

    def __init__(self, debug: bool = True, bash_location: str = "/bin/bash", overrides: str = "") -> None:
        super().__init__(overrides, debug)
        self.bash_location = bash_location

    def program(self, copies: int, tasks_per_node: int, nodes: int) -> str:
        """See ``SpreadLauncher``."""
        return f"mpirun -np {copies}"

    def _line(self, program: str, command: str) -> str:
        return f"{program}{spaced(self.overrides)} {self.bash_location} -c {shlex.quote(command)}"


class GnuParallelLauncher(_HostsLauncher):
    """Starts the copies by GNU parallel, over SSH, on the nodes of the block.

    The exit code is the number of copies that failed.

    Args:
        debug: As for ``Launcher``.
    """

    def __init__(self, debug: bool = True) -> None:
        super().__init__("", debug)

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The copies as a piece of bash; see ``Launcher``."""
        program = self.program(tasks_per_node * nodes_per_block, tasks_per_node, nodes_per_block)
        copy = shlex.quote(f"/bin/bash -c {shlex.quote(command)}")
        feed = f"for ((flowlib_i = 0; flowlib_i < {tasks_per_node * nodes_per_block}; flowlib_i++)); do"
        lines = [
            _HOSTS.rstrip(),
            *self._said(program),
            f"{feed} printf '%s\\0' {copy}; done | {program}",
            "flowlib_code=$?",
            'rm -f "$flowlib_hosts"',
            "(exit $flowlib_code)",
        ]
        return "\n".join(lines)

    def program(self, copies: int, tasks_per_node: int, nodes: int) -> str:
        """See ``SpreadLauncher``."""
        return f'parallel --null --sshloginfile "$flowlib_hosts" --workdir "$PWD" --jobs {tasks_per_node}'
