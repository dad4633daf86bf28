"""Serializers that users may register."""

from __future__ import annotations

import sys

import pytest

from flowlib.errors import OptionalModuleMissing
from flowlib.serialize.concretes import DillCallableSerializer, DillSerializer, PickleSerializer


def test_values_go_there_and_back() -> None:
    """Each gives back what it was given."""
    value = {"a": [1, (2.5, None)], "b": {3}}
    for serializer in (PickleSerializer(), DillSerializer()):
        assert serializer.deserialize(serializer.serialize(value)) == value


def test_dill_takes_what_pickle_refuses() -> None:
    """A function of functions with a closure is rebuilt and runs."""
    offset = 40
    serializer = DillCallableSerializer()
    rebuilt = serializer.deserialize(serializer.serialize(lambda x: x + offset))
    assert rebuilt(2) == 42


def test_missing_dill_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dill the error says which extra to install."""
    monkeypatch.setitem(sys.modules, "dill", None)
    with pytest.raises(OptionalModuleMissing, match=r"flowlib\[dill\]"):
        DillSerializer().serialize(1)
