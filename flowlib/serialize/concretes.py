"""Serializers to register where flowlib's own rule does not do."""

from __future__ import annotations

import pickle
from typing import Any

from flowlib.serialize.base import SerializerBase


class PickleSerializer(SerializerBase):
    """The standard library's pickle."""

    def serialize(self, data: Any) -> bytes:
        """Pickle ``data``."""
        return pickle.dumps(data, pickle.HIGHEST_PROTOCOL)

    def deserialize(self, body: bytes) -> Any:
        """Unpickle ``body``."""
        return pickle.loads(body)


class DillSerializer(SerializerBase):
    """dill, for kinds of objects that pickle refuses (open files, weak references, frames of other libraries)."""

    def serialize(self, data: Any) -> bytes:
        """Pickle ``data`` with dill."""
        import dill

        body: bytes = dill.dumps(data)
        return body

    def deserialize(self, body: bytes) -> Any:
        """Unpickle ``body`` with dill."""
        import dill

        return dill.loads(body)


class DillCallableSerializer(DillSerializer):
    """dill for functions, with the globals that they use."""

    def serialize(self, data: Any) -> bytes:
        """Pickle ``data`` and the globals it uses with dill."""
        import dill

        body: bytes = dill.dumps(data, recurse=True)
        return body
