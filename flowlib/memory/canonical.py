"""Values as bytes: equal bytes for equal values in any process, on any day; different bytes for different ones.

Pure.  A key that came from ``repr``, ``id``, ``hash`` or pickle would differ between two runs that mean the same, or
agree where they do not; so each type that counts is taken apart here by what it holds.  What cannot be is refused with
the way to it from the call, because a wrong key gives a wrong result much later.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import types
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

from flowlib.errors import UnkeyableError

Out = list[bytes]
Hook = Callable[[Any], bytes | None]
"""Takes a value of a type that is not known here; gives its bytes, or None if it does not know it either."""

_LONG = 4096
_SHOWN = 12


class Canon:
    """Encodes values.

    Args:
        hooks: Asked in turn about values of other types.

    Example:
        >>> Canon().digest({"a": 1, "b": {2, 3}}) == Canon().digest({"b": {3, 2}, "a": 1})
        True
        >>> Canon().digest(1) == Canon().digest(True)
        False
    """

    __slots__ = ("_active", "_hooks")

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = tuple(hooks)
        self._active: dict[int, int] = {}

    def digest(self, value: Any, name: str = "value") -> bytes:
        """32 bytes that stand for a value.

        Args:
            value: The value.
            name: What it is called in messages.

        Raises:
            UnkeyableError: Something in it has no key.
        """
        out: Out = []
        self.encode(value, out, name)
        return hashlib.sha256(b"".join(out)).digest()

    def encode(self, value: Any, out: Out, name: str) -> None:
        """Append the bytes of a value; see ``digest``."""
        plain = _PLAIN.get(type(value))
        if plain is not None:
            out.append(plain(value))
            return
        try:
            self._add(value, out)
        except _Refused as e:
            where = [name, *reversed(e.steps)]
            if len(where) > _SHOWN:
                where = [*where[: _SHOWN // 2], " ... ", *where[-_SHOWN // 2 :]]
            raise UnkeyableError("".join(where), e.what) from e.__cause__
        except RecursionError:
            raise UnkeyableError(name, "is nested too deeply") from None
        finally:
            if self._active:
                self._active.clear()

    # ----------------------------------------------------------------------------------------------- by kind

    def _add(self, value: Any, out: Out) -> None:
        kind = type(value)
        plain = _PLAIN.get(kind)
        if plain is not None:
            out.append(plain(value))
            return
        known = _KINDS.get(kind)
        if known is not None:
            known(self, value, out)
            return
        for hook in self._hooks:
            made = hook(value)
            if made is not None:
                out.append(_framed(b"h", _name(kind), made))
                return
        self._other(value, kind, out)

    def _other(self, value: Any, kind: type, out: Out) -> None:
        if isinstance(value, enum.Enum):
            out.append(_framed(b"e", _name(kind), str(value.name).encode()))
            if isinstance(value, enum.Flag):
                self._add(value.value, out)
        elif isinstance(value, type):
            out.append(_framed(b"t", _name(value)))
        elif isinstance(value, tuple) and hasattr(kind, "_fields"):
            self._sequence(value, out, b"n" + _name(kind), kind._fields)
        elif is_dataclass(value):
            self._dataclass(value, kind, out)
        elif isinstance(value, functools.partial):
            out.append(b"p")
            for part in ("func", "args", "keywords"):
                self._step(getattr(value, part), out, f".{part}")
        elif isinstance(value, types.MethodType):
            out.append(b"m")
            self._step(value.__func__, out, ".__func__")
            self._step(value.__self__, out, ".__self__")
        elif isinstance(value, tzinfo):
            out.append(_framed(b"z", _name(kind), str(value).encode()))
        else:
            self._foreign(value, kind, out)

    def _foreign(self, value: Any, kind: type, out: Out) -> None:
        top = kind.__module__.partition(".")[0]
        if top == "numpy":
            from flowlib.memory import arrays

            parts = arrays.parts_of_numpy(value)
        elif top == "pandas":
            from flowlib.memory import arrays

            parts = arrays.parts_of_pandas(value)
        else:
            parts = None
        if parts is None:
            raise _Refused(f"is of type {kind.__module__}.{kind.__qualname__}, which has no key")
        out.append(_framed(b"x", _name(kind)))
        for name, part in parts:
            if isinstance(part, memoryview):
                out.append(buffer(b"y", part))
            else:
                self._step(part, out, name)

    def _step(self, value: Any, out: Out, step: str) -> None:
        try:
            self._add(value, out)
        except _Refused as e:
            e.steps.append(step)
            raise

    def _enter(self, value: Any, out: Out) -> bool:
        """Note that a container is being walked; False, and a mark in its place, if it holds itself."""
        key = id(value)
        active = self._active
        if key in active:
            out.append(b"@%d;" % active[key])
            return False
        active[key] = len(active)
        return True

    def _sequence(self, value: Any, out: Out, tag: bytes, names: tuple[str, ...] | None = None) -> None:
        if not self._enter(value, out):
            return
        out.append(b"%b%d[" % (tag, len(value)))
        plain_of, i = _PLAIN.get, 0
        try:
            for i, item in enumerate(value):  # noqa: B007  # used where one is refused
                plain = plain_of(type(item))
                if plain is not None:
                    out.append(plain(item))
                else:
                    self._add(item, out)
        except _Refused as e:
            e.steps.append(f"[{i}]" if names is None else f".{names[i]}")
            raise
        del self._active[id(value)]

    def _dataclass(self, value: Any, kind: type, out: Out) -> None:
        if not self._enter(value, out):
            return
        out.append(_framed(b"d", _name(kind)))
        for field in fields(value):
            out.append(field.name.encode() + b"=")
            self._step(getattr(value, field.name, None), out, f".{field.name}")
        del self._active[id(value)]

    def _set(self, value: Any, out: Out, tag: bytes) -> None:
        found: list[bytes] = []
        for item in value:
            part: Out = []
            self._step(item, part, "{...}")
            found.append(b"".join(part))
        found.sort()
        out.append(b"%b%d{" % (tag, len(found)))
        out.extend(found)

    def _dict(self, value: Any, out: Out, tag: bytes, ordered: bool = False) -> None:
        if not self._enter(value, out):
            return
        pairs: list[bytes] = []
        for key, item in value.items():
            part: Out = []
            self._step(key, part, " (a key)")
            plain = _PLAIN.get(type(item))
            if plain is not None:
                part.append(plain(item))
            else:
                try:
                    self._add(item, part)
                except _Refused as e:
                    e.steps.append(f"[{key!r}]" if type(key) in _PLAIN else "[...]")
                    raise
            pairs.append(b"".join(part))
        if not ordered:
            pairs.sort()
        out.append(b"%b%d{" % (tag, len(pairs)))
        out.extend(pairs)
        del self._active[id(value)]


class _Refused(Exception):  # never leaves this module
    """Something has no key; the steps to it are added on the way out."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.steps: list[str] = []


