"""Values as bytes of a store, and back.

Plain pickle by reference comes first: in another run of the script its classes are found by their names, so a value is
an instance of the script's own class again.  What has no name travels by value, as it does to workers.
"""

from __future__ import annotations

import pickle
from typing import Any

from flowlib.serialize import pickling, plugins
from flowlib.serialize.values import Pickled, load_packed
from flowlib.store import packing

_GLOBAL = b"\x93"
_APART = 64 * 1024
_ATOMS = frozenset({int, float, str, bytes, bool, type(None)})


def payload_of(outcome: Any) -> bytes | None:
    """The bytes of a value that came from a worker and needs no code to be rebuilt; None for any other."""
    if type(outcome) is not Pickled:
        return None
    payload = outcome.payload
    if payload is None or _GLOBAL in payload or payload[:1] in (plugins.MARK, packing.MARK):
        return None
    return payload


def dump(value: Any, large: int) -> bytes | list[bytes | memoryview]:
    """A value as bytes; as parts of a file if it takes ``large`` bytes or more.

    Raises:
        Exception: Whatever users' code raises while it is pickled.
    """
    if type(value) in _ATOMS:
        body = pickle.dumps(value, 5)
        return body if len(body) < large else packing.pack(body, [])
    buffers: list[memoryview] = []

    def apart(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _APART:
            return True
        buffers.append(raw)
        return False

    try:
        body = pickle.dumps(value, 5, buffer_callback=apart)
    except Exception:  # noqa: BLE001  # by value, then, which says what is wrong with it if that fails, too
        buffers.clear()
        body = pickling.dumps(value)
    if buffers or len(body) >= large:
        return packing.pack(body, buffers)
    return body


def load(data: bytes | memoryview) -> Any:
    """The value.

    Raises:
        Exception: It cannot be rebuilt: a class is gone, say.
    """
    if isinstance(data, memoryview):
        return load_packed(data)
    return pickle.loads(data)  # noqa: S301  # of the user's own store, in a directory of mode 0700
