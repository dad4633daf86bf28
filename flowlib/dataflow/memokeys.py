"""Keys of calls: equal for calls that must give equal values, different for others.

Pure.  A function counts by name, module and what it does (its code with constants, defaults and closure), not by
where it stands or how its comments read; arguments count by type and content.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import pathlib
import types
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord


def key_of(task: TaskRecord) -> str:
    """The key of a call: hexadecimal digits.

    Args:
        task: Its ``args`` and ``kwargs`` hold values.

    Raises:
        ValueError: An argument has a type that has no key.
    """
    kwargs = dict(task.kwargs)
    for name in task.options.ignore_for_cache or ():
        kwargs.pop(name, None)
    # Where a stream goes by itself does not matter to the value.
    for stream in ("stdout", "stderr"):
        if task.stream(stream) is not None and task.automatic(stream):
            kwargs.pop(stream, None)
    digest = hashlib.sha256()
    outputs = kwargs.pop("outputs", None)
    version = getattr(task.options, "version", None)
    for part in (
        b"" if outputs is None else id_for_memo(outputs, output_ref=True),
        id_for_memo(kwargs),
        id_for_memo(task.app.func) if version is None else _name(task.app.func) + id_for_memo(version),
        id_for_memo(task.args),
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


@functools.singledispatch
def id_for_memo(obj: object, output_ref: bool = False) -> bytes:
    """The key of a value: equal bytes for equal values.

    Register a function for each type of your own: ``@id_for_memo.register(MyType)``.

    Args:
        obj: The value.
        output_ref: Whether it names an output: a file counts by where it is, then.

    Raises:
        ValueError: Its type has no key.

    Example:
        >>> id_for_memo([1, "a"]) == id_for_memo([1, "a"])
        True
        >>> id_for_memo(1) == id_for_memo(1.0)
        False
    """
    kind = type(obj)
    if is_dataclass(obj) and not isinstance(obj, type):
        return _join("dataclass", _name(kind), *(id_for_memo(getattr(obj, f.name)) for f in fields(obj)))
    # numpy's own arrays and scalars, without importing it.
    array: Any = obj
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(array, "tobytes") and hasattr(array, "dtype"):
        content = id_for_memo(array.tolist()) if array.dtype.hasobject else array.tobytes()
        return _join("array", str(array.dtype).encode(), str(getattr(array, "shape", ())).encode(), content)
    raise ValueError(
        f"unknown type for memoization: {kind.__module__}.{kind.__qualname__}; register a function that makes its key: "
        "@flowlib.dataflow.memoization.id_for_memo.register(...), or name the argument in ignore_for_cache"
    )


def _join(kind: str, *parts: Any) -> bytes:
    """One key of several, so that no two sequences of parts have the same; users' functions may give text."""
    whole = [p if isinstance(p, bytes) else str(p).encode("utf-8", "surrogatepass") for p in parts]
    return b"".join([kind.encode(), b"(", *(len(p).to_bytes(8, "big") + p for p in whole), b")"])


def _name(obj: Any) -> bytes:
    module = getattr(obj, "__module__", None) or ""
    return f"{module}.{getattr(obj, '__qualname__', type(obj).__qualname__)}".encode()


def _exact(obj: Any, *kinds: type) -> None:
    if type(obj) not in kinds:
        raise ValueError(
            f"unknown type for memoization: {type(obj).__qualname__}, a subclass of {kinds[0].__name__}; register a "
            "function that makes its key: @flowlib.dataflow.memoization.id_for_memo.register(...)"
        )


@id_for_memo.register(int)
@id_for_memo.register(float)
@id_for_memo.register(complex)
@id_for_memo.register(type(None))
@id_for_memo.register(type(Ellipsis))
def _(obj: Any, output_ref: bool = False) -> bytes:
    if isinstance(obj, enum.Enum):
        return _join("enum", _name(type(obj)), obj.name.encode())
    _exact(obj, int, bool, float, complex, type(None), type(Ellipsis))
    return _join(type(obj).__name__, repr(obj).encode())


