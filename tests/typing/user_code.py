"""What users write, as type checkers see it: never run, but checked by mypy --strict and by pyright.

Every line that must be refused says so by an ignore comment, and both checkers complain about comments that are not
needed: so this file is clean exactly if what is right passes and what is wrong does not.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, as_completed, wait
from pathlib import Path

from typing_extensions import assert_type

import flowlib
from flowlib import AUTO_LOGNAME, App, AppFuture, File, bash_app, join_app, python_app
from flowlib.app.errors import BashExitFailure


@python_app
def mean(values: list[float], weight: float = 1.0) -> float:
    """A mean."""
    return weight * sum(values) / len(values)


@python_app(executors=["gpu"], cache=True, walltime="2h30m", retries=2, resources={"memory": "8GB"})
def name(index: int, prefix: str = "x") -> str:
    """A name."""
    return f"{prefix}{index}"


@python_app(retries=flowlib.Retry(error={OSError: 3, "zmq.error.Again": 1}, oom=2, memory="x2", backoff="1s"))
async def fetch(url: str) -> bytes:
    """Something awaited."""
    await asyncio.sleep(0)
    return url.encode()


@bash_app
def count(inputs: list[File] = [], stdout: str | None = None) -> str:  # noqa: B006  # as users write
    """A command."""
    return f"wc -l {inputs[0]}"


@bash_app(workdir="task", walltime=60)
def plain(word: str) -> str:
    """Another."""
    return f"echo {word}"


@join_app
def one(n: int) -> AppFuture[str]:
    """Joins one future."""
    return name(n)


@join_app
def many(n: int) -> list[AppFuture[str]]:
    """Joins several."""
    return [name(i) for i in range(n)]


@join_app(cache=True)
def nested(n: int) -> AppFuture[list[str]]:
    """Joins a join."""
    return many(n)


class Model:
    """A class with an app as a method."""

    @python_app
    def step(self, by: int) -> Model:
        """One step."""
        return self


def values() -> None:
    """Types survive decoration."""
    plain_app: App[[str], int] = plain
    assert_type(mean([1.0, 2.0]), AppFuture[float])
    assert_type(mean([1.0, 2.0], weight=2.0), AppFuture[float])
    assert_type(mean([1.0]).result(), float)
    assert_type(name(1, "y").result(timeout=3), str)
    assert_type(fetch("x").result(), bytes)
    assert_type(count(), AppFuture[int])
    assert_type(plain("x").result(), int)
    assert_type(one(1), AppFuture[str])
    assert_type(many(3).result(), list[str])
    assert_type(nested(3).result(), list[str])
    assert_type(Model().step(3).result(), Model)
    assert_type(plain_app("x").result(), int)
    assert_type(name.options(priority=3)(1), AppFuture[str])
    assert_type(python_app(len)("abc"), AppFuture[int])
    assert_type(python_app(lambda: 2)().result(), int)


def futures() -> None:
    """A future may stand where a value is declared."""
    first = name(1)
    assert_type(name(python_app(len)(first)), AppFuture[str])
    assert_type(mean([mean([1.0]), mean([2.0])]), AppFuture[float])
    assert_type(name(2, first), AppFuture[str])
    foreign: Future[int] = Future()
    assert_type(name(foreign), AppFuture[str])
    assert_type(Model().step(python_app(len)("x")), AppFuture[Model])
    done, _ = wait([first, name(2)])
    for future in as_completed([first]):
        assert_type(future.result(), str)
    print(done, first.tid, first.stdout, first.outputs[0].filepath, first["x"].result())


def special() -> None:
    """Special keywords are taken whether or not the function declares them."""
    count(inputs=[File("a")], stdout=AUTO_LOGNAME)
    plain("x", stdout=("out.txt", "w"), stderr=Path("err.txt"))
    plain("x", stdout=File("out.txt"))
    name(1, walltime=30)
    name(1, walltime="30s", label="mine")
    name(1, flowlib_resource_specification={"priority": 1})


async def awaited() -> str:
    """Futures can be awaited."""
    return await name(1)


def mapped() -> Iterator[str]:
    """The values of map have the app's type."""
    for value in name.map(range(10)):
        assert_type(value, str)
    assert_type(list(Model().step.map([1, 2])), list[Model])
    return name.map([1, 2], ["a", "b"], chunksize=10)


def surroundings() -> None:
    """The rest of the public names."""
    with flowlib.load() as kernel, flowlib.defaults(retries=flowlib.Retry(2, lost=1)):
        assert_type(kernel.task_count, int)
    try:
        plain("x").result()
    except BashExitFailure as e:
        assert_type(e.exitcode, int)
    assert_type(flowlib.current().task_id, int)
    assert_type(flowlib.current().remaining, float | None)


def refused() -> None:
    """What is wrong is an error."""
    mean("text")  # type: ignore[arg-type]
    mean()  # type: ignore[call-overload]
    mean([1.0], wieght=2.0)  # type: ignore[list-item]
    name("1")  # type: ignore[arg-type]
    name(1, prefix=2)  # type: ignore[call-overload]
    name(1, 2, 3)  # type: ignore[call-overload]
    Model().step()  # type: ignore[call-overload]
    Model().step("1")  # type: ignore[arg-type]
    python_app(cach=True)  # type: ignore[call-overload]
    python_app(5)  # type: ignore[call-overload]
    name.options(retires=1)  # type: ignore[call-arg]
    join_app(executors=3)  # type: ignore[call-overload]
    text: int = name(1).result()  # type: ignore[assignment]
    print(text)
