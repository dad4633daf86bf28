"""The command that starts a block's manager, and the files it needs.

The command is one plain word after another, ``sh DIRECTORY/manager.sh``, so that any launcher can wrap it, and holds
no secret.  The script chooses the Python and lets it find flowlib; everything else is in the block's private file.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from typing import Any

from flowlib.executors.high_throughput import safe_path
from flowlib.executors.high_throughput.keys import BLOCK_FILE

SCRIPT = "manager.sh"

FIELDS = ("block_id", "logdir", "debug", "python")
"""Fields of a ``launch_cmd`` beside ``{command}`` and ``{blockfile}``."""

MODULE = "flowlib.executors.high_throughput.manager"


def package_root() -> str:
    """The directory that holds the flowlib package."""
    import flowlib

    return os.path.dirname(os.path.dirname(os.path.abspath(flowlib.__file__ or "")))


def extra_path() -> str:
    """The directory that another Python must be told of to import flowlib; "" if flowlib is installed.

    An installed one is not put on PYTHONPATH, which comes before the standard library.
    """
    root = package_root()
    return "" if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) else root


def child_environment() -> dict[str, str]:
    """The environment of a child of this process that runs a module of flowlib."""
    environment = dict(os.environ)
    root = extra_path()
    if root:
        rest = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{rest}" if rest else root
    return environment


def manager_script(worker_python: str | None, worker_init: str, found: str = "") -> bytes:
    """The script that becomes a manager; it takes the block file from its own directory.

    Args:
        worker_python: The Python to use; None to choose.
        worker_init: What ran before it, in the same shell or in one around it. If that changed which ``python3`` is
            on PATH, it is this one that is meant; otherwise the driver's own.
        found: A shell word for the Python, where the provider has looked for one itself; comes before all.
    """
    lines = ["#!/bin/sh"]
    root = extra_path()
    if root:
        # On a machine that has no such directory, another flowlib is meant, or none.
        export = f'export PYTHONPATH={shlex.quote(root)}"${{PYTHONPATH:+:$PYTHONPATH}}"'
        lines.append(f"if [ -d {shlex.quote(root)} ]; then {export}; fi" if found else export)
    ours = shlex.quote(sys.executable or "python3")
    if found:
        lines.append(f"python={found}")
    elif worker_python:
        lines.append(f"python={shlex.quote(worker_python)}")
    elif worker_init.strip():
        before = shlex.quote(shutil.which("python3") or "")
        lines.append("python=$(command -v python3)")
        lines.append(f'if [ -z "$python" ] || [ "$python" = {before} ]; then python={ours}; fi')
    else:
        lines.append(f"python={ours}")
    lines.append(f": ${{{safe_path.VARIABLE}:={safe_path.OURS}}}; export {safe_path.VARIABLE}")
    lines.append(f'exec "$python" -m {MODULE} "${{0%/*}}/{BLOCK_FILE}"')
    return ("\n".join(lines) + "\n").encode()


def launch_command(directory: str, template: str | None, values: dict[str, Any]) -> str:
    """The command line for a provider.

    Args:
        directory: Where ``SCRIPT`` and the block file are, as the job sees it; may contain shell variables.
        template: The user's ``launch_cmd``; its fields are ``{command}``, ``{blockfile}`` and those of ``values``.
        values: More fields.

    Raises:
        KeyError: The template has a field that there is not.
    """
    command = f"sh {_quote(directory)}/{SCRIPT}"
    if template is None:
        return command
    return template.format(command=command, blockfile=f"{_quote(directory)}/{BLOCK_FILE}", **values)


def _quote(directory: str) -> str:
    return directory if shlex.quote(directory) == directory else f'"{directory}"'
