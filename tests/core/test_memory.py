"""Keys, frames, indexes and explanations of remembered results, without files or processes."""

from __future__ import annotations

import enum
import json
import os
import random
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlib.errors import UnkeyableError
from flowlib.memory import frames
from flowlib.memory.calls import Keys
from flowlib.memory.canonical import Canon
from flowlib.memory.code import combined, components_of
from flowlib.memory.index import Index, build
from flowlib.memory.why import Made, differences, nearest


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1
    BLUE = 2


@dataclass
class Model:
    """A dataclass."""

    name: str
    net: Any = None
    layers: list[int] = field(default_factory=list)


class Pair(NamedTuple):
    """A named tuple."""

    a: int
    b: int


def digest(value: Any) -> bytes:
    """The digest of a value."""
    return Keys().digest(value)


DIFFERENT: list[Any] = [
    *(0, 1, 1.0, -1, True, False, None, "1", "", b"1", b"", bytearray(b"1"), 1j, 0.0, -0.0, float("inf"), 10**400, ...),
    *([], [1], (1,), (), {1}, set(), frozenset({1}), {1: 1}, {"1": 1}, {}, [[1], 2], [1, [2]], ["ab"], ["a", "b"]),
    *(Colour.RED, Colour.BLUE, Model("a"), Model("b"), Model("a", layers=[1]), Pair(1, 2), (1, 2), Pair(2, 1)),
    *(range(3), range(4), slice(1, 2), date(2020, 1, 1), datetime(2020, 1, 1, tzinfo=timezone.utc), timedelta(1)),
    *(Decimal(1), Decimal("1.0"), Fraction(1), Counter("a"), OrderedDict(a=1), defaultdict(int, a=1), deque([1])),
    *(deque([1], 3), int, float, abs, len, partial(abs, 1), partial(abs, 2), "x" * 10_000, "x" * 9_999 + "y"),
    *(np.zeros(3), np.zeros(3, "f4"), np.zeros((3, 1)), np.zeros(0), np.float64(0), np.arange(3), np.int32(1)),
    *(np.array(["a"]), np.array([None, 1], object), np.array(["2020-01-01"], "M8[D]"), np.dtype("f8"), np.sin),
    *(np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 0]), np.random.default_rng(1)),
    *(lambda x: x + 1, lambda x: x + 2, lambda x, y=1: x),
]


def test_different_values_have_different_keys() -> None:
    """No two of many values that differ by value or type have the same key."""
    assert len({digest(value) for value in DIFFERENT}) == len(DIFFERENT)


def test_tables_count_by_content() -> None:
    """Tables of pandas are told apart by values, names, types and index."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    others = [
        pd.DataFrame({"a": [1, 3], "b": ["x", "y"]}),
        pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
        pd.DataFrame({"a": [1, 2], "c": ["x", "y"]}),
        frame.set_index("a"),
        frame["a"],
        frame["b"],
        pd.Series([1, 2], dtype="category"),
        pd.Timestamp("2020-01-01"),
        pd.NaT,
    ]
    assert len({digest(value) for value in [frame, *others]}) == len(others) + 1
    assert digest(frame) == digest(frame.copy())


def test_memory_layout_does_not_count() -> None:
    """An array is the same in whichever order it lies in memory."""
    array = np.arange(12.0).reshape(3, 4)
    assert digest(array) == digest(np.asfortranarray(array)) == digest(np.repeat(array, 2, axis=1)[:, ::2])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(st.text() | st.integers() | st.binary(), max_size=5)
    ),
    max_leaves=12,
)


def shuffled(value: Any, chance: random.Random) -> Any:
    """An equal value whose dicts and sets were filled in another order."""
    if isinstance(value, dict):
        pairs = [(k, shuffled(v, chance)) for k, v in value.items()]
        chance.shuffle(pairs)
        return dict(pairs)
    if isinstance(value, set):
        return set(chance.sample(sorted(value, key=repr), len(value)))
    return type(value)(shuffled(v, chance) for v in value) if isinstance(value, (list, tuple)) else value


@given(VALUES, st.integers())
@settings(max_examples=60)
def test_order_of_filling_does_not_count(value: Any, seed: int) -> None:
    """Equal values have equal keys, in whatever order their sets and dicts were filled."""
    assert digest(value) == digest(shuffled(value, random.Random(seed)))


@given(VALUES, VALUES)
@settings(max_examples=60)
def test_keys_differ_where_values_do(one: Any, other: Any) -> None:
    """Values with other text forms have other keys."""
    if one != other:
        assert digest(one) != digest(other)


PROGRAM = """
import json, sys
from flowlib.memory.calls import Keys
import numpy as np
def helper(x): return x in {"a", "b", "c", "d"}
def app(x): return helper(x)
values = [{"b": 1, "a": {"x", "y", "z", 1, (2, 3)}}, frozenset("hello"), app, 1.5, np.arange(5), {b"k": {"u", "v"}}]
print(json.dumps([Keys().digest(v).hex() for v in values]))
"""


def test_keys_are_the_same_in_other_processes() -> None:
    """The seed of Python's hashes makes no difference to keys."""
    answers = {
        json.dumps(
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", PROGRAM],
                    env={**os.environ, "PYTHONHASHSEED": seed},
                    capture_output=True,
                    check=True,
                    timeout=60,
                ).stdout
            )
        )
        for seed in ("1", "2")
    }
    assert len(answers) == 1