def buffer(tag: bytes, content: bytes | bytearray | memoryview) -> bytes:
    """Content as bytes that say how long it is; as its digest where it is long."""
    size = len(content) if not isinstance(content, memoryview) else content.nbytes
    if size > _LONG:
        return b"%b#%d:%b" % (tag, size, hashlib.sha256(content).digest())
    return b"%b%d:%b" % (tag, size, bytes(content))


def _framed(tag: bytes, *parts: bytes) -> bytes:
    return tag + b"".join([b"%d:%b" % (len(part), part) for part in parts])


def _name(kind: Any) -> bytes:
    return f"{kind.__module__}.{kind.__qualname__}".encode()


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    size = len(raw)
    return b"s%d:%b" % (size, raw) if size <= _LONG else buffer(b"s", raw)


def _by_repr(tag: bytes) -> Callable[[Any], bytes]:
    # Types of the standard library whose repr is their definition.
    def encode(value: Any) -> bytes:
        return _framed(tag, repr(value).encode())

    return encode


def _float(value: float) -> bytes:
    return b"f%b;" % value.hex().encode()


def _integer(value: int) -> bytes:
    # Decimal digits of huge numbers are slow, and Python refuses them.
    return b"i%d;" % value if -_BIG < value < _BIG else b"i%b;" % hex(value).encode()


