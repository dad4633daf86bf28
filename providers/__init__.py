"""Providers start blocks of workers on one kind of machine. Each is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowlib.providers.base import ExecutionProvider as ExecutionProvider
    from flowlib.providers.local import LocalProvider as LocalProvider

__all__ = ["ExecutionProvider", "LocalProvider"]

_HOMES = {
    "ExecutionProvider": "flowlib.providers.base",
    "LocalProvider": "flowlib.providers.local",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        from flowlib._aliases import refuse_unoffered, submodules

        refuse_unoffered(name)
        return submodules(__name__)(name)
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
