"""Large values mean the same on every executor, as references, arguments, results and parts of results."""

from __future__ import annotations

from typing import Any

import pytest

import flowlib
from flowlib import join_app, python_app

np = pytest.importorskip("numpy")

DEADLINE = 30.0
MANY = 300_000


@python_app
def ones(size: int, value: float = 1.0) -> Any:
    """An array."""
    import numpy as np

    return np.full(size, value)


@python_app
def total(value: Any) -> float:
    """The sum of what is in there."""
    if isinstance(value, dict):
        value = [*value.values()]
    return sum(map(float, (part.sum() for part in value))) if isinstance(value, (list, tuple)) else float(value.sum())


@python_app
def pair(size: int) -> Any:
    """Two arrays in a dictionary."""
    import numpy as np

    return {"one": np.ones(size), "two": np.full(size, 2.0)}


@join_app
def later(ref: Any) -> Any:
    """Passes a reference on, or a value."""
    return total(ref)


def test_references_as_arguments() -> None:
    """An app gets the value of a reference, by itself, in containers and as keyword; a join app can pass it on."""
    ref = flowlib.put(np.ones(MANY))
    assert total(ref).result(DEADLINE) == MANY
    assert total([ref, (ref, ref)[0]]).result(DEADLINE) == 2 * MANY
    assert total(value={"a": ref}).result(DEADLINE) == MANY
    assert later(ref).result(DEADLINE) == MANY
    assert float(ref.result().sum()) == MANY and ref.done() and not ref.cancelled() and ref.exception() is None


def test_large_results_as_arguments() -> None:
    """Results go on to other tasks, whole, in containers and in part, and come to the script as often as it asks."""
    made, both = ones(MANY, 3.0), pair(MANY)
    assert total([made, both["two"], ones(10)]).result(DEADLINE) == 5 * MANY + 10
    assert total(both).result(DEADLINE) == 3 * MANY
    assert float(made.result(DEADLINE)[-1]) == 3.0 and made.result() is made.result()
    made.result()[0] = 7
    assert float(both["one"].result(DEADLINE).sum()) == MANY


def test_large_arguments_as_they_are() -> None:
    """An array that is given to a task as it is may be changed before the next."""
    array = np.ones(MANY)
    assert total(array).result(DEADLINE) == MANY
    array[0] = 0
    assert total({"x": array}).result(DEADLINE) == MANY - 1


def test_remembered_by_value() -> None:
    """A memoized app knows equal content again, however it came."""
    calls = python_app(cache=True)(_count)
    ref = flowlib.put(np.ones(MANY))
    assert calls(ref).result(DEADLINE) == calls(np.ones(MANY)).result(DEADLINE) == calls(ones(MANY)).result(DEADLINE)


def _count(array: Any) -> tuple[float, int]:
    import uuid

    return float(array.sum()), uuid.uuid4().int


def test_awaiting_and_waiting() -> None:
    """A reference is a future that is done, for the standard library's helpers as well."""
    import asyncio
    from concurrent.futures import as_completed, wait

    ref = flowlib.put([1, 2, 3])
    made = ones(MANY)
    assert wait([ref, made], DEADLINE).done == {ref, made}
    assert {*as_completed([ref, made], DEADLINE)} == {ref, made}

    async def both() -> tuple[Any, Any]:
        return await ref, await made

    numbers, array = asyncio.run(both())
    assert numbers == [1, 2, 3] and array.sum() == MANY
    called: list[Any] = []
    ref.add_done_callback(called.append)
    assert called == [ref]