_BIG = 10**300


def _moment(value: Any) -> bytes:
    zone = getattr(value, "tzinfo", None)
    name = b"" if zone is None else f"{type(zone).__qualname__} {zone}".encode()
    fold = b"1" if getattr(value, "fold", 0) else b"0"
    return _framed(b"D", type(value).__name__.encode(), value.isoformat().encode(), name, fold)


_PLAIN: dict[type, Callable[[Any], bytes]] = {
    int: _integer,
    str: _text,
    float: _float,
    bool: lambda v: b"T" if v else b"F",
    type(None): lambda _: b"N",
    bytes: lambda v: buffer(b"b", v),
    bytearray: lambda v: buffer(b"B", v),
    complex: lambda v: b"c" + _float(v.real) + _float(v.imag),
    type(Ellipsis): lambda _: b"E",
    type(NotImplemented): lambda _: b"I",
    range: _by_repr(b"R"),
    timedelta: lambda v: b"w%d,%d,%d;" % (v.days, v.seconds, v.microseconds),
    datetime: _moment,
    date: _moment,
    time: _moment,
    timezone: lambda v: _framed(b"Z", str(v).encode()),
    types.BuiltinFunctionType: lambda v: _framed(b"u", f"{getattr(v, '__module__', '')}.{v.__qualname__}".encode()),
}


def _slice(canon: Canon, value: slice, out: Out) -> None:
    canon._sequence((value.start, value.stop, value.step), out, b"S")


_KINDS: dict[type, Callable[[Canon, Any, Out], None]] = {
    list: lambda c, v, out: c._sequence(v, out, b"l"),
    tuple: lambda c, v, out: c._sequence(v, out, b"q"),
    set: lambda c, v, out: c._set(v, out, b"a"),
    frozenset: lambda c, v, out: c._set(v, out, b"A"),
    dict: lambda c, v, out: c._dict(v, out, b"k"),
    types.MappingProxyType: lambda c, v, out: c._dict(v, out, b"K"),
    types.SimpleNamespace: lambda c, v, out: c._dict(vars(v), out, b"v"),
    slice: _slice,
    memoryview: lambda c, v, out: out.append(buffer(b"M", v.tobytes())),
}


def _late() -> None:
    """Types of modules that are imported anyway, or cheap."""
    from array import array
    from collections import Counter, OrderedDict, defaultdict, deque
    from decimal import Decimal
    from fractions import Fraction
    from uuid import UUID

    _PLAIN[Decimal] = lambda v: _framed(b"1", str(v).encode())
    _PLAIN[Fraction] = lambda v: _framed(b"2", str(v).encode())
    _PLAIN[UUID] = lambda v: _framed(b"3", v.bytes)
    _PLAIN[array] = lambda v: _framed(b"4", v.typecode.encode(), buffer(b"b", v.tobytes()))
    _KINDS[Counter] = lambda c, v, out: c._dict(v, out, b"5")
    _KINDS[OrderedDict] = lambda c, v, out: c._dict(v, out, b"6", ordered=True)
    _KINDS[deque] = lambda c, v, out: c._sequence(v, out, b"7%d," % (-1 if v.maxlen is None else v.maxlen))

    def default(canon: Canon, value: Any, out: Out) -> None:
        canon._step(value.default_factory, out, ".default_factory")
        canon._dict(value, out, b"8")

    _KINDS[defaultdict] = default


_late()
