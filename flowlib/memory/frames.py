"""How entries of a store lie in a file, and how they are found again in a damaged one.

Pure.  A file is frames one after the other, only ever appended to.  A frame is ``<mark> <u32 length of facts> <u32
length of value> <u32 crc32 of all but mark and itself> <32 bytes of key> <facts> <value>``, little-endian.  Whatever is
broken (a torn end, zeroes, flipped bits) costs the frames it is in: the mark leads to the next whole one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

MARK = b"\xf3\x1bM1"
"""Begins each frame; its last character is the format's version, which readers of later ones know."""
HEAD = struct.Struct("<4sIII32s")
LIMIT = 1 << 31


class Frame(NamedTuple):
    """An entry of a store.

    Attributes:
        key: 32 bytes.
        facts: About the value, msgpack.
        value: The value, pickled, or where it is.
        end: Offset of what follows.
    """

    key: bytes
    facts: bytes
    value: bytes
    end: int


def encode(key: bytes, facts: bytes, value: bytes) -> bytes:
    """A frame.

    Example:
        >>> decode(encode(bytes(32), b"facts", b"value"), 0)[1:3]
        (b'facts', b'value')
    """
    return HEAD.pack(MARK, len(facts), len(value), _check(key, facts, value), key) + facts + value


def decode(data: bytes | memoryview, start: int) -> Frame | None:
    """The frame at an offset; None if there is no whole one."""
    if len(data) - start < HEAD.size:
        return None
    mark, facts_size, value_size, check, key = HEAD.unpack_from(data, start)
    facts_start = start + HEAD.size
    value_start = facts_start + facts_size
    end = value_start + value_size
    if mark != MARK or end > len(data):
        return None
    facts, value = bytes(data[facts_start:value_start]), bytes(data[value_start:end])
    return Frame(key, facts, value, end) if _check(key, facts, value) == check else None


def size_at(head: bytes) -> int:
    """Bytes that a frame takes, by its first ``HEAD.size`` bytes; 0 if none begins there."""
    if len(head) < HEAD.size:
        return 0
    mark, facts_size, value_size, _, _ = HEAD.unpack(head[: HEAD.size])
    size: int = HEAD.size + facts_size + value_size
    return size if mark == MARK and size < LIMIT else 0


def scan(data: bytes, start: int = 0) -> Iterator[tuple[int, Frame]]:
    """All whole frames from an offset on, each with where it begins.

    Example:
        >>> frame = encode(bytes(32), b"facts", b"value")
        >>> [at for at, _ in scan(frame + b"broken" + frame[:9] + frame)]
        [0, 78]
    """
    while start < len(data):
        frame = decode(data, start)
        if frame is not None:
            yield start, frame
            start = frame.end
            continue
        start = data.find(MARK, start + 1)
        if start < 0:
            return


def _check(key: bytes, facts: bytes, value: bytes) -> int:
    sizes = b"%d %d" % (len(facts), len(value))
    return zlib.crc32(value, zlib.crc32(facts, zlib.crc32(sizes + key)))
