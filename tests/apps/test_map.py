"""app.map: order, laziness, failures of single items, batches that travel."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import flowlib
from flowlib import Retry, bash_app, python_app
from flowlib.app.batch import Bad, Batch, BatchCall
from flowlib.config import Config
from flowlib.errors import AppAborted, BadStateException, DependencyError, GeneratorResult, SerializationError
from flowlib.executors import InlineExecutor, ThreadPoolExecutor
from flowlib.options import TaskOptions
from tests.apps.fakes import FakeKernel, loaded

DEADLINE = 30


@pytest.fixture(params=["inline", "threads"])
def run(request: pytest.FixtureRequest, run_dir: str) -> Iterator[flowlib.DataFlowKernel]:
    """A run on an executor of this process."""
    executor: Any = InlineExecutor() if request.param == "inline" else ThreadPoolExecutor(max_threads=2)
    with flowlib.load(Config(executors=[executor], run_dir=run_dir)) as kernel:
        yield kernel


@python_app
def inc(x: int) -> int:
    """One more."""
    return x + 1


@python_app
def invert(x: float) -> float:
    """Fails for 0."""
    return 1 / x


@python_app
def add(x: int, y: int) -> int:
    """Of two arguments."""
    return x + y


# --------------------------------------------------------------------------------------------------------- in a run


@pytest.mark.parametrize("chunksize", ["auto", 1, 7, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 500])
@pytest.mark.usefixtures("run")
def test_order(count: int, chunksize: Any) -> None:
    """Values come in the order of the items, each once, whatever the size of a task."""
    assert list(inc.map(range(count), chunksize=chunksize)) == list(range(1, count + 1))


@pytest.mark.usefixtures("run")
def test_several_iterables() -> None:
    """Several iterables give several arguments; the shortest ends it."""
    assert list(add.map([1, 2, 3], itertools.count(10))) == [11, 13, 15]


def test_few_tasks(run: flowlib.DataFlowKernel) -> None:
    """Many short items make few tasks."""
    assert sum(inc.map(range(50_000))) == sum(range(1, 50_001))
    assert run.task_count < 1000


def test_lazy(run: flowlib.DataFlowKernel) -> None:
    """Items are taken as they are needed: an endless iterable is no trouble, and few are taken at the start."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for x in itertools.count():
            taken.append(x)
            yield x

    values = inc.map(items())
    assert len(taken) < 64
    assert list(itertools.islice(values, 10)) == list(range(1, 11))
    assert len(taken) < 100_000
    values.close()
    assert list(values) == []
    assert run.task_count > 0


def test_slow_item_does_not_stop_the_others(run_dir: str) -> None:
    """While one item takes long, those behind it are run."""
    gate, passed = threading.Event(), threading.Semaphore(0)

    @python_app
    def maybe_wait(x: int) -> int:
        if x == 0:
            assert gate.wait(DEADLINE)
        else:
            passed.release()
        return x

    with flowlib.load(Config(executors=[ThreadPoolExecutor(max_threads=2)], run_dir=run_dir)):
        values = maybe_wait.map(range(30), chunksize=1)
        consumer: list[int] = []
        thread = threading.Thread(target=lambda: consumer.extend(values))
        thread.start()
        assert all(passed.acquire(timeout=DEADLINE) for _ in range(29))
        gate.set()
        thread.join(DEADLINE)
    assert consumer == list(range(30))


