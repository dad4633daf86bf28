"""The one rule that decides how a function or class travels: by reference if another process can import it.

A module counts as importable if the import system, asked afresh, finds it where it was loaded from.  ``__main__``,
notebooks, modules made by ``exec`` and modules whose directory is no longer on ``sys.path`` are not, and what they
define travels by value.  No pickling is tried to find out.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_answers: dict[str, bool] = {}
_forced: set[str] = set()

MISSING: Any = object()
"""What ``find`` returns when there is nothing of that name."""


def send_by_value(module: str | ModuleType) -> None:
    """Treat a module, and those below it, as one that workers cannot import.

    Args:
        module: A module or its name, for example one beside the script that compute nodes do not see.

    Example:
        >>> send_by_value("my_helpers")
        >>> importable("my_helpers")
        False
    """
    _forced.add(module if isinstance(module, str) else module.__name__)
    _answers.clear()


def importable(name: str) -> bool:
    """Whether another Python process with the same ``sys.path`` can import the module ``name``, as it is here."""
    answer = _answers.get(name)
    if answer is None:
        answer = _look(name)
        # A module that is still being set up may be asked about too early; only what is loaded has a lasting answer.
        if name in sys.modules:
            _answers[name] = answer
    return answer


def _look(name: str) -> bool:
    if name == "__main__" or name == "__mp_main__" or name in _forced:
        return False
    module = sys.modules.get(name)
    if module is None:
        return False
    if name in sys.builtin_module_names:
        return True
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        if not importable(parent):
            return False
        path = getattr(sys.modules.get(parent), "__path__", None)
        if path is None:
            # Its parent is no package, so importing the parent is what makes it (C extensions do this).
            return True
    spec: ModuleSpec | None = getattr(module, "__spec__", None)
    found = _find_spec(name, path)
    if found is None:
        return bool(parent) and spec is None
    if spec is None:
        return False
    return _same_place(spec.origin, found.origin)


def _find_spec(name: str, path: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec: ModuleSpec | None = find(name, path) if find is not None else None
        except (ImportError, ValueError, AttributeError):
            # Finders are other people's code; one that cannot answer has not found it.
            continue
        if spec is not None:
            return spec
    return None


def _same_place(loaded: str | None, found: str | None) -> bool:
    if loaded == found or loaded is None or found is None:
        return True
    try:
        return os.path.samefile(loaded, found)
    except OSError:
        return False


def find(module: str, qualname: str) -> Any:
    """The object that is reachable as ``module.qualname`` now, or ``MISSING``."""
    found: Any = sys.modules.get(module, MISSING)
    if found is MISSING or "<" in qualname:
        return MISSING
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            return MISSING
    return found


def is_app(obj: Any) -> bool:
    """Whether ``obj`` is an app, which stands in its module where its function stood."""
    # The module is asked first: other objects (futures, mocks) answer yes to any attribute.
    return type(obj).__module__.startswith("flowlib.app") and hasattr(obj, "func") and hasattr(obj, "target")


def unwrap(obj: Any) -> Any:
    """What an app or a wrapping function is made around; None for anything else."""
    if is_app(obj):
        return obj.func
    return getattr(obj, "__wrapped__", None) if callable(obj) else None


def reference(obj: Any) -> int:
    """How ``obj``, a function, is reached by reference.

    Returns:
        -1 if it must travel by value; otherwise how many times what stands at ``module.qualname`` has to be
        unwrapped: 0 for the thing itself, 1 for the function of an app.
    """
    module = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None)
    if type(module) is not str or type(qualname) is not str or not importable(module):
        return -1
    found = find(module, qualname)
    for steps in range(16):
        if found is obj:
            return steps
        if found is MISSING or found is None:
            break
        found = unwrap(found)
    return -1
