"""The receiving side of what travels by value: each function here is named in pickles and rebuilds one kind of thing.

Whatever can refer to itself (a function through its globals, a class through its methods) is made empty first and
filled afterwards; pickle remembers it in between, so that circles close.
"""

from __future__ import annotations

import builtins
import importlib
import marshal
import pickle
import sys
import threading
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType, WrapperDescriptorType
from typing import Any

from flowlib.serialize import importable, known

# ------------------------------------------------------------------------------------------------------ references


def unwrapped(module: str, qualname: str, steps: int) -> Any:
    """What stands at ``module.qualname``, unwrapped ``steps`` times (once: the function of an app)."""
    importlib.import_module(module)
    found = importable.find(module, qualname)
    if found is importable.MISSING:
        raise AttributeError(f"module {module!r} has no {qualname!r} here")
    for _ in range(steps):
        # A module that is not decorated here (an older copy, say) has the function itself.
        inner = importable.unwrap(found)
        found = found if inner is None else inner
    return found


def module(name: str) -> ModuleType:
    """An importable module."""
    return importlib.import_module(name)


def main_module() -> ModuleType:
    """The ``__main__`` of this process."""
    return sys.modules["__main__"]


def same(value: Any) -> Any:
    """The value itself."""
    return value


def known_object(token: str, module_name: str, qualname: str) -> Any:
    """What the receiver has under this token, or else under this name.

    Raises:
        AttributeError: It has neither.
    """
    found = known.find_object(token)
    if found is not None:
        return found
    if module_name != "__main__":
        importlib.import_module(module_name)
    found = importable.find(module_name, qualname)
    if found is importable.MISSING:
        raise AttributeError(f"{module_name}.{qualname} is not defined in this process")
    return found


# ------------------------------------------------------------------------------------------------------- functions

_functions: dict[str, Any] = {}
_FUNCTIONS_LIMIT = 512


def load_function(digest: str, body: bytes) -> Any:
    """A function sent within data; equal bodies give one function."""
    found = _functions.get(digest)
    if found is None:
        found = pickle.loads(body)
        if len(_functions) >= _FUNCTIONS_LIMIT:
            _functions.pop(next(iter(_functions)), None)
        _functions[digest] = found
    return found


def make_code(body: bytes) -> CodeType:
    """A code object; sender and receiver run the same minor version of Python."""
    code: CodeType = marshal.loads(body)
    return code


def make_namespace(name: str) -> dict[str, Any]:
    """The globals of the functions of one module that travel together."""
    return {"__name__": name, "__builtins__": builtins}


def make_cell() -> CellType:
    """An empty closure cell."""
    return CellType()


def make_function(
    code: CodeType, namespace: dict[str, Any], name: str, cells: tuple[CellType, ...] | None
) -> FunctionType:
    """A function without its state."""
    return FunctionType(code, namespace, name, None, cells)


def fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    """Give a function its state."""
    used, contents, defaults, kwdefaults, annotations, attributes, names, submodules = state
    for name in submodules:
        importlib.import_module(name)
    function.__globals__.update(used)
    for cell, value in contents:
        cell.cell_contents = value
    function.__defaults__ = defaults
    function.__kwdefaults__ = kwdefaults
    if annotations is not None:
        setattr(function, *annotations)
    if attributes:
        function.__dict__.update(attributes)
    function.__qualname__, function.__module__, function.__doc__ = names


def make_method(function: Any, owner: Any) -> MethodType:
    """A bound method."""
    return MethodType(function, owner)


def make_lru_cache(function: Any, maxsize: int | None, typed: bool) -> Any:
    """A function with an empty cache of results."""
    from functools import lru_cache

    return lru_cache(maxsize, typed)(function)


def make_cached_property(function: Any, name: str | None) -> Any:
    """A ``functools.cached_property``, which cannot be pickled where it holds a lock."""
    from functools import cached_property

    made: Any = cached_property(function)
    made.attrname = name
    return made


def make_mappingproxy(content: dict[Any, Any]) -> Any:
    """A read-only view of a dict."""
    return MappingProxyType(content)