def test_refusal_names_the_way() -> None:
    """What has no key is named by the way to it, and so is what to do."""
    with pytest.raises(UnkeyableError, match=r"args\[1\]\['model'\]\.net is of type .*id_for_memo"):
        Canon().digest({"model": Model("a", net=object())}, "args[1]")


def test_values_that_hold_themselves() -> None:
    """A cycle has a key, and a value too deep is refused."""
    one: list[Any] = [1]
    one.append(one)
    other: list[Any] = [1]
    other.append(other)
    assert digest(one) == digest(other) != digest([1, [1]])
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    with pytest.raises(UnkeyableError, match="deeply"):
        digest(deep)


def functions(source: str) -> bytes:
    """The key of the function ``app`` in a program."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(source, space)  # programs of this test
    return combined(components_of(space["app"], Canon()))


BASE = """
RATE = 2
class Base:
    def grow(self, x):
        return x
class Kind(Base):
    pass
def helper(x, by=1):
    return x * RATE + by
def app(x):
    def inner(y):
        return helper(y)
    return inner(x) + Kind().grow(x)
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("    return x * RATE + by", "    # why\n\n    return (x * RATE\n        + by)", True),
        ("def helper(x, by=1):", 'def helper(x, by=1):\n    "What it does."', True),
        ("RATE = 2", "RATE = 2\nUNUSED = 3", True),
        ("RATE = 2", "RATE = 3", False),
        ("x * RATE", "x + RATE", False),
        ("by=1", "by=2", False),
        ("return x\n", "return -x\n", False),
        ("helper(y)", "helper(y + 1)", False),
        ("Kind().grow(x)", "Kind().grow(2)", False),
    ],
)
def test_code_that_counts(old: str, new: str, same: bool) -> None:
    """Comments, docstrings, formatting and what is not reached do not count; helpers, constants, defaults, bases do."""
    assert old in BASE
    assert (functions(BASE) == functions(BASE.replace(old, new))) is same


def test_differences_are_named() -> None:
    """What differs from the most alike call is said, for arguments and for code."""
    codes = {b"1": {"m.f": b"a", "m.g": b"b", "package x": b"1"}, b"2": {"m.f": b"a", "m.g": b"c", "package x": b"2"}}
    call = Made("m.f", b"2", {"x": b"1", "y": b"2"})
    others = [
        Made("m.f", b"1", {"x": b"0", "y": b"0"}),
        Made("m.f", b"1", {"x": b"1", "y": b"3"}),
        Made("m.h", b"2", {}),
    ]
    assert nearest(call, others) is others[1]
    assert differences(call, others[1], codes) == [
        *("m.g changed", "the version of package x changed", "argument y differs")
    ]
    assert differences(call, None, codes) == ["no call of m.f is remembered"]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 50), st.integers(0, 2**40)), max_size=300))
@settings(max_examples=60)
def test_indexes_find_what_they_hold(pairs: list[tuple[int, int]]) -> None:
    """Every prefix is found with its last offset, and no other."""
    index, known = Index(build(pairs, 7)), dict(pairs)
    for wanted in [*known, 0, 25, 2**63, 2**64 - 1]:
        assert index.find(wanted) == known.get(wanted)


def test_damaged_indexes_are_refused() -> None:
    """A flipped bit or a missing end is noticed."""
    data = bytearray(build([(i * 2**50, i) for i in range(100)], 5))
    for at in range(0, len(data), 37):
        if not 28 <= at < 32:
            data[at] ^= 1
            if at < 8 or at >= 16:
                with pytest.raises(ValueError, match="index"):
                    Index(bytes(data))
            data[at] ^= 1
    with pytest.raises(ValueError, match="index"):
        Index(bytes(data[:-1]))


@given(st.integers(0, 2**32), st.sampled_from(["cut", "flip", "zero", "double"]))
@settings(max_examples=80)
def test_damage_costs_what_it_hits(seed: int, damage: str) -> None:
    """Whatever happens to a stretch of a file, all frames outside of it are found, and nothing false."""
    chance = random.Random(seed)
    made = [frames.encode(chance.randbytes(32), b"facts", chance.randbytes(chance.randrange(200))) for _ in range(20)]
    data = b"".join(made)
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.randrange(1, 300))
    if damage == "cut":
        data = data[:start] + data[end:]
    elif damage == "flip":
        data = data[:start] + bytes([data[start] ^ (1 << chance.randrange(8))]) + data[start + 1 :]
        end = start + 1
    elif damage == "zero":
        data = data[:start] + bytes(end - start) + data[end:]
    else:
        data = data[:end] + data[start:end] + data[end:]
        start = end
    found = {frames.encode(f.key, f.facts, f.value) for _, f in frames.scan(data)}
    at, whole = 0, set()
    for frame in made:
        if at + len(frame) <= start or at >= end:
            whole.add(frame)
        at += len(frame)
    assert found <= set(made)
    assert found >= whole