@pytest.mark.parametrize("chunksize", ["auto", 1, 2, 100])
@pytest.mark.usefixtures("run")
def test_a_bad_item_fails_alone(chunksize: Any) -> None:
    """A failing item raises at its turn, says which it was, and iteration goes on behind it."""
    values = invert.map([1, 2, 0, 4, 0], chunksize=chunksize)
    assert [next(values), next(values)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(values)
    assert caught.value.__notes__ == ["item 2 of invert.map"]
    assert next(values) == 0.25
    with pytest.raises(ZeroDivisionError) as caught:
        next(values)
    assert caught.value.__notes__ == ["item 4 of invert.map"]
    with pytest.raises(StopIteration):
        next(values)


@pytest.mark.parametrize(
    "retries", [2, Retry(2), Retry(2, lost=1, crash=1), Retry({OSError: 2}), Retry(2, backoff=0.001), Retry(2, oom=1)]
)
@pytest.mark.parametrize("chunksize", ["auto", 5])
@pytest.mark.usefixtures("run")
def test_items_are_tried_again_alone(chunksize: Any, retries: Any) -> None:
    """With retries a failing item is tried again, exactly as often as it should be, and no other is."""
    tries: dict[int, int] = {}

    @python_app(retries=retries)
    def flaky(x: int) -> int:
        tries[x] = tries.get(x, 0) + 1
        if (x == 3 and tries[x] < 3) or x == 5:
            raise OSError(x)
        return x

    values = flaky.map(range(8), chunksize=chunksize)
    assert list(itertools.islice(values, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="5"):
        next(values)
    assert list(values) == [6, 7]
    assert tries == {x: 3 if x in (3, 5) else 1 for x in range(8)}


@pytest.mark.parametrize("retries", [Retry(timeout=3, crash=3, oom=3), Retry({KeyError: 3})])
@pytest.mark.usefixtures("run")
def test_items_whose_cause_has_no_budget_are_not_tried_again(retries: Any) -> None:
    """A policy for other failures is none for those that items raise."""
    calls: list[int] = []

    @python_app(retries=retries)
    def bad(x: int) -> int:
        calls.append(x)
        raise OSError(x)

    values = bad.map(range(3), chunksize=3)
    for _ in range(3):
        with pytest.raises(OSError, match=r"\d"):
            next(values)
    assert sorted(calls) == [0, 1, 2]


@pytest.mark.usefixtures("run")
def test_futures_as_items() -> None:
    """Items may be futures; a failed one fails its own item only."""
    items = [inc(0), 5, invert(0.0), inc(7)]
    values = inc.map(items, chunksize=10)
    assert [next(values), next(values)] == [2, 6]
    with pytest.raises(DependencyError):
        next(values)
    assert next(values) == 9


@pytest.mark.usefixtures("run")
def test_iterable_that_fails() -> None:
    """An iterable that raises does so after the values of what it gave before."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    values = inc.map(items(), chunksize=5)
    assert [next(values), next(values)] == [2, 3]
    with pytest.raises(LookupError, match="no more"):
        next(values)
    with pytest.raises(StopIteration):
        next(values)


@pytest.mark.usefixtures("run")
def test_other_kinds_of_functions() -> None:
    """Coroutine functions are run, generators refused, item by item; programs are not ended."""

    @python_app
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @python_app
    def odd(x: int) -> Any:
        if x == 1:
            return (i for i in range(3))
        if x == 2:
            raise SystemExit(3)
        return x

    assert list(later.map(range(4), chunksize=3)) == [1, 2, 3, 4]
    values = odd.map(range(4), chunksize=4)
    assert next(values) == 0
    with pytest.raises(GeneratorResult, match="odd"):
        next(values)
    with pytest.raises(AppAborted, match="SystemExit"):
        next(values)
    assert next(values) == 3


@pytest.mark.usefixtures("run", "in_tmp")
def test_commands_and_remembered_values() -> None:
    """Bash apps, and apps whose values are remembered, run one task for each item."""
    touch = bash_app(lambda name: f"touch {name}")
    assert list(touch.map("abc")) == [0, 0, 0]
    assert sorted(n for n in os.listdir() if len(n) == 1) == ["a", "b", "c"]

    @python_app(cache=True)
    def note(x: int) -> int:
        with open("calls", "a") as f:
            f.write(f"{x}\n")
        return x

    for _ in range(2):
        assert list(note.map([1, 2, 3], chunksize=3)) == [1, 2, 3]
    with open("calls") as f:
        assert sorted(f.read().split()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(((1, 2), "all"), TypeError), (((1, 2), 0), ValueError), (((1, 2), True), TypeError), ((5, 1), TypeError)],
)
@pytest.mark.usefixtures("run")
def test_refused(arguments: Any, error: type[Exception]) -> None:
    """What is no iterable or no size is refused at the call."""
    iterable, chunksize = arguments
    with pytest.raises(error):
        inc.map(iterable, chunksize=chunksize)


def test_method(run: flowlib.DataFlowKernel) -> None:
    """A method maps with its object."""
    assert run.task_count == 0

    class Scale:
        factor = 3

        @python_app
        def scale(self, x: int) -> int:
            return x * self.factor

    assert list(Scale().scale.map(range(5))) == [0, 3, 6, 9, 12]


# ----------------------------------------------------------------------------------------------- with a kernel of ours


class Answering(FakeKernel):
    """Runs batches at once, except those that an item spoils."""

    def __init__(self, error: BaseException, spoilt: Any = None) -> None:
        super().__init__()
        self.error = error
        self.spoilt = spoilt
        self.config = Config(executors=[InlineExecutor()])

    def submit_app(self, app: Any, options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Run it, or fail all of it."""
        future = super().submit_app(app, options, args, kwargs)
        items = args[0] if isinstance(args[0], list) else [args[0]]
        if self.spoilt is None or self.spoilt in items:
            future.set_exception(self.error)
        else:
            future.set_result(app.target(*args))
        return future


@pytest.mark.parametrize("spoilt", [0, 6, 19])
def test_a_lost_batch_is_parted(spoilt: int) -> None:
    """When a task fails as a whole its items are run in smaller ones, until the culprit is alone."""
    kernel = Answering(SerializationError("x"), spoilt)
    with loaded(kernel):
        values = inc.map(range(20), chunksize=20)
        found: list[Any] = []
        for _ in range(20):
            try:
                found.append(next(values))
            except SerializationError:
                found.append("bad")
    assert found == ["bad" if x == spoilt else x + 1 for x in range(20)]
    assert len(kernel.calls) <= 11


def test_what_no_item_is_to_blame_for() -> None:
    """When the executor is broken nothing is tried item by item."""
    kernel = Answering(BadStateException("x", RuntimeError("broken")))
    with loaded(kernel):
        values = inc.map(range(20), chunksize=20)
        for _ in range(20):
            with pytest.raises(BadStateException):
                next(values)
        assert list(values) == []
    assert len(kernel.calls) == 1


def test_walltime_is_per_item() -> None:
    """A walltime belongs to one call: items go alone, or in batches that may take as much longer."""
    kernel = Answering(ValueError(), "none")
    with loaded(kernel):
        timed = inc.options(walltime=10)
        assert list(timed.map(range(3))) == [1, 2, 3]
        assert [(c.args, c.options.walltime) for c in kernel.calls] == [((0,), 10), ((1,), 10), ((2,), 10)]
        kernel.calls.clear()
        assert list(timed.map(range(3), chunksize=3)) == [1, 2, 3]
    assert [c.options.walltime for c in kernel.calls] == [30]


def test_one_function_is_sent_once() -> None:
    """All batches of an app, also of several maps, have the same target."""
    kernel = Answering(ValueError(), "none")
    with loaded(kernel):
        list(inc.map(range(5), chunksize=1))
        list(inc.map(range(5), chunksize=1))
    assert len({id(c.app.target) for c in kernel.calls}) == 1


# ------------------------------------------------------------------------------------------------- between processes


class Unpicklable:
    """Cannot be sent."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle of me")


def send(batch: Batch) -> list[Any]:
    """The values of a batch at the other end."""
    again: Batch = pickle.loads(pickle.dumps(batch))
    assert again.count == batch.count
    return again.values()


def test_values_travel() -> None:
    """The values of a batch are the same at the other end."""
    values: list[Any] = [1, "x", [None], {"a": 1.5}, *range(100)]
    assert send(BatchCall(lambda x: x, "same")(values, False)) == values


def test_failures_travel() -> None:
    """A failure arrives as the exception it was, with its remote traceback."""
    values = send(BatchCall(lambda x: 1 / x, "invert")([1, 0, 2], False))
    assert (values[0], values[2]) == (1.0, 0.5)
    assert type(values[1]) is Bad
    assert isinstance(values[1].error, ZeroDivisionError)
    assert "1 / x" in str(values[1].error.__cause__)


def test_unpicklable_value_fails_alone() -> None:
    """One value that cannot be pickled is a failure; its neighbours arrive."""
    values = send(BatchCall(lambda x: Unpicklable() if x == 1 else x, "some")([0, 1, 2], False))
    assert (values[0], values[2]) == (0, 2)
    assert isinstance(values[1].error, SerializationError)
    assert "no pickle of me" in str(values[1].error)


def test_call_travels() -> None:
    """The function goes with the call."""
    again = pickle.loads(pickle.dumps(BatchCall(abs, "abs")))
    assert (again.name, again([-1, 2], False).values()) == ("abs", [1, 2])