@id_for_memo.register(str)
def _(obj: str, output_ref: bool = False) -> bytes:
    if isinstance(obj, enum.Enum):
        return _join("enum", _name(type(obj)), obj.name.encode())
    _exact(obj, str)
    return _join("str", obj.encode("utf-8", "surrogatepass"))


@id_for_memo.register(bytes)
@id_for_memo.register(bytearray)
def _(obj: Any, output_ref: bool = False) -> bytes:
    _exact(obj, bytes, bytearray)
    return _join(type(obj).__name__, bytes(obj))


@id_for_memo.register(enum.Enum)
def _(obj: enum.Enum, output_ref: bool = False) -> bytes:
    return _join("enum", _name(type(obj)), obj.name.encode())


@id_for_memo.register(date)
@id_for_memo.register(datetime)
@id_for_memo.register(time)
@id_for_memo.register(timedelta)
@id_for_memo.register(range)
@id_for_memo.register(slice)
def _(obj: Any, output_ref: bool = False) -> bytes:
    return _join(type(obj).__name__, repr(obj).encode())


@id_for_memo.register(pathlib.PurePath)
def _(obj: pathlib.PurePath, output_ref: bool = False) -> bytes:
    return _join("path", str(obj).encode("utf-8", "surrogateescape"))


@id_for_memo.register(list)
@id_for_memo.register(tuple)
def _(obj: Any, output_ref: bool = False) -> bytes:
    kind = type(obj)
    if kind not in (list, tuple) and not hasattr(kind, "_fields"):
        _exact(obj, list, tuple)
    name = kind.__name__.encode() if kind in (list, tuple) else _name(kind)
    return _join("sequence", name, *(id_for_memo(item, output_ref=output_ref) for item in obj))


@id_for_memo.register(set)
@id_for_memo.register(frozenset)
def _(obj: Any, output_ref: bool = False) -> bytes:
    _exact(obj, set, frozenset)
    return _join(type(obj).__name__, *sorted(id_for_memo(item) for item in obj))


@id_for_memo.register(dict)
def _(obj: dict[Any, Any], output_ref: bool = False) -> bytes:
    _exact(obj, dict)
    pairs = sorted((id_for_memo(k), id_for_memo(v, output_ref=output_ref)) for k, v in obj.items())
    return _join("dict", *(part for pair in pairs for part in pair))


@id_for_memo.register(type)
def _(obj: type, output_ref: bool = False) -> bytes:
    return _join("type", _name(obj))


@id_for_memo.register(types.BuiltinFunctionType)
def _(obj: Any, output_ref: bool = False) -> bytes:
    return _join("builtin", _name(obj))


@id_for_memo.register(types.MethodType)
def _(obj: types.MethodType, output_ref: bool = False) -> bytes:
    return _join("method", id_for_memo(obj.__func__), id_for_memo(obj.__self__))


@id_for_memo.register(functools.partial)
def _(obj: functools.partial[Any], output_ref: bool = False) -> bytes:
    return _join("partial", id_for_memo(obj.func), id_for_memo(obj.args), id_for_memo(obj.keywords))


@id_for_memo.register(types.FunctionType)
def _(obj: types.FunctionType, output_ref: bool = False) -> bytes:
    parts = [_name(obj), _code(obj.__code__)]
    for cell in obj.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:
            # Not filled yet: a function that is defined further down.
            continue
        parts.append(b"self" if value is obj else _weak_id(value))
    parts.extend(map(_weak_id, (*(obj.__defaults__ or ()), *(obj.__kwdefaults__ or {}).values())))
    return _join("function", *parts)


def _weak_id(value: Any) -> bytes:
    """The key of something that a function refers to; its type where there is none."""
    try:
        return id_for_memo(value)
    except (ValueError, RecursionError):
        return _name(type(value))


def _code(code: types.CodeType) -> bytes:
    """What a function does, without where it stands."""
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(_ordered(c)).encode() for c in code.co_consts]
    names = repr((code.co_names, code.co_varnames, code.co_freevars, code.co_flags)).encode()
    return _join("code", code.co_code, names, *constants)


def _ordered(constant: Any) -> Any:
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
