"""How the arguments of a call travel."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from flowlib.errors import ObjectStoreError, SerializationError
from flowlib.serialize import pickling, plugins
from flowlib.serialize.pickling import is_plain
from flowlib.serialize.values import Pickled

if TYPE_CHECKING:
    from flowlib.store.stored import Stored

_NONE = pickle.dumps(((), {}), pickling.PROTOCOL)
_dumps = pickle.dumps

APART = b"\1"
"""First byte of arguments whose large buffers are stored objects; a pickle starts otherwise."""
_KEY = 16
_PICKLE = b"\x80"


class Keeper(NamedTuple):
    """Where large arguments go.

    Attributes:
        threshold: Bytes from which on they go there.
        keep: Stores a buffer.
    """

    threshold: int
    keep: Callable[[memoryview], Stored]


class ApartCall(NamedTuple):
    """The arguments of a call, parts of which are stored objects.

    Attributes:
        payload: What goes with the task.
        objects: What has to be on its node.
    """

    payload: bytes
    objects: list[Stored]


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any], name: str = "") -> bytes:
    """Pickle the arguments of a call, all of them.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        name: The app's name, for the error.

    Raises:
        SerializationError: One of them cannot be sent; the text names it.

    Example:
        >>> load_call(dump_call((1, [2]), {"k": "v"}))
        ((1, [2]), {'k': 'v'})
    """
    call = dump_apart(args, kwargs, name, None)
    assert isinstance(call, bytes)
    return call


def dump_apart(args: tuple[Any, ...], kwargs: dict[str, Any], name: str, keeper: Keeper | None) -> bytes | ApartCall:
    """Pickle the arguments of a call; large ones are stored, and named in the pickle.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        name: The app's name, for the error.
        keeper: Where large ones go; None to have all in the pickle.

    Raises:
        SerializationError: One of them cannot be sent; the text names it.
        NoRoom: There is no room for a large one.
    """
    if not kwargs:
        if not args:
            return _NONE
        if is_plain(args):
            payload = _dumps((args, kwargs), 5)
            if keeper is None or len(payload) < keeper.threshold:
                return payload
    elif is_plain(args) and is_plain(kwargs.values()):
        payload = _dumps((args, kwargs), 5)
        if keeper is None or len(payload) < keeper.threshold:
            return payload
    if Pickled in map(type, args):
        # Results of other tasks: small ones are cheaper to rebuild here than to be sent as what rebuilds them there.
        args = tuple([value.if_plain() if type(value) is Pickled else value for value in args])
        if is_plain(args) and is_plain(kwargs.values()):
            return _dumps((args, kwargs), 5)
    if plugins.data:
        body = plugins.try_dump(plugins.data, (args, kwargs))
        if body is not None:
            return body
    try:
        return pickling.dumps((args, kwargs)) if keeper is None else _dump_apart(args, kwargs, keeper)
    except (KeyboardInterrupt, ObjectStoreError):
        raise
    except BaseException as e:  # pickling runs user code (__reduce__, __getstate__)
        raise SerializationError(f"arguments of app {name}" if name else "arguments", _why(args, kwargs, e)) from e


def _dump_apart(args: tuple[Any, ...], kwargs: dict[str, Any], keeper: Keeper) -> bytes | ApartCall:
    threshold = keeper.threshold
    buffers: list[memoryview] = []

    def apart(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < threshold:
            return True
        buffers.append(raw)
        return False

    if not _BYTES.isdisjoint(map(type, args)):
        args = tuple([_Raw(value) if type(value) in _BYTES and len(value) >= threshold else value for value in args])
    if kwargs and not _BYTES.isdisjoint(map(type, kwargs.values())):
        kwargs = {k: _Raw(v) if type(v) in _BYTES and len(v) >= threshold else v for k, v in kwargs.items()}
    objects: list[Stored] = []
    body = pickling.dumps_apart((args, kwargs), apart, objects=objects)
    if not buffers:
        return ApartCall(body, objects) if objects else body
    kept = [keeper.keep(raw) for raw in buffers]
    head = APART + len(kept).to_bytes(4, "big") + b"".join([stored.entry.key for stored in kept])
    return ApartCall(head + body, kept + objects)


_BYTES = frozenset({bytes, bytearray})


class _Raw:
    """A large bytes or bytearray argument, which pickle by itself would copy into the pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self._value), (pickle.PickleBuffer(self._value),)


def dump_object(obj: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle a value to be stored; its buffers are not in the pickle.

    Raises:
        SerializationError: It cannot be sent; the text names the part that cannot.
    """
    buffers: list[memoryview] = []

    def apart(buffer: pickle.PickleBuffer) -> bool:
        buffers.append(buffer.raw())
        return False

    try:
        body = pickling.dumps_apart(_Raw(obj) if type(obj) in _BYTES else obj, apart)
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # pickling runs user code
        from flowlib.serialize import explain

        found = explain.offender(iter([("the object", obj)]), pickling.dumps)
        raise SerializationError(f"a {type(obj).__name__}", explain.reason(e, found)) from e
    return body, buffers


def load_call(payload: bytes | memoryview) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments in a payload; whatever user code raises while they are unpickled comes through."""
    if payload == _NONE:
        return (), {}
    call: tuple[tuple[Any, ...], dict[str, Any]]
    if payload[:1] == _PICKLE:
        call = pickle.loads(payload)
    else:
        call = _load_apart(payload) if payload[:1] == APART else plugins.load(payload)  # type: ignore[arg-type]
    return call


def _load_apart(payload: bytes | memoryview) -> Any:
    from flowlib.store.shelf import load_buffer

    end = 5 + _KEY * int.from_bytes(payload[1:5], "big")
    buffers = [load_buffer(bytes(payload[at : at + _KEY])) for at in range(5, end, _KEY)]
    return pickle.loads(payload[end:], buffers=buffers)


def _why(args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException) -> str:
    from flowlib.serialize import explain

    parts = [(f"argument {i}", value) for i, value in enumerate(args)]
    parts += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    return explain.reason(error, explain.offender(iter(parts), pickling.dumps))
