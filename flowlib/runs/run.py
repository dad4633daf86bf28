"""``flowlib run``: runs a script, unchanged, on a machine that is chosen outside of it."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from flowlib.configs import build
from flowlib.errors import ConfigurationError
from flowlib.launchers import Launcher
from flowlib.sites.command import choices, print_json
from flowlib.sites.environment import variables

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def run(options: argparse.Namespace) -> int:
    """Carry the command out; unless a job is submitted, this process becomes the script's.

    Args:
        options: As parsed by ``flowlib.cli``.

    Returns:
        Exit code.

    Raises:
        ConfigurationError: There is no such script or site, or the site does not allow these choices.
        SubmitException: The scheduler refused the job.
    """
    chosen, words = split(options.rest)
    made = choices(chosen)
    script, arguments = (words[0], words[1:]) if words else ("", [])
    if not script:
        raise ConfigurationError("say which script: flowlib run --site NAME --account=abc123 script.py ARGUMENTS")
    if not os.path.isfile(script):
        raise ConfigurationError(f"there is no script {script!r} in {os.getcwd()}")
    # Before the script starts, which may work for an hour until it loads.
    config = build(options.site, **made)
    if not options.driver_in_job:
        if options.json:
            raise ConfigurationError("--json goes with --driver-in-job: otherwise the output is the script's own")
        sys.stdout.flush()
        environment = {**os.environ, **variables(options.site, made)}
        os.execve(sys.executable, [sys.executable, script, *arguments], environment)
    return _submit(config, options, made, [os.path.abspath(script), *arguments])


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What belongs to the site, and what to the script.

    Args:
        words: ``--name=value`` or ``name=value`` for the site, then the script and all that follows.

    Example:
        >>> split(["--account=abc", "nodes=4", "script.py", "--verbose", "a=b"])
        (['account=abc', 'nodes=4'], ['script.py', '--verbose', 'a=b'])
        >>> split(["--max-blocks=2", "script.py"])
        (['max_blocks=2'], ['script.py'])
    """
    for place, word in enumerate(words):
        name, equals, _ = word.removeprefix("--").partition("=")
        if word == "--":
            return _named(words[:place]), list(words[place + 1 :])
        if not equals or not name.replace("-", "_").isidentifier():
            if word.startswith("-"):
                raise ConfigurationError(f"{word!r} is no choice; write {word}=value, before the script's name")
            return _named(words[:place]), list(words[place:])
    return _named(words), []


def _named(words: Sequence[str]) -> list[str]:
    parts = [word.removeprefix("--").partition("=") for word in words]
    return [f"{name.replace('-', '_')}={value}" for name, _, value in parts]


class _Once(Launcher):
    """Runs the driver on the first node, which starts the managers on all of them itself."""

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The command itself; see ``Launcher``."""
        return command


def _submit(config: Any, options: argparse.Namespace, made: dict[str, Any], command: list[str]) -> int:
    from flowlib.providers.batch import BatchProvider

    provider = getattr(config.executors[0], "provider", None)
    if not isinstance(provider, BatchProvider):
        raise ConfigurationError(
            f"site {options.site!r} has no batch scheduler that could run the driver: leave --driver-in-job out"
        )
    if provider.tunnel:
        raise ConfigurationError("the driver's job is submitted on the login node: log in there and run this again")
    provider.launcher = _Once()
    provider.script_dir = os.path.abspath(os.path.join("runinfo", "driver_jobs"))
    settings = [f"{name}={value}" for name, value in variables(options.site, made, in_job=True).items()]
    line = f"cd {shlex.quote(os.getcwd())} && {shlex.join(['env', *settings, sys.executable, '-u', *command])}"
    stem = os.path.splitext(os.path.basename(command[0]))[0]
    job = provider.submit(line, 1, f"flowlib.driver.{stem}")
    known = provider.resources[job]
    status: Any = known["status"]
    if options.json:
        print_json({"job": job, "name": known["job_name"], "script": status.script_path, "output": status.stdout_path})
    else:
        sys.stdout.write(
            f"{provider.label} job {job} ({known['job_name']}) runs the script\n"
            f"output: {status.stdout_path}\nerrors: {status.stderr_path}\n"
            "when it has begun, `flowlib ps` shows its run\n"
        )
    return 0
