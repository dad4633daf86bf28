"""What manager and template say to each other: records of a fixed size over a socket pair.

The template imports what workers need and nothing more, and handles one thing after the other, so its language has no
variable parts: a record is whole or not there yet.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """What a record says."""

    SPAWN = 1
    """To the template: fork worker ``rank``; the worker's end of its link comes with the record."""
    KILL = 2
    """To the template: kill process ``pid`` if it is a worker, with all it has started."""
    HELLO = 3
    """Everything is imported; spawning is quick from now on."""
    SPAWNED = 4
    """Worker ``rank`` is process ``pid``."""
    FAILED = 5
    """Worker ``rank`` could not be forked; ``status`` is the error number."""
    ENDED = 6
    """Process ``pid`` ended, with wait status ``status`` and a largest memory use of ``memory`` bytes."""
    STOPPED = 7
    """Process ``pid`` was stopped by signal ``status``."""
    CONTINUED = 8
    """Process ``pid`` runs again."""
    TERMINATE = 9
    """To the template: signal worker ``pid`` and all it has started by SIGTERM, and kill them ``status`` ms later."""


class Record(NamedTuple):
    """One record.

    Attributes:
        kind: What it says.
        rank: Rank of the worker.
        pid: Its process.
        status: See the kinds.
        memory: Bytes.
    """

    kind: int
    rank: int = -1
    pid: int = 0
    status: int = 0
    memory: int = 0


_RECORD = struct.Struct("<BxxxiiiQ")
SIZE = _RECORD.size


def pack(record: Record) -> bytes:
    """The bytes of a record."""
    return _RECORD.pack(*record)


def unpack(data: bytes | bytearray | memoryview) -> list[Record]:
    """The records in ``data``, which holds whole ones only."""
    return [Record(*fields) for fields in _RECORD.iter_unpack(data)]
