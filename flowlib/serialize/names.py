"""Which globals a function uses, read from its bytecode: only those travel with it."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any

from flowlib.serialize.importable import importable

_GLOBAL = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


@lru_cache(maxsize=2048)
def global_names(code: CodeType) -> tuple[str, ...]:
    """Names of the globals that ``code``, or code inside it, reads or writes, in order of appearance."""
    import dis

    names = {i.argval: None for i in dis.get_instructions(code) if i.opname in _GLOBAL}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(dict.fromkeys(global_names(constant)))
    return tuple(names)


@lru_cache(maxsize=2048)
def _attribute_names(code: CodeType) -> frozenset[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _attribute_names(constant)
    return frozenset(names)


def used_globals(code: CodeType, namespace: dict[str, Any]) -> dict[str, Any]:
    """The globals that ``code`` uses and that exist, except built-in ones."""
    return {n: namespace[n] for n in global_names(code) if n in namespace and n != "__builtins__"}


def used_submodules(code: CodeType, used: dict[str, Any]) -> list[str]:
    """Modules that must be imported although no global names them.

    After ``import scipy.stats`` a function says ``scipy.stats.norm``, but its global is ``scipy``, and importing that
    alone does not import ``scipy.stats``.
    """
    packages = [v.__name__ for v in used.values() if isinstance(v, ModuleType) and hasattr(v, "__path__")]
    if not packages:
        return []
    attributes = _attribute_names(code)
    found = []
    for package in packages:
        start = package + "."
        below = [name for name in list(sys.modules) if name.startswith(start)]
        found += [n for n in below if attributes.issuperset(n[len(start) :].split(".")) and importable(n)]
    return sorted(found)
