"""Futures in arguments: found, and replaced, at any depth."""

from __future__ import annotations

import asyncio
from collections import namedtuple
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.dataflow.dependencies import fill, find, gather, gather_shallow, substitute, value_of


def done(value: Any) -> Future[Any]:
    """A future that is done."""
    future: Future[Any] = Future()
    future.set_result(value)
    return future


@dataclass
class Plain:
    """A dataclass."""

    a: Any
    b: Any = None


@dataclass(frozen=True)
class Frozen:
    """A dataclass that cannot be changed, with a field that __init__ does not take."""

    a: Any
    derived: int = field(init=False, default=5)


Point = namedtuple("Point", "x y")  # noqa: PYI024  # users write both


class MyList(list[Any]):
    """A subclass: not looked into."""


CASES = [
    (lambda f: f, 1),
    (lambda f: [f, 2], [1, 2]),
    (lambda f: (f, [f]), (1, [1])),
    (lambda f: {f, 3}, {1, 3}),
    (lambda f: frozenset({f}), frozenset({1})),
    (lambda f: {f: f, "k": [f]}, {1: 1, "k": [1]}),
    (lambda f: Plain([f], b=Plain(f)), Plain([1], b=Plain(1))),
    (lambda f: Frozen(f), Frozen(1)),
    (lambda f: Point(f, Point(0, f)), Point(1, Point(0, 1))),
    (lambda f: [[[[[[f]]]]]], [[[[[[1]]]]]]),
    (lambda f: [*range(100), f], [*range(100), 1]),
]


@pytest.mark.parametrize(("make", "expected"), CASES)
def test_found_and_replaced(make: Any, expected: Any) -> None:
    """The future is found where it hides; a copy with its value takes the place of the original."""
    future = done(1)
    given_value = make(future)
    assert future in gather(given_value)
    replaced = substitute(given_value, value_of)
    assert replaced == expected
    assert type(replaced) is type(expected)
    assert gather(replaced) == []
    assert future in gather(given_value)


def test_nothing_to_replace_is_passed_on() -> None:
    """A container without futures is the same object afterwards."""
    for value in ([1, [2]], {"a": (1,)}, {1, 2}, Plain([1]), Point(1, 2), MyList([done(1)]), object()):
        assert substitute(value, value_of) is value


def test_subclasses_are_not_looked_into() -> None:
    """Only exact containers are taken apart: a subclass may mean anything."""
    assert gather(MyList([done(1)])) == []


def test_cycles_end() -> None:
    """A container that holds itself is walked once."""
    cycle: list[Any] = [1]
    cycle.append(cycle)
    assert gather(cycle) == []
    assert substitute(cycle, value_of) is cycle


def test_deep_nesting_is_searched_without_recursion() -> None:
    """Ten thousand levels are searched in a loop."""
    value: Any = done(1)
    for _ in range(10_000):
        value = [value]
    assert len(gather(value)) == 1


def test_shallow() -> None:
    """The shallow search sees futures themselves only."""
    future = done(1)
    assert gather_shallow(future) == [future]
    assert gather_shallow([future]) == []


def test_call() -> None:
    """Positional, keyword and ``inputs`` arguments are searched; the items of ``inputs`` also in the shallow way."""
    a, b, c = done(1), done(2), done(3)
    kwargs = {"x": b, "inputs": [c, 7]}
    assert find((a, 0), kwargs, gather_shallow) == [a, b, c]
    assert fill((a, 0), kwargs, lambda v: substitute(v, value_of)) == ((1, 0), {"x": 2, "inputs": [3, 7]})


def test_asyncio_futures_are_refused() -> None:
    """An asyncio future or a coroutine would never be waited for, and the error says so."""

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(TypeError, match="await"):
            gather([future])
        with pytest.raises(TypeError, match="await"):
            gather(main())
        with pytest.raises(TypeError, match="await"):
            gather_shallow(future)

    asyncio.run(main())


def _nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.tuples(inner, inner),
            st.dictionaries(st.text(max_size=3), inner, max_size=3),
            st.builds(Plain, inner, inner),
        ),
        max_leaves=12,
    )


@given(_nested(st.integers()))
def test_any_structure(value: Any) -> None:
    """With every number behind a future, any structure comes back as it was."""

    def hide(item: Any) -> Any:
        if isinstance(item, int):
            return done(item)
        if isinstance(item, (list, tuple)):
            return type(item)(map(hide, item))
        if isinstance(item, dict):
            return {k: hide(v) for k, v in item.items()}
        return Plain(hide(item.a), hide(item.b))

    hidden = hide(value)
    assert substitute(hidden, value_of) == value
    assert [f.result(0) for f in gather(hidden)] == gather_numbers(value)


def gather_numbers(value: Any) -> list[int]:
    """The numbers of a structure in order; a dict's values after its keys, as the search has it."""
    if isinstance(value, int):
        return [value]
    if isinstance(value, dict):
        return [n for v in value.values() for n in gather_numbers(v)]
    items = (value.a, value.b) if isinstance(value, Plain) else value
    return [n for v in items for n in gather_numbers(v)]
