"""Remembering values: within a run, across runs, and what makes two calls equal."""

from __future__ import annotations

import enum
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from flowlib.dataflow.kernel import DataFlowKernel, Function
from flowlib.dataflow.memoization import BasicMemoizer, get_all_checkpoints, get_last_checkpoint, id_for_memo
from flowlib.errors import BadCheckpoint, ConfigurationError
from flowlib.options import TaskOptions
from tests.kernel.conftest import MakeKernel

DEADLINE = 20
CALLS: list[Any] = []


def square(x: int, note: str = "") -> int:
    """A square; tells that it ran."""
    CALLS.append(x)
    return x * x


def broken(x: int) -> int:
    """Fails; tells that it ran."""
    CALLS.append(x)
    raise ValueError(x)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    """Each test counts from nothing."""
    CALLS.clear()


def run(kernel: DataFlowKernel, func: Any, *args: Any, **kwargs: Any) -> Any:
    """The value of a remembered call."""
    return kernel.submit(func, args, cache=True, ignore_for_cache=["note"], app_kwargs=kwargs).result(DEADLINE)


def test_equal_calls_run_once(kernel: DataFlowKernel) -> None:
    """Equal calls run once, ignored arguments aside; a remembered task says so."""
    assert [run(kernel, square, 3), run(kernel, square, 3, note="other"), run(kernel, square, 4)] == [9, 9, 16]
    assert CALLS == [3, 4]
    future = kernel.submit(square, [3], cache=True)
    assert future.result(DEADLINE) == 9
    assert future.task_status() == "memo_done"
    assert future.task_record["from_memo"] is True
    assert kernel.submit(square, [3]).result(DEADLINE) == 9
    assert CALLS == [3, 4, 3]


def test_values_of_futures_count(kernel: DataFlowKernel) -> None:
    """The key is made of values, not of the futures that brought them."""
    first = kernel.submit(abs, [-3])
    assert run(kernel, square, first) == 9
    assert run(kernel, square, 3) == 9
    assert CALLS == [3]


def test_failures_are_remembered_in_the_run(make_kernel: MakeKernel) -> None:
    """With Parsl's memoizer a failed call fails again without running."""
    kernel = make_kernel(memoizer=BasicMemoizer())
    for _ in range(2):
        with pytest.raises(ValueError, match="5"):
            run(kernel, broken, 5)
    assert CALLS == [5]


def test_failures_are_not_kept(kernel: DataFlowKernel) -> None:
    """By default a failed call runs again."""
    for _ in range(2):
        with pytest.raises(ValueError, match="5"):
            run(kernel, broken, 5)
    assert CALLS == [5, 5]


def test_argument_without_key(kernel: DataFlowKernel) -> None:
    """An argument that has no key fails the task and names the type and the way out."""
    with pytest.raises(ValueError, match=r"object.*ignore_for_cache"):
        run(kernel, square, object())


def test_version_is_part_of_the_key(kernel: DataFlowKernel) -> None:
    """A new version of an app does not take values of the old one."""
    for version in (1, 1, 2):
        options = TaskOptions(cache=True, version=version)
        assert kernel.submit_app(Function(square), options, (6,), {}).result(DEADLINE) == 36
    assert CALLS == [6, 6]


def test_joins_are_remembered(kernel: DataFlowKernel) -> None:
    """The value of a join is remembered like any other."""

    def both(n: int) -> Any:
        CALLS.append(n)
        return [kernel.submit(abs, [-n]), kernel.submit(abs, [n])]

    for _ in range(2):
        assert kernel.submit(both, [4], cache=True, join=True).result(DEADLINE) == [4, 4]
    assert CALLS == [4]


@pytest.mark.parametrize("mode", ["task_exit", "dfk_exit", "manual", "periodic"])
def test_checkpoints(make_kernel: MakeKernel, tmp_path: Path, mode: Any) -> None:
    """Values of one run are known to the next, in every mode."""
    runs = str(tmp_path / "runinfo")
    first = make_kernel(memoizer=BasicMemoizer(checkpoint_mode=mode))
    assert run(first, square, 7) == 49
    if mode == "task_exit":
        assert os.path.getsize(os.path.join(first.run_dir, "checkpoint", "tasks.pkl")) > 0
    if mode == "manual":
        memoizer = first.memoizer
        assert isinstance(memoizer, BasicMemoizer)
        assert memoizer.checkpoint() == os.path.join(first.run_dir, "checkpoint")
    first.cleanup()
    second = make_kernel(memoizer=BasicMemoizer(checkpoint_files=get_last_checkpoint(runs)))
    assert run(second, square, 7) == 49
    assert CALLS == [7]
    assert get_all_checkpoints(runs) == [os.path.join(first.run_dir, "checkpoint")]


