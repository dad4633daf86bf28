"""The bytes of an event log: how batches of records become frames, and how frames are found again in a damaged file.

A file is ``MAGIC`` and frames; a frame is ``<mark> <u32 length> <u32 crc32 of the payload> <payload>``, little-endian,
and its payload a msgpack array of records.  The mark lets a reader step over anything broken: a torn end, a lost
block, what an interrupted writer left before another one went on.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from flowlib.events.schema import FORMAT

NAME = b"flowlib-events "
MAGIC = NAME + b"%d\n" % FORMAT
MARK = b"\xf1\x0e\xe7\x9c"
PAYLOAD_LIMIT = 16 * 1024 * 1024
"""Most bytes in a payload; a length above it is no length."""

_HEAD = struct.Struct("<4sII")
_INCOMPLETE, _BROKEN = 0, -1
_FIRST_LINE = len(NAME) + 9
_TEXT_LIMIT = 64 * 1024
_DEPTH_LIMIT = 8


def _stand_in(value: Any) -> Any:
    """What is written for a value that msgpack cannot hold; runs no code of the value's class."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if isinstance(value, int):
        return int.__add__(value, 0)
    return f"<{type(value).__qualname__}>"


_encoder = msgspec.msgpack.Encoder(enc_hook=_stand_in)
_decoder = msgspec.msgpack.Decoder(list[list[Any]])


def encode(records: Sequence[tuple[Any, ...]]) -> list[tuple[bytes, int]]:
    """Frames that hold ``records``, each with its number of records; one frame, unless that would be too large.

    Never fails on account of what a record holds: a value that cannot be written is replaced by something readable.
    """
    if not records:
        return []
    try:
        payload = _encoder.encode(records)
    except (TypeError, ValueError, OverflowError, RecursionError):
        payload = _encoder.encode([_writable(record) for record in records])
    if len(payload) > PAYLOAD_LIMIT:
        if len(records) > 1:
            half = len(records) // 2
            return encode(records[:half]) + encode(records[half:])
        payload = _encoder.encode([_writable(records[0])])
    return [(_HEAD.pack(MARK, len(payload), zlib.crc32(payload)) + payload, len(records))]


def decode(payload: bytes) -> list[list[Any]]:
    """The records of a payload.

    Raises:
        msgspec.DecodeError: It is no array of records.
    """
    return _decoder.decode(payload)


def _writable(value: Any, depth: int = 0) -> Any:
    """A copy of ``value`` that can be encoded: texts valid and short, integers of 64 bits, nesting bounded."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else "<integer of more than 64 bits>"
    if isinstance(value, str):
        return str.__str__(value)[:_TEXT_LIMIT].encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value) if len(value) <= _TEXT_LIMIT else f"<{len(value)} bytes, too many for the log>"
    if depth < _DEPTH_LIMIT and isinstance(value, (tuple, list)):
        return [_writable(item, depth + 1) for item in value[:_TEXT_LIMIT]]
    if depth < _DEPTH_LIMIT and isinstance(value, dict):
        return {str(_writable(key, depth + 1)): _writable(item, depth + 1) for key, item in value.items()}
    return f"<{type(value).__qualname__}>"


class Damage(NamedTuple):
    """A part of a file that could not be read.

    Attributes:
        offset: Where it begins, in bytes.
        length: Its bytes.
    """

    offset: int
    length: int


class Parser:
    """Finds the frames in a stream of bytes; keeps what is incomplete for the next piece.

    Attributes:
        format: Number of the file's format, 0 as long as it is not known.
        damage: What had to be skipped, in order.

    Example:
        >>> parser = Parser()
        >>> [(frame, count)] = encode([(13, 0.0, 7, 3)])
        >>> [decode(p) for p in parser.feed(MAGIC + b"junk" + frame + frame[:9])]
        [[[13, 0.0, 7, 3]]]
        >>> parser.damage, parser.unfinished
        ([Damage(offset=17, length=4)], 9)
    """

    def __init__(self) -> None:
        self.format = 0
        self.damage: list[Damage] = []
        self._buffer = bytearray()
        self._offset = 0
        self._begun = False

    @property
    def unfinished(self) -> int:
        """Bytes at the end that are no whole frame yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that ``data`` completes."""
        self._buffer += data
        return self._parse(at_end=False)

    def at_end(self) -> list[bytes]:
        """To be called where the file ends for now: payloads behind a frame that was never finished."""
        return self._parse(at_end=True)

    def _parse(self, at_end: bool) -> list[bytes]:
        buffer, payloads = self._buffer, list[bytes]()
        if not self._begun and not self._begin(at_end):
            return payloads
        position = 0
        while len(buffer) - position >= len(MARK):
            size = self._size(position)
            if size > 0:
                payloads.append(bytes(memoryview(buffer)[position + _HEAD.size : position + size]))
                position += size
                continue
            if size == _INCOMPLETE and not at_end:
                break
            following = self._following(position, whole=size == _INCOMPLETE)
            if following is None:
                break
            self._skip(self._offset + position, following - position)
            position = following
        del buffer[:position]
        self._offset += position
        return payloads

    def _begin(self, at_end: bool) -> bool:
        """Take the file's first line, or find that it is damaged; False if more bytes are needed to tell."""
        buffer = self._buffer
        end = buffer.find(b"\n", 0, _FIRST_LINE)
        if end < 0 and len(buffer) < _FIRST_LINE and not (at_end and len(buffer) > len(MAGIC)):
            return False
        digits = bytes(buffer[len(NAME) : max(end, 0)])
        if buffer.startswith(NAME) and digits.isdigit():
            self.format = int(digits)
            del buffer[: end + 1]
            self._offset = end + 1
        self._begun = True
        return True

    def _size(self, position: int) -> int:
        """Bytes of the frame at ``position``, or that it is incomplete or broken."""
        buffer = self._buffer
        if not buffer.startswith(MARK, position):
            return _BROKEN
        if len(buffer) - position < _HEAD.size:
            return _INCOMPLETE
        _, length, crc = _HEAD.unpack_from(buffer, position)
        if length > PAYLOAD_LIMIT:
            return _BROKEN
        start = position + _HEAD.size
        if start + length > len(buffer):
            return _INCOMPLETE
        with memoryview(buffer) as view:
            return _HEAD.size + length if zlib.crc32(view[start : start + length]) == crc else _BROKEN

    def _following(self, position: int, whole: bool) -> int | None:
        """Where to go on after ``position``: the next mark, or, if it must be ``whole``, the next good frame."""
        buffer = self._buffer
        found = buffer.find(MARK, position + 1)
        while whole and found >= 0 and self._size(found) <= 0:
            found = buffer.find(MARK, found + 1)
        if found >= 0:
            return found
        if whole:
            return None
        # The last bytes may be the beginning of a mark.
        return len(buffer) - len(MARK) + 1

    def _skip(self, offset: int, length: int) -> None:
        if self.damage and sum(self.damage[-1]) == offset:
            offset, before = self.damage.pop()
            length += before
        self.damage.append(Damage(offset, length))
