"""What a function does, as bytes: its own code and that of the project which it reaches.

A remembered value is wrong when any function that made it has changed, so a function's key covers the functions,
classes and constants that it mentions, and what those mention, as far as they are the project's own.  Of installed
packages the version counts.  What the interpreter made of the source is taken, not its text: comments, docstrings and
formatting are gone from that, it is what really runs (in a notebook, too), and there is no file to be out of step with.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
import types
from typing import Any

from flowlib.errors import UnkeyableError
from flowlib.memory.canonical import Canon

Components = dict[str, bytes]
"""A short digest of each function, class and constant, by name."""

_SHORT = 8


def components_of(func: Any, canon: Canon) -> Components:
    """What a function reaches, itself included.

    Args:
        func: A function, class, or anything callable.
        canon: Makes the bytes of constants.

    Example:
        >>> def area(r):
        ...     return PI * r * r
        >>> components_of(area, Canon())  # doctest: +SKIP
        {'__main__.area': b'...', '__main__.PI': b'...'}
    """
    walk = _Walk(canon)
    walk.visit(label(func), func)
    return walk.found


def combined(components: Components) -> bytes:
    """32 bytes for all components."""
    pairs = sorted(components.items())
    return hashlib.sha256(b"".join([b"%d:%b%b" % (len(k), k.encode(), v) for k, v in pairs])).digest()


def label(obj: Any) -> str:
    """A function's module and name."""
    return f"{getattr(obj, '__module__', None) or ''}.{getattr(obj, '__qualname__', type(obj).__qualname__)}"


class _Walk:
    """One walk along what functions mention."""

    def __init__(self, canon: Canon) -> None:
        self.found: Components = {}
        self._canon = canon
        self._seen: set[int] = set()

    def visit(self, name: str, value: Any) -> None:
        """Note what ``value``, found under ``name``, does, and what it reaches."""
        if isinstance(value, types.ModuleType):
            self._package(value.__name__)
            return
        inner = _unwrapped(value)
        if inner is not None:
            self.visit(label(inner), inner)
            if not isinstance(value, types.FunctionType):
                return
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, (types.FunctionType, type)):
            self._definition(value)
        elif isinstance(value, property):
            for part in (value.fget, value.fset, value.fdel):
                if part is not None:
                    self.visit(name, part)
        elif isinstance(value, functools.partial):
            self.visit(label(value.func), value.func)
            self._constant(name, (value.args, value.keywords))
        elif isinstance(value, types.MethodType):
            self.visit(label(value.__func__), value.__func__)
            self._constant(name, value.__self__)
        else:
            self._constant(name, value)

    def _definition(self, value: Any) -> None:
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        module = getattr(value, "__module__", None) or ""
        if not is_of_project(module):
            self._package(module)
        elif isinstance(value, type):
            self._class(value)
        else:
            self._function(value)

    def _function(self, func: types.FunctionType) -> None:
        code = func.__code__
        digest = hashlib.sha256(_code(code, func.__doc__))
        for default in (*(func.__defaults__ or ()), *sorted((func.__kwdefaults__ or {}).items())):
            digest.update(self._weak(default))
        name = label(func)
        self._note(name, digest.digest())
        for variable, cell in zip(code.co_freevars, func.__closure__ or (), strict=False):
            try:
                value = cell.cell_contents
            except ValueError:
                # Not filled yet: a function that is defined further down.
                continue
            if variable != "__class__":
                self.visit(f"{name}.{variable}", value)
        mentioned = _names(code)
        for variable in sorted(mentioned):
            if variable in func.__globals__:
                self._reach(func.__globals__["__name__"], variable, func.__globals__[variable], mentioned)

    def _reach(self, module: str, variable: str, value: Any, mentioned: set[str]) -> None:
        if isinstance(value, types.ModuleType) and is_of_project(value.__name__):
            # Its attributes are among the names; which of them are meant is not known, and one too many does no harm.
            for attribute in sorted(mentioned & vars(value).keys()):
                part = vars(value)[attribute]
                if id(part) not in self._seen or not isinstance(part, types.ModuleType):
                    if isinstance(part, types.ModuleType):
                        self._seen.add(id(part))
                    self._reach(value.__name__, attribute, part, mentioned)
            return
        self.visit(f"{module}.{variable}", value)

    def _class(self, cls: type) -> None:
        name = label(cls)
        self._note(name, ",".join(label(base) for base in cls.__bases__).encode())
        for base in cls.__bases__:
            if base is not object:
                self._definition(base)
        for attribute, value in vars(cls).items():
            if attribute in _PLUMBING or isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
                continue
            self.visit(f"{name}.{attribute}", value)

    def _constant(self, name: str, value: Any) -> None:
        kind = type(value)
        if id(value) in self._seen and not isinstance(value, (int, str, float, bytes)):
            return
        self._note(name, self._weak(value))
        if is_of_project(kind.__module__):
            self._definition(kind)

    def _weak(self, value: Any) -> bytes:
        """The bytes of something that code mentions; of its type only, where it has none (a logger, a lock)."""
        if isinstance(value, types.FunctionType):
            self._definition(value)
            return label(value).encode()
        try:
            return self._canon.digest(value)
        except UnkeyableError:
            return label(type(value)).encode()

    def _package(self, module: str) -> None:
        top = module.partition(".")[0]
        if top and top != "flowlib" and top not in sys.stdlib_module_names and top != "__main__":
            self.found[f"package {top}"] = version_of(top).encode()

    def _note(self, name: str, content: bytes) -> None:
        # Two lambdas of one line have the same name.
        before = self.found.get(name, b"")
        self.found[name] = hashlib.sha256(before + content).digest()[:_SHORT]