def test_torn_checkpoint(make_kernel: MakeKernel) -> None:
    """A file that ends in the middle of a record gives all records before it."""
    first = make_kernel(memoizer=BasicMemoizer(checkpoint_mode="task_exit"))
    for x in (1, 2, 3):
        run(first, square, x)
    path = os.path.join(first.run_dir, "checkpoint", "tasks.pkl")
    size = os.path.getsize(path)
    os.truncate(path, size - 3)
    memoizer = BasicMemoizer(checkpoint_files=[os.path.dirname(path)])
    with pytest.warns(UserWarning, match="2 values"):
        second = make_kernel(memoizer=memoizer)
    assert [run(second, square, x) for x in (1, 2, 3)] == [1, 4, 9]
    assert CALLS == [1, 2, 3, 3]


def test_bad_checkpoints(make_kernel: MakeKernel, tmp_path: Path) -> None:
    """A file that is missing or is something else is an error that names it."""
    (tmp_path / "tasks.pkl").write_bytes(pickle.dumps("no record"))
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadCheckpoint, match=r"tasks\.pkl"):
            make_kernel(memoizer=BasicMemoizer(checkpoint_files=[str(directory)]))


def test_checkpoint_of_a_run_without_values(make_kernel: MakeKernel) -> None:
    """A run that had nothing to write left no file, and the next one may name its checkpoint all the same."""
    first = make_kernel(memoizer=BasicMemoizer(checkpoint_mode="task_exit"))
    first.cleanup()
    memoizer = BasicMemoizer(checkpoint_files=[os.path.join(first.run_dir, "checkpoint")])
    assert run(make_kernel(memoizer=memoizer), square, 2) == 4


def test_value_that_cannot_be_written(make_kernel: MakeKernel) -> None:
    """A value that cannot be pickled is still the task's value, and the others are written."""
    kernel = make_kernel(memoizer=BasicMemoizer(checkpoint_mode="task_exit"))
    assert callable(kernel.submit(lambda: lambda: 1, [], cache=True).result(DEADLINE))
    assert run(kernel, square, 2) == 4


def test_memoizer_arguments() -> None:
    """An unknown mode or period is refused."""
    with pytest.raises(ConfigurationError, match="task_exit"):
        BasicMemoizer(checkpoint_mode="taskexit")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="HH:MM:SS"):
        BasicMemoizer(checkpoint_mode="periodic", checkpoint_period="often")


class Colour(enum.Enum):
    """A type of the user's."""

    RED = 1
    BLUE = 2


def test_keys_differ() -> None:
    """Different values, and equal ones of different types, have different keys; order in sets and dicts is no matter."""
    values = [
        *(
            1,
            1.0,
            True,
            "1",
            b"1",
            None,
            [1],
            (1,),
            {1},
            frozenset({1}),
            {1: 1},
            [[1], 2],
            [1, [2]],
            ["ab"],
            ["a", "b"],
        ),
        *(Colour.RED, Colour.BLUE, range(3), int, float, square, broken, abs, complex(1), -0.0, 0.0),
        *(lambda x: x + 1, lambda x: x + 2),
    ]
    assert len({id_for_memo(value) for value in values}) == len(values)
    assert id_for_memo({1: 2, 3: 4}) == id_for_memo({3: 4, 1: 2})
    assert id_for_memo({"a", "b", "c"}) == id_for_memo({"c", "b", "a"})


def test_functions_count_by_what_they_do() -> None:
    """A function is the same when it does the same, wherever it stands; its closure is part of it."""

    def make(n: int) -> Any:
        def inner(x: int) -> int:
            return x + n

        return inner

    assert id_for_memo(make(1)) == id_for_memo(make(1))
    assert id_for_memo(make(1)) != id_for_memo(make(2))
