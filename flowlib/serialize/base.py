"""What a serializer of one's own looks like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class SerializerBase(ABC):
    """A way to turn objects into bytes and back, registered with ``register_method_for_code`` or ``..._for_data``.

    Processes that have not registered it (workers) import its class by module and name and make one without
    arguments, so it must be importable there.
    """

    @property
    def identifier(self) -> bytes:
        """What marks its bytes: module and name of its class."""
        kind = type(self)
        return f"{kind.__module__} {kind.__qualname__}".encode()

    @abstractmethod
    def serialize(self, data: Any) -> bytes:
        """The bytes of ``data``. Raising an exception passes it on to the next way."""

    @abstractmethod
    def deserialize(self, body: bytes) -> Any:
        """What these bytes stand for."""
