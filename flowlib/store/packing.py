"""How an object lies in memory: its pickle first, then the buffers that pickle left out, each where a CPU likes it.

Arrays that are unpickled from such memory are views of it, so the layout is what makes reading an object cost nothing.
Pure: takes and gives bytes and views.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

MARK = b"\xf0"
"""First byte of a packed object. A pickle starts otherwise, and so does what a registered serializer makes."""
ALIGNED = 64
"""Buffers start at multiples of this many bytes: a cache line, and what vector instructions want."""

_MAGIC = MARK + b"flow1\r\n"
_HEAD = struct.Struct("<8sQQ")
_PLACE = struct.Struct("<QQ")

Part = bytes | memoryview


def pack(body: bytes, buffers: Sequence[memoryview]) -> list[Part]:
    """Lay out an object.

    Args:
        body: A pickle of protocol 5.
        buffers: What it left out, as contiguous bytes, in its order.

    Returns:
        What to write, one after the other.

    Example:
        >>> packed = b"".join(pack(b"body", [memoryview(b"one"), memoryview(b"two")]))
        >>> body, buffers = unpack(memoryview(packed))
        >>> bytes(body), [bytes(buffer) for buffer in buffers]
        (b'body', [b'one', b'two'])
    """
    end = _HEAD.size + _PLACE.size * len(buffers) + len(body)
    places: list[bytes] = []
    rest: list[Part] = []
    for buffer in buffers:
        start = -(-end // ALIGNED) * ALIGNED
        places.append(_PLACE.pack(start, buffer.nbytes))
        rest += (bytes(start - end), buffer)
        end = start + buffer.nbytes
    return [_HEAD.pack(_MAGIC, len(body), len(buffers)) + b"".join(places) + body, *rest]


def unpack(memory: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Pickle and buffers of a packed object; views of ``memory``.

    Raises:
        ValueError: That is no packed object.
    """
    if memory.nbytes < _HEAD.size:
        raise ValueError(f"{memory.nbytes} bytes are no packed object")
    magic, length, count = _HEAD.unpack_from(memory)
    start = _HEAD.size + _PLACE.size * count
    if magic != _MAGIC or start + length > memory.nbytes:
        raise ValueError(f"the bytes that begin with {bytes(memory[:8])!r} are no packed object")
    buffers: list[memoryview] = []
    for i in range(count):
        at, size = _PLACE.unpack_from(memory, _HEAD.size + _PLACE.size * i)
        if at + size > memory.nbytes:
            raise ValueError(f"a packed object is cut off: a buffer ends at {at + size} of {memory.nbytes} bytes")
        buffers.append(memory[at : at + size])
    return memory[start : start + length], buffers
