"""Reaching other machines by SSH: connections, tunnels back home, and what goes wrong with them in plain words.

``flowlib.providers.SSHProvider`` starts blocks on hosts with it; ``SSHTransport`` runs a batch system's commands on a
login node.  All of it needs paramiko, the extra ``[ssh]``, which is imported when the first connection is made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowlib.ssh.transport import SSHTransport as SSHTransport

__all__ = ["SSHTransport"]

_HOMES = {"SSHTransport": "flowlib.ssh.transport"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
