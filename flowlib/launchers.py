"""Launchers: how one command line becomes many managers, one or more on each node of a block.

A provider puts a launcher's text into its job script.  Launchers are pure: they turn text into text.
"""

from __future__ import annotations

import logging
import shlex
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from flowlib.errors import BadLauncher, ConfigurationError
from flowlib.representation import RepresentationMixin
from flowlib.suggest import nearest

if TYPE_CHECKING:
    from flowlib.machine_launchers import AprunLauncher as AprunLauncher
    from flowlib.machine_launchers import FluxLauncher as FluxLauncher
    from flowlib.machine_launchers import GnuParallelLauncher as GnuParallelLauncher
    from flowlib.machine_launchers import JsrunLauncher as JsrunLauncher
    from flowlib.machine_launchers import MpiExecLauncher as MpiExecLauncher
    from flowlib.machine_launchers import MpiRunLauncher as MpiRunLauncher
    from flowlib.machine_launchers import SpreadLauncher as SpreadLauncher
    from flowlib.machine_launchers import SrunLauncher as SrunLauncher
    from flowlib.machine_launchers import SrunMPILauncher as SrunMPILauncher

_BY_PROGRAM = (
    "AprunLauncher",
    "FluxLauncher",
    "GnuParallelLauncher",
    "JsrunLauncher",
    "MpiExecLauncher",
    "MpiRunLauncher",
    "SpreadLauncher",
    "SrunLauncher",
    "SrunMPILauncher",
)

logger = logging.getLogger(__name__)


class Launcher(RepresentationMixin, ABC):
    """Base of launchers.

    Args:
        debug: Whether the script says on standard error what it does.
    """

    def __init__(self, debug: bool = True) -> None:
        self.debug = debug

    @abstractmethod
    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """Shell text that runs ``command`` on the block's nodes and waits for all of them.

        Args:
            command: Shell command line.
            tasks_per_node: Copies of it on each node.
            nodes_per_block: Nodes.
            script_dir: Where scripts belong, for launchers that write some; flowlib's own need none.
        """


class SimpleLauncher(Launcher):
    """Runs the command once, on the first node of the block, as it is.

    For blocks of one node, and for commands that spread themselves.
    """

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The command itself; see ``Launcher``."""
        if nodes_per_block > 1:
            logger.warning("SimpleLauncher runs its command on the first of %d nodes only", nodes_per_block)
        return command


class WrappedLauncher(Launcher):
    """Puts something in front of the command: a container's or profiler's command line.

    Args:
        prepend: Text in front of the command.
        debug: As for ``Launcher``.

    Example:
        >>> WrappedLauncher("docker run --rm image")("manager 0", 1, 1)
        'docker run --rm image manager 0'
    """

    def __init__(self, prepend: str, debug: bool = True) -> None:
        super().__init__(debug)
        self.prepend = prepend

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The command with the text in front; see ``Launcher``."""
        if nodes_per_block > 1:
            logger.warning("WrappedLauncher runs its command on the first of %d nodes only", nodes_per_block)
        return f"{self.prepend} {command}"


