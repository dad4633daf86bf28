"""Join apps: work that is decided while the workflow runs."""

from __future__ import annotations

from typing import Any

import pytest

from flowlib import bash_app, join_app, python_app
from flowlib.errors import DependencyError, JoinError

DEADLINE = 30


@python_app
def inc(x: int) -> int:
    """One more."""
    return x + 1


@python_app
def add(*numbers: int) -> int:
    """A sum."""
    return sum(numbers)


@python_app
def fail(message: str) -> None:
    """Fails."""
    raise ValueError(message)


@join_app
def fibonacci(n: int) -> Any:
    """Fibonacci numbers by recursion."""
    if n < 2:
        return add(n)
    return add(fibonacci(n - 1), fibonacci(n - 2))


def test_join_one() -> None:
    """The value of a join app is the value of the future it returns."""

    @join_app
    def outer(x: int) -> Any:
        return inc(inc(x))

    assert outer(1).result(DEADLINE) == 3


def test_join_list() -> None:
    """A list of futures becomes a list of values; an empty one stays empty."""

    @join_app
    def outer(n: int) -> Any:
        return [inc(i) for i in range(n)]

    assert outer(5).result(DEADLINE) == [1, 2, 3, 4, 5]
    assert outer(0).result(DEADLINE) == []


def test_recursion() -> None:
    """Join apps recurse without holding a worker."""
    assert fibonacci(11).result(DEADLINE) == 89


@pytest.mark.parametrize("value", [3, "text", None, [1, 2], {"a": 1}], ids=repr)
def test_wrong_return(value: Any) -> None:
    """Anything but futures is refused with what was returned."""

    @join_app
    def outer() -> Any:
        return value

    with pytest.raises(TypeError, match="join_app"):
        outer().result(DEADLINE)


def test_failed_inner() -> None:
    """All failed futures of a join are listed; the cause is the first."""

    @join_app
    def outer() -> Any:
        return [inc(1), fail("one"), fail("two")]

    with pytest.raises(JoinError) as caught:
        outer().result(DEADLINE)
    assert len(caught.value.dependent_exceptions_tids) == 2
    assert isinstance(caught.value.__cause__, ValueError)


def test_body_raises() -> None:
    """A body that raises fails the join with that exception."""

    @join_app
    def outer() -> Any:
        raise LookupError("in the body")

    with pytest.raises(LookupError, match="in the body"):
        outer().result(DEADLINE)


def test_dependency_of_join() -> None:
    """A join app waits for its arguments and fails with them."""

    @join_app
    def outer(x: int) -> Any:
        return inc(x)

    assert outer(inc(1)).result(DEADLINE) == 3
    with pytest.raises(DependencyError):
        outer(fail("before")).result(DEADLINE)


def test_join_of_bash() -> None:
    """Join apps launch bash apps as well."""

    @bash_app
    def command(text: str) -> str:
        return text

    @join_app
    def outer() -> Any:
        return [command("true"), command("true")]

    assert outer().result(DEADLINE) == [0, 0]


def test_many_joins_at_once() -> None:
    """More joins wait at once than there are threads for their bodies."""

    @join_app
    def outer(x: int) -> Any:
        return inc(x)

    futures = [outer(i) for i in range(100)]
    assert [f.result(DEADLINE) for f in futures] == list(range(1, 101))
