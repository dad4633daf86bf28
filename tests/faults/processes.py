"""Finding the processes of a loaded kernel, by what they run and whose descendants they are."""

from __future__ import annotations

import psutil

MODULES = {
    "interchange": "flowlib.executors.high_throughput.interchange",
    "manager": "flowlib.executors.high_throughput.manager",
    "template": "flowlib.executors.high_throughput.template",
}


def find(kind: str) -> list[psutil.Process]:
    """The live interchanges, managers, templates or workers among this process's descendants.

    Args:
        kind: "interchange", "manager", "template" or "worker"; workers are the children of templates.
    """
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            arguments = process.cmdline()
            if kind == "worker":
                parent = process.parent()
                if parent is not None and MODULES["template"] in parent.cmdline():
                    found.append(process)
            elif MODULES[kind] in arguments and not (kind == "template" and _is_worker(process)):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _is_worker(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and MODULES["template"] in parent.cmdline()
