"""Serializers that users registered: asked first, in order; flowlib's own way follows when each has declined.

The two lists are empty in nearly every run, and then cost one truth test.
"""

from __future__ import annotations

import importlib
import pickle
from typing import TYPE_CHECKING, Any

from flowlib.errors import DeserializationError

if TYPE_CHECKING:
    from flowlib.serialize.base import SerializerBase

code: dict[bytes, SerializerBase] = {}
"""Registered serializers of callables, by identifier."""
data: dict[bytes, SerializerBase] = {}
"""Registered serializers of everything else, by identifier."""
_others: dict[bytes, SerializerBase] = {}

MARK = b"\0"
"""First byte of a body that a registered serializer made; a pickle starts otherwise."""


def register_method_for_code(serializer: SerializerBase) -> None:
    """Ask ``serializer`` first when a callable is sent."""
    code[serializer.identifier] = serializer


def register_method_for_data(serializer: SerializerBase) -> None:
    """Ask ``serializer`` first when arguments or results are sent."""
    data[serializer.identifier] = serializer


def try_dump(methods: dict[bytes, SerializerBase], obj: Any) -> bytes | None:
    """The marked bytes of the first serializer that takes ``obj``; None if all decline."""
    for identifier, serializer in methods.items():
        try:
            body = serializer.serialize(obj)
        except Exception:  # noqa: BLE001  # raising anything is how a serializer declines
            continue
        return MARK + identifier + b"\n" + body
    return None


def load(payload: bytes) -> Any:
    """What pickled or marked bytes stand for.

    Raises:
        DeserializationError: They were made by a serializer that cannot be had here.
    """
    if payload[:1] != MARK:
        return pickle.loads(payload)
    serializer, body = _split(bytes(payload))
    return serializer.deserialize(body)


def _split(payload: bytes) -> tuple[SerializerBase, bytes]:
    identifier, separator, body = payload[1:].partition(b"\n")
    found = code.get(identifier) or data.get(identifier) or _others.get(identifier)
    if found is None:
        found = _others[identifier] = _make(identifier) if separator else _unknown(identifier, "no identifier")
    return found, body


def _make(identifier: bytes) -> SerializerBase:
    module, _, name = identifier.decode(errors="replace").partition(" ")
    try:
        made: Any = importlib.import_module(module)
        for part in name.split("."):
            made = getattr(made, part)
        serializer: SerializerBase = made()
    except Exception as e:  # noqa: BLE001  # importing and making it runs user code; it becomes a typed error
        return _unknown(identifier, f"{type(e).__name__}: {e}")
    return serializer


def _unknown(identifier: bytes, reason: str) -> SerializerBase:
    raise DeserializationError(
        f"these bytes were made by the serializer {identifier.decode(errors='replace')!r}, which is not registered "
        f"and cannot be imported here ({reason}); its class must be importable and take no arguments"
    )
