"""The field's usual functions for serialization, on top of flowlib's own.

The executors do not use them: they keep functions, arguments and values apart. Scripts, plug-ins and executors
written elsewhere do.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any

from flowlib.errors import DeserializationError, SerializationError
from flowlib.serialize import pickling, plugins
from flowlib.serialize.plugins import register_method_for_code as register_method_for_code
from flowlib.serialize.plugins import register_method_for_data as register_method_for_data

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)
_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")


def serialize(obj: Any, buffer_threshold: float = 1e6) -> bytes:
    """Turn an object, callable or not, into bytes.

    Args:
        obj: What to send.
        buffer_threshold: Size in bytes above which a warning is logged.

    Raises:
        SerializationError: It cannot be sent; the text names the part that cannot.

    Example:
        >>> deserialize(serialize({"a": [1, 2]}))
        {'a': [1, 2]}
    """
    from flowlib.serialize.functions import encode_function

    if callable(obj):
        body = encode_function(obj)
    else:
        marked = plugins.try_dump(plugins.data, obj)
        body = marked if marked is not None else _dump(obj)
    if len(body) > buffer_threshold:
        _log.warning("a serialized %s has %d bytes, more than %d", type(obj).__name__, len(body), int(buffer_threshold))
    return body


def _dump(obj: Any) -> bytes:
    try:
        return pickling.dumps(obj)
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # pickling runs user code
        from flowlib.serialize import explain

        found = explain.offender(iter([("the object", obj)]), pickling.dumps)
        raise SerializationError(f"a {type(obj).__name__}", explain.reason(e, found)) from e


def deserialize(payload: bytes | memoryview) -> Any:
    """The object that ``serialize`` turned into these bytes.

    Raises:
        DeserializationError: It cannot be rebuilt here.
    """
    try:
        return plugins.load(bytes(payload))
    except (DeserializationError, KeyboardInterrupt):
        raise
    except BaseException as e:  # unpickling runs user code
        raise DeserializationError(f"{type(e).__name__}: {e}") from e


def pack_buffers(buffers: Sequence[bytes]) -> bytes:
    """Join buffers so that ``unpack_buffers`` can part them."""
    parts = [_COUNT.pack(len(buffers))]
    for buffer in buffers:
        parts += (_SIZE.pack(len(buffer)), buffer)
    return b"".join(parts)


def unpack_buffers(packed: bytes | memoryview) -> list[bytes]:
    """The buffers that were joined by ``pack_buffers``.

    Raises:
        DeserializationError: The bytes are no joined buffers.
    """
    view = memoryview(packed)
    try:
        (count,) = _COUNT.unpack_from(view)
        position, buffers = _COUNT.size, []
        for _ in range(count):
            (size,) = _SIZE.unpack_from(view, position)
            position += _SIZE.size
            if position + size > len(view):
                raise DeserializationError(f"a buffer of {size} bytes is cut off")
            buffers.append(bytes(view[position : position + size]))
            position += size
    except struct.error as e:
        raise DeserializationError(f"these are no packed buffers: {e}") from e
    return buffers


def pack_apply_message(func: Callable[..., Any], args: Any, kwargs: Any, buffer_threshold: float = 128e6) -> bytes:
    """Join a function and its arguments into one message."""
    return pack_buffers([serialize(part, buffer_threshold) for part in (func, args, kwargs)])


def unpack_apply_message(packed_buffer: bytes | memoryview) -> list[Any]:
    """Function, positional and keyword arguments of a message."""
    return [deserialize(buffer) for buffer in unpack_buffers(packed_buffer)]


def pack_res_spec_apply_message(
    func: Callable[..., Any], args: Any, kwargs: Any, resource_specification: Any, buffer_threshold: float = 128e6
) -> bytes:
    """Join a function, its arguments and what it needs into one message."""
    parts = (
        serialize(resource_specification, buffer_threshold),
        pack_apply_message(func, args, kwargs, buffer_threshold),
    )
    return pack_buffers(parts)


def unpack_res_spec_apply_message(packed_buffer: bytes | memoryview) -> list[Any]:
    """Function, positional and keyword arguments of a message, and what it needs."""
    specification, call = unpack_buffers(packed_buffer)
    return [*unpack_apply_message(call), deserialize(specification)]
