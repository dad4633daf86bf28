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
    """dill, for kinds of objects that pickle refuses (open files, weak references, frames of other libraries).

    Needs the extra ``flowlib[dill]``, here and where the workers are.
    """

    def serialize(self, data: Any) -> bytes:
        """Pickle ``data`` with dill."""
        body: bytes = _dill().dumps(data)
        return body

    def deserialize(self, body: bytes) -> Any:
        """Unpickle ``body`` with dill."""
        return _dill().loads(body)


class DillCallableSerializer(DillSerializer):
    """dill for functions, with the globals that they use."""

    def serialize(self, data: Any) -> bytes:
        """Pickle ``data`` and the globals it uses with dill."""
        body: bytes = _dill().dumps(data, recurse=True)
        return body


def _dill() -> Any:
    try:
        import dill
    except ModuleNotFoundError as e:
        from flowlib.errors import OptionalModuleMissing

        raise OptionalModuleMissing(["dill"], "DillSerializer; pip install 'flowlib[dill]'") from e
    return dill
