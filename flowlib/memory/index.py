"""Where in a file the entry with a key begins, for a million of them, without reading them into memory.

Pure.  An index is two sorted columns of 64-bit numbers: the first eight bytes of keys, and offsets.  It is mapped and
searched where it lies: keys are digests, evenly spread, so a guess by proportion is nearly right at once.  It says how
much of the file it covers; the rest is scanned.  It is only ever a hint: the entry itself says what it is.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable

MAGIC = b"flowidx1"
_HEAD = struct.Struct("<8sQQI4x")
_TOP = 2**64


def prefix(key: bytes) -> int:
    """What an index knows of a key."""
    return int.from_bytes(key[:8], "big")


def build(places: Iterable[tuple[int, int]], covered: int) -> bytes:
    """The index of a file.

    Args:
        places: Prefixes and offsets; of equal prefixes the last offset counts.
        covered: Bytes of the file that were looked at.

    Example:
        >>> index = Index(build([(7, 100), (3, 200), (7, 300)], 400))
        >>> index.find(7), index.find(3), index.find(4), index.covered
        (300, 200, None, 400)
    """
    pairs = sorted(dict(places).items())
    body = _raw(array("Q", [pair[0] for pair in pairs])) + _raw(array("Q", [pair[1] for pair in pairs]))
    return _HEAD.pack(MAGIC, covered, len(pairs), zlib.crc32(body)) + body


class Index:
    """An index in memory, or mapped.

    Args:
        data: What ``build`` made.

    Raises:
        ValueError: It is not whole.
    """

    __slots__ = ("_keys", "_offsets", "count", "covered")

    def __init__(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        if len(view) < _HEAD.size:
            raise ValueError("an index is cut off")
        magic, self.covered, self.count, check = _HEAD.unpack_from(view)
        body = view[_HEAD.size :]
        if magic != MAGIC or len(body) != 16 * self.count or zlib.crc32(body) != check:
            raise ValueError("an index is damaged")
        if sys.byteorder == "big":
            raise ValueError("an index is of little-endian machines")
        self._keys = body[: 8 * self.count].cast("Q")
        self._offsets = body[8 * self.count :].cast("Q")

    def find(self, wanted: int) -> int | None:
        """The offset that belongs to a prefix; None if there is none."""
        keys, count = self._keys, self.count
        if not count:
            return None
        guess, step = wanted * count // _TOP, 64
        low, high = max(0, guess - step), min(count, guess + step)
        while low > 0 and keys[low] > wanted:
            step *= 8
            low = max(0, guess - step)
        while high < count and keys[high - 1] < wanted:
            step *= 8
            high = min(count, guess + step)
        at = bisect_left(keys, wanted, low, high)
        return self._offsets[at] if at < count and keys[at] == wanted else None

    def pairs(self) -> Iterable[tuple[int, int]]:
        """Prefixes and offsets."""
        return zip(self._keys, self._offsets, strict=True)

    def release(self) -> None:
        """Let go of the memory; the index is of no use after that."""
        self._keys.release()
        self._offsets.release()


def _raw(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
