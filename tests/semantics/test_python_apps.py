"""Python apps: arguments, values, failures, dependencies."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import os
from collections import namedtuple
from typing import Any

import pytest

import flowlib
from flowlib import python_app
from flowlib.errors import AppAborted, DependencyError, GeneratorResult

DEADLINE = 30


class TwoArguments(Exception):
    """An exception that pickle cannot rebuild by itself."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b

    def __reduce__(self) -> Any:
        return (TwoArguments, (self.a, self.b))


@dataclasses.dataclass
class Pair:
    """A dataclass that futures hide in."""

    left: Any
    right: Any


Point = namedtuple("Point", "x y")  # noqa: PYI024  # the plain kind is what users have


@python_app
def inc(x: int) -> int:
    """One more."""
    return x + 1


@python_app
def add(*numbers: int, start: int = 0) -> int:
    """A sum."""
    return sum(numbers, start)


@python_app
def echo(value: Any, **more: Any) -> Any:
    """Its argument, and the keywords if there are any."""
    return (value, more) if more else value


@python_app
def fail(message: str = "boom") -> None:
    """Fails."""
    raise ValueError(message)


def test_value() -> None:
    """A call returns a future of the function's value."""
    assert inc(1).result(DEADLINE) == 2


def test_many() -> None:
    """Many calls keep their results apart."""
    futures = [inc(i) for i in range(300)]
    assert [f.result(DEADLINE) for f in futures] == list(range(1, 301))


def test_chain() -> None:
    """Futures passed as arguments become their values."""
    future = inc(0)
    for _ in range(50):
        future = inc(future)
    assert future.result(DEADLINE) == 51


def test_fan_in() -> None:
    """One task waits for many, by position and keyword."""
    assert add(*[inc(i) for i in range(100)], start=inc(0)).result(DEADLINE) == 5051


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda f: [f, [f]], [1, [1]]),
        (lambda f: (f, {"k": f}), (1, {"k": 1})),
        (lambda f: {f: {2}}, {1: {2}}),
        (lambda f: {"s": {f, 5}}, {"s": {1, 5}}),
        (lambda f: Pair(f, [f]), Pair(1, [1])),
        (lambda f: Point(f, 2), Point(1, 2)),
    ],
    ids=["list", "tuple", "key", "set", "dataclass", "namedtuple"],
)
def test_futures_at_any_depth(make: Any, expected: Any) -> None:
    """Futures are found in containers, however deep."""
    value = echo(make(inc(0))).result(DEADLINE)
    assert repr(value) == repr(expected)


def test_caller_containers_are_left_alone() -> None:
    """Resolution works on copies: the caller's list still holds the future."""
    future = inc(0)
    given = [future, 7]
    assert echo(given).result(DEADLINE) == [1, 7]
    assert given == [future, 7]


def test_exception_is_itself() -> None:
    """A user's exception arrives as the class that was raised, with its attributes."""
    with pytest.raises(ValueError, match="boom"):
        fail().result(DEADLINE)

    @python_app
    def raise_two() -> None:
        raise TwoArguments(1, 2)

    with pytest.raises(TwoArguments) as caught:
        raise_two().result(DEADLINE)
    assert (caught.value.a, caught.value.b) == (1, 2)


def test_cause_is_kept() -> None:
    """The cause of an exception arrives with it."""

    @python_app
    def wrapped() -> None:
        try:
            raise KeyError("inner")
        except KeyError as e:
            raise RuntimeError("outer") from e

    error = wrapped().exception(DEADLINE)
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, KeyError)


def test_dependency_failure_names_the_root() -> None:
    """Tasks behind a failed one never run; their error leads to the root cause."""
    first = fail("root of it")
    last = inc(inc(first))
    with pytest.raises(DependencyError) as caught:
        last.result(DEADLINE)
    assert isinstance(caught.value.__cause__, ValueError)
    assert "root of it" in str(caught.value)
    assert last.task_status() == "dep_fail"


def test_dependency_failure_at_depth() -> None:
    """A failed future inside a container fails the call too."""
    with pytest.raises(DependencyError):
        echo([{"deep": fail()}]).result(DEADLINE)


def test_failure_leaves_siblings_alone() -> None:
    """One failing task among many harms none of them."""
    futures = [fail() if i == 10 else inc(i) for i in range(20)]
    results = [f.exception(DEADLINE) for f in futures]
    assert [i for i, e in enumerate(results) if e is not None] == [10]


def test_foreign_future() -> None:
    """Any concurrent.futures.Future is a dependency."""
    foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
    ours = inc(foreign)
    assert not ours.done()
    foreign.set_result(41)
    assert ours.result(DEADLINE) == 42


def test_failed_foreign_future() -> None:
    """A failed foreign future is a failed dependency."""
    foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
    ours = inc(foreign)
    foreign.set_exception(OSError("gone"))
    with pytest.raises(DependencyError) as caught:
        ours.result(DEADLINE)
    assert isinstance(caught.value.__cause__, OSError)


def test_closure_and_lambda() -> None:
    """Closures, lambdas and partials are apps like others."""
    offset = 10

    def local(x: int) -> int:
        return x + offset

    assert python_app(local)(1).result(DEADLINE) == 11
    assert python_app(lambda x: x * offset)(2).result(DEADLINE) == 20
    part = functools.partial(pow, 2)
    functools.update_wrapper(part, pow)
    assert python_app(part)(5).result(DEADLINE) == 32