def make_view(content: dict[Any, Any], kind: str) -> Any:
    """A view of a dict: "keys", "values" or "items"."""
    return getattr(content, kind)()


def make_property(getter: Any, setter: Any, deleter: Any, doc: str | None) -> property:
    """A property."""
    return property(getter, setter, deleter, doc)


def make_exception(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """An exception with these ``args`` and attributes, whatever arguments its ``__init__`` asks for."""
    error = kind.__new__(kind, *args)
    for base in kind.__mro__:
        initialise = vars(base).get("__init__")
        if isinstance(initialise, WrapperDescriptorType):
            # Built-in exceptions keep more than ``args`` (errno, name, code ...), which this derives from them.
            initialise(error, *args)
            break
    vars(error).update(state)
    return error


# --------------------------------------------------------------------------------------------------------- classes

_digests: dict[str, str] = {}
_unfilled: set[str] = set()
_redefining = ""
_lock = threading.RLock()


def load_class(token: str, digest: str, body: bytes) -> Any:
    """A class sent within data: rebuilt once, and again in place when the original has changed since."""
    global _redefining
    found = known.find_object(token)
    if found is not None and (known.is_ours(token) or _digests.get(token) == digest):
        return found
    with _lock:
        before, _redefining = _redefining, token
        try:
            found = pickle.loads(body)
        finally:
            _redefining = before
        _digests[token] = digest
    return found


def make_class(token: str, meta: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
    """A class without its attributes, or the one that already has this token."""
    found = known.find_object(token)
    if found is not None:
        return found
    # The class is put back as it was, not defined anew: what its metaclass did at definition is in its attributes.
    maker = next(m for m in meta.__mro__ if "__new__" in vars(m) and not isinstance(vars(m)["__new__"], staticmethod))
    cls = maker.__new__(meta, name, bases, namespace)
    if "abc" in sys.modules and isinstance(cls, sys.modules["abc"].ABCMeta):
        # What ABCMeta.__new__ does after making the class.
        importlib.import_module("_abc")._abc_init(cls)
    return _settle(token, cls)


def make_enum(
    token: str, meta: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any], members: dict[str, Any]
) -> Any:
    """An enumeration with its members; methods follow with its attributes."""
    found = known.find_object(token)
    if found is not None:
        return found
    body = meta.__prepare__(name, bases)
    for key, value in [*namespace.items(), *members.items()]:
        body[key] = value
    return _settle(token, meta(name, bases, body))


def _settle(token: str, cls: Any) -> Any:
    known.remember(token, cls)
    _unfilled.add(token)
    if cls.__module__ == "__main__" and "." not in cls.__qualname__:
        # So that code which pickles by itself finds it. A class that this process defines itself stays.
        main = sys.modules["__main__"]
        there = getattr(main, cls.__qualname__, None)
        if there is None or known.find_token(there) not in (None, token):
            setattr(main, cls.__qualname__, cls)
    return cls


def fill_class(cls: Any, state: tuple[str, dict[str, Any], dict[str, dict[str, Any]]]) -> None:
    """Give a class its attributes, unless it has them."""
    token, attributes, members = state
    if token not in _unfilled and token != _redefining:
        return
    for name, value in attributes.items():
        type.__setattr__(cls, name, value)
    for name, extra in members.items():
        cls.__members__[name].__dict__.update(extra)
    _unfilled.discard(token)


def make_type_variable(token: str, kind: str, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A type variable, ``ParamSpec`` or ``NewType`` of ``typing``."""
    import typing

    found = known.find_object(token)
    if found is None:
        found = getattr(typing, kind)(name, *arguments, **options)
        known.remember(token, found)
    return found


# ------------------------------------------------------------------------------------------------- pickled results


def load_value(payload: bytes, definitions: list[Any]) -> Any:
    """A value that travels in the form in which its worker pickled it; ``definitions`` are the classes it needs."""
    from flowlib.serialize import plugins

    return plugins.load(payload)


def load_object(key: bytes) -> Any:
    """The value of a stored object."""
    from flowlib.store.shelf import load_object

    return load_object(key)