_PLUMBING = frozenset(
    {
        *("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__annotations__", "__slots__"),
        *("__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
        *("__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__", "__match_args__", "__hash__"),
        *("__dataclass_params__", "__conditional_annotations__"),
    }
)


def _unwrapped(value: Any) -> Any:
    """What an app or a wrapping function is made around; None for anything else."""
    kind = type(value)
    # The module is asked first: mocks and futures answer yes to any attribute.
    if kind.__module__.startswith("flowlib.app") and hasattr(value, "func") and hasattr(value, "target"):
        return value.func
    if isinstance(value, types.FunctionType) or kind.__module__ == "functools":
        return getattr(value, "__wrapped__", None)
    return None


def _names(code: types.CodeType) -> set[str]:
    """Names that a function mentions, the functions inside it included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _code(code: types.CodeType, doc: str | None) -> bytes:
    """What a function does, without where it stands and what its docstring says."""
    constants = list(code.co_consts)
    if doc is not None and constants and constants[0] == doc:
        constants[0] = None
    parts = [
        code.co_code,
        repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags & 0xFF)).encode(),
        repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)).encode(),
        getattr(code, "co_exceptiontable", b""),
    ]
    for constant in constants:
        if isinstance(constant, types.CodeType):
            first = constant.co_consts[0] if constant.co_consts else None
            # The docstring of a function inside: what it is cannot be told from here, but a text that nothing else
            # than a docstring would be stands first.
            inner = first if isinstance(first, str) and constant.co_flags & 0x4000000 else None
            parts.append(_code(constant, inner))
        else:
            parts.append(_constant(constant))
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def _constant(value: Any) -> bytes:
    if isinstance(value, frozenset):
        return b"{" + b",".join(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return b"(" + b",".join(map(_constant, value))
    return f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")


@functools.cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@functools.cache
def is_of_project(module: str) -> bool:
    """Whether a module is the project's own: neither Python's nor installed, nor flowlib."""
    if module in ("__main__", "__mp_main__"):
        return True
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "flowlib" or module not in sys.modules:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        # Made by hand, in a notebook say; what comes from an extension has a file or a parent with one.
        return getattr(sys.modules[module], "__spec__", None) is None
    if "/site-packages/" in file or "/dist-packages/" in file:
        return False
    return not file.startswith(_installed())


@functools.cache
def version_of(package: str) -> str:
    """The version of an installed package, by its import name; "" if it has none."""
    from importlib import metadata

    declared = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(declared, str):
        return declared
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