def test_builtin_and_callable_object() -> None:
    """Builtins, methods and callable objects are apps too."""

    class Times:
        def __init__(self, factor: int) -> None:
            self.factor = factor
            self.__name__ = "times"

        def __call__(self, x: int) -> int:
            return x * self.factor

        def method(self, x: int) -> int:
            return x - self.factor

    assert python_app(len)([1, 2, 3]).result(DEADLINE) == 3
    assert python_app(Times(3))(4).result(DEADLINE) == 12
    assert python_app(Times(3).method)(4).result(DEADLINE) == 1


def test_coroutine_function() -> None:
    """An async function is an app whose value is what it returns."""

    @python_app
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert later(1).result(DEADLINE) == 2


def test_generator_is_refused() -> None:
    """A generator cannot be a result, and the error says so."""

    @python_app
    def numbers() -> Any:
        return (i for i in range(3))

    with pytest.raises(GeneratorResult, match="generator"):
        numbers().result(DEADLINE)


@pytest.mark.parametrize(
    "escape", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=lambda e: type(e).__name__
)
def test_base_exceptions_end_only_the_task(escape: BaseException) -> None:
    """sys.exit and alike fail the task with AppAborted; the next task runs."""

    @python_app
    def leave(kind: str) -> None:
        raise {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt(), "GeneratorExit": GeneratorExit()}[
            kind
        ]

    with pytest.raises(AppAborted, match=type(escape).__name__):
        leave(type(escape).__name__).result(DEADLINE)
    assert inc(1).result(DEADLINE) == 2


def test_lifted_item_and_attribute() -> None:
    """fut[k] and fut.attr are futures of the parts."""

    @python_app
    def table() -> Any:
        return {"a": [1, 2, {"deep": 3}], "z": 1 + 2j}

    future = table()
    assert future["a"][2]["deep"].result(DEADLINE) == 3
    assert future["z"].real.result(DEADLINE) == 1.0
    assert inc(future["a"][0]).result(DEADLINE) == 2
    with pytest.raises(KeyError):
        future["missing"].result(DEADLINE)
    assert not hasattr(future, "_private")


def test_wait_and_as_completed() -> None:
    """The stdlib's helpers work on app futures."""
    futures = [inc(i) for i in range(20)]
    done, pending = concurrent.futures.wait(futures, timeout=DEADLINE)
    assert (len(done), len(pending)) == (20, 0)
    again = [inc(i) for i in range(20)]
    assert sorted(f.result() for f in concurrent.futures.as_completed(again, timeout=DEADLINE)) == list(range(1, 21))


def test_await() -> None:
    """App futures can be awaited, alone and gathered."""

    async def main() -> list[int]:
        one = await inc(1)
        more = await asyncio.gather(*[asyncio.wrap_future(inc(i)) for i in range(5)])
        return [one, *more]

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE)) == [2, 1, 2, 3, 4, 5]


def test_done_callback_may_block() -> None:
    """A callback may wait for another task without stalling anything."""
    seen: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = inc(1)
    future.add_done_callback(lambda f: seen.set_result(inc(f).result(DEADLINE)))
    assert seen.result(DEADLINE) == 3


def test_iteration_is_refused_with_a_hint() -> None:
    """Iterating over a future or testing membership says what to do instead."""
    future = inc(1)
    with pytest.raises(TypeError, match="result"):
        iter(future)
    with pytest.raises(TypeError, match="result"):
        assert 1 in future
    future.result(DEADLINE)


def test_current_inside_a_task() -> None:
    """A running task knows who it is; outside there is no task."""

    @python_app
    def who() -> tuple[int, int]:
        context = flowlib.current()
        return context.task_id, context.attempt

    future = who()
    assert future.result(DEADLINE) == (future.tid, 0)
    with pytest.raises(RuntimeError, match="task"):
        flowlib.current()


def test_task_directory() -> None:
    """A task's temporary directory exists while it runs and is gone afterwards."""

    @python_app
    def use() -> tuple[str, bool]:
        path = flowlib.current().tmpdir
        return str(path), os.path.isdir(path)

    path, existed = use().result(DEADLINE)
    assert existed
    assert not os.path.exists(path)


def test_options_per_call() -> None:
    """options() returns a changed app and leaves the original alone."""
    changed = inc.options(retries=2)
    assert changed(1).result(DEADLINE) == 2
    assert inc(1).result(DEADLINE) == 2
    with pytest.raises(TypeError, match="retries"):
        inc.options(retrys=2)


def test_large_argument_and_result() -> None:
    """Megabytes pass both ways unharmed."""
    blob = os.urandom(3_000_000)
    assert echo(blob).result(DEADLINE) == blob


def test_map_in_order() -> None:
    """map() yields values in the order of its input."""
    assert list(inc.map(range(1000))) == list(range(1, 1001))


def test_map_reports_the_bad_item() -> None:
    """One bad item fails only itself."""

    @python_app
    def invert(x: int) -> float:
        return 1 / x

    values = iter(invert.map([1, 2, 0, 4]))
    assert [next(values), next(values)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(values)