class SingleNodeLauncher(Launcher):
    """Runs ``tasks_per_node`` times ``nodes_per_block`` copies of the command on this one machine, and waits for all.

    Its exit code is 0 if all copies succeeded, or some did and ``fail_on_any`` is False; otherwise that of the last
    copy that failed.

    Args:
        debug: As for ``Launcher``.
        fail_on_any: Whether one failed copy makes the whole fail; otherwise all must have failed.
    """

    def __init__(self, debug: bool = True, fail_on_any: bool = False) -> None:
        super().__init__(debug)
        self.fail_on_any = fail_on_any

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The copies as a piece of bash; see ``Launcher``."""
        copies = tasks_per_node * nodes_per_block
        export = "export CORES=$(getconf _NPROCESSORS_ONLN)"
        if copies == 1:
            return f"{export}\n{command}"
        # A signal would interrupt `wait`, and bash can lose exit codes then: so SIGTERM, which reaches the copies as
        # well, is ignored here, and the script ends after them. A copy acts on it once its running command has ended.
        # In background jobs bash ignores SIGINT, which what runs there would inherit.
        enough = "1" if self.fail_on_any else str(copies)
        lines = [
            export,
            "flowlib_command() {",
            "trap - INT QUIT",
            "trap 'exit 143' TERM",
            command,
            "}",
            "trap '' TERM",
            "flowlib_pids=()",
            f"for ((flowlib_i = 0; flowlib_i < {copies}; flowlib_i++)); do",
            "    flowlib_command &",
            "    flowlib_pids+=($!)",
            "done",
            "flowlib_failed=0",
            "flowlib_code=0",
            'for flowlib_pid in "${flowlib_pids[@]}"; do',
            '    wait "$flowlib_pid"',
            "    flowlib_last=$?",
            "    if [ $flowlib_last -ne 0 ]; then",
            "        flowlib_failed=$((flowlib_failed + 1))",
            "        flowlib_code=$flowlib_last",
            "    fi",
            "done",
        ]
        if self.debug:
            text = shlex.quote(f"of {copies} copies of the command have failed, the last with exit code")
            lines.append(f'[ $flowlib_failed -gt 0 ] && echo "$flowlib_failed" {text} "$flowlib_code" >&2')
        lines += [f"if [ $flowlib_failed -ge {enough} ]; then (exit $flowlib_code); else true; fi"]
        return "\n".join(lines)


ENGINES = {
    "apptainer": 'apptainer exec --bind "$PWD" --pwd "$PWD"{options} {image}',
    "singularity": 'singularity exec --bind "$PWD" --pwd "$PWD"{options} {image}',
    "docker": 'docker run --rm --network=host --volume "$PWD:$PWD" --workdir "$PWD"{options} {image}',
    "podman": 'podman run --rm --network=host --volume "$PWD:$PWD" --workdir "$PWD"{options} {image}',
    "podman-hpc": 'podman-hpc run --rm --network=host --volume "$PWD:$PWD" --workdir "$PWD"{options} {image}',
    "shifter": "shifter --image={image}{options}",
}
"""Command lines that run something in a container, by the name of the engine."""


class ContainerLauncher(Launcher):
    """Runs each copy in a container, and leaves spreading them to another launcher.

    The image needs a Python with flowlib (``worker_python="python3"``); the working directory and the run directory
    must be seen in it.

    Args:
        container: The image, as the engine takes it.
        launcher: Spreads the copies; None for ``SingleNodeLauncher()``.
        engine: One of apptainer, singularity, docker, podman, podman-hpc, shifter.
        options: More options of the engine: "--nv", "--bind /scratch".
        debug: As for ``Launcher``.

    Raises:
        ConfigurationError: There is no such engine.
        BadLauncher: ``launcher`` is none.

    Example:
        >>> ContainerLauncher("image.sif", SimpleLauncher())("manager", 1, 1)
        'apptainer exec --bind "$PWD" --pwd "$PWD" image.sif /bin/sh -c manager'
    """

    def __init__(
        self,
        container: str,
        launcher: Launcher | None = None,
        engine: str = "apptainer",
        options: str = "",
        debug: bool = True,
    ) -> None:
        super().__init__(debug)
        if engine not in ENGINES:
            raise ConfigurationError(f"ContainerLauncher(engine={engine!r}): no such engine{nearest(engine, ENGINES)}")
        self.container = container
        self.launcher = check_launcher(launcher if launcher is not None else SingleNodeLauncher())
        self.engine = engine
        self.options = options

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The inner launcher's text for the command in the container; see ``Launcher``."""
        start = ENGINES[self.engine].format(image=shlex.quote(self.container), options=spaced(self.options))
        return self.launcher(f"{start} /bin/sh -c {shlex.quote(command)}", tasks_per_node, nodes_per_block, script_dir)


def spaced(text: str) -> str:
    """Text with a space in front; nothing if there is none."""
    return f" {text.strip()}" if text.strip() else ""


def check_launcher(launcher: object) -> Launcher:
    """The launcher itself.

    Raises:
        BadLauncher: It is none.
    """
    if not isinstance(launcher, Launcher):
        raise BadLauncher(launcher)
    return launcher


def __getattr__(name: str) -> object:
    if name in _BY_PROGRAM:
        import flowlib.machine_launchers

        return getattr(flowlib.machine_launchers, name)
    from flowlib._aliases import refuse_unoffered

    refuse_unoffered(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
