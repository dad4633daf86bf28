"""Every message of the high-throughput executor survives its way over the wire."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlib.executors.high_throughput import messages
from flowlib.executors.high_throughput.messages import Message, decode, encode

_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=12),
    bytes: st.binary(max_size=40),
    bool: st.booleans(),
    NoneType: st.none(),
    Any: _ANY,
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type that occurs in messages."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin is list:
        return st.lists(values(args[0]), max_size=4)
    if origin is tuple:
        return st.tuples(*(values(a) for a in args))
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=4)
    if origin in (Union, UnionType):
        return st.one_of(*(values(a) for a in args))
    assert issubclass(kind, msgspec.Struct), kind
    return structs(kind)


def structs(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a message class."""
    return st.builds(kind, **{name: values(hint) for name, hint in get_type_hints(kind).items()})


KINDS = get_args(Message)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_decode_inverts_encode(kind: type[Any], data: st.DataObject) -> None:
    """What arrives is what was sent, of the same class, for every message and any content."""
    message = data.draw(structs(kind))
    received = decode(encode(message))
    assert type(received) is kind
    assert received == message


def test_every_tagged_class_is_a_message() -> None:
    """No message class is missing from the union that is decoded, and no two share a tag."""
    tagged = [
        k
        for k in vars(messages).values()
        if isinstance(k, type) and issubclass(k, msgspec.Struct) and k.__struct_config__.tag is not None
    ]
    assert set(tagged) == set(KINDS)
    assert len({k.__struct_config__.tag for k in tagged}) == len(tagged)


@given(st.binary(max_size=60))
def test_garbage_is_refused(garbage: bytes) -> None:
    """Bytes that are no message raise a decode error and nothing else."""
    try:
        message = decode(garbage)
    except msgspec.DecodeError:
        return
    assert isinstance(message, KINDS)
