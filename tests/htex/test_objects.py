"""Large objects with real processes: stored once, mapped privately, left where they were made, freed with the last use."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib import python_app
from flowlib.config import Config
from flowlib.errors import DeserializationError, NoDataFlowKernelError, SerializationError
from flowlib.executors import HighThroughputExecutor, InlineExecutor, ThreadPoolExecutor
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.objects import Objects
from flowlib.providers import LocalProvider
from flowlib.store.home import HOME
from tests.faults.processes import find

np = pytest.importorskip("numpy")

DEADLINE = 30.0
MB = 1 << 20

Loader = Callable[..., AbstractContextManager[flowlib.DataFlowKernel]]

WAYS = ("short", "zmq", "pieces")
"""Managers of this machine by a Unix socket; by ZeroMQ with CURVE; and so that nothing can be opened, all is sent."""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loader]:
    """Loads a kernel with a high-throughput executor."""

    @contextmanager
    def load(way: str = "short", blocks: int = 1, workers: int = 2, **options: Any) -> Iterator[flowlib.DataFlowKernel]:
        executor = HighThroughputExecutor(
            label="objects",
            address="127.0.0.1",
            max_workers_per_node=workers,
            provider=LocalProvider(init_blocks=blocks, min_blocks=blocks, max_blocks=blocks),
            **options,
        )
        executor.short_way = way == "short"
        if way == "pieces":
            monkeypatch.setattr(HOME, "host", "elsewhere")
        with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path / "runinfo"))) as dfk:
            yield dfk

    yield load
    # The test's own variables are gone by now.
    gc.collect()
    assert not len(HOME), "objects are left in the table"


def until(condition: Callable[[], object], what: str) -> None:
    """Returns when something is true."""
    deadline, ticker = time.monotonic() + DEADLINE, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        ticker.wait(0.01)


def objects_in(pid: int) -> list[str]:
    """The stored objects that a process has open."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if "flowlib-object-" in name:
            found.append(name)
    return found


def managers() -> list[int]:
    """Their processes."""
    return [process.pid for process in find("manager")]


@dataclass
class Model:
    """Something with an array in it."""

    name: str
    weights: Any


@python_app
def add(array: Any, amount: float = 0.0) -> tuple[float, float]:
    """First and last element, after the first was changed in place."""
    before = float(array[0])
    array[0] += amount + 1
    return before, float(array[0])


@python_app
def total(*parts: Any, **named: Any) -> float:
    """The sum of arrays in all kinds of containers."""
    found = 0.0
    stack = [*parts, *named.values()]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack += part.values()
        elif isinstance(part, (list, tuple)):
            stack += part
        elif hasattr(part, "weights"):
            stack.append(part.weights)
        else:
            found += float(part.sum())
    return found


@python_app
def make(size: int, value: float = 1.0) -> Any:
    """An array."""
    import numpy as np

    return np.full(size, value)


@python_app
def which_manager(*used: Any) -> int:
    """The parent of this worker's template."""
    import psutil

    return psutil.Process().parent().parent().pid  # type: ignore[union-attr]


@python_app
def length(data: Any) -> tuple[str, int]:
    """Kind and size."""
    return type(data).__name__, len(data)


# ------------------------------------------------------------------------------------------------------------- put


@pytest.mark.parametrize("way", WAYS)
def test_put_is_stored_once_and_nobody_sees_what_a_task_writes(loaded: Loader, way: str) -> None:
    """A hundred tasks write into the array that was put: each finds it as it was put, and so does the script."""
    with loaded(way) as _:
        array = np.ones(3 * MB // 8)
        ref = flowlib.put(array)
        array[0] = 99
        assert {add(ref).result(DEADLINE) for _ in range(100)} == {(1.0, 2.0)}
        assert float(ref.result()[0]) == 1.0 and ref.get() is ref.result()
        assert len(HOME) == 1 and [len(objects_in(pid)) for pid in managers()] == [1]
        del ref
        until(lambda: not any(map(objects_in, managers())), "the manager keeps what nobody refers to")
        assert not len(HOME) and not HOME.used


@pytest.mark.parametrize("way", WAYS)
def test_references_at_any_depth(loaded: Loader, way: str) -> None:
    """A reference may be anywhere in the arguments, several times, beside values and futures; the task gets values."""
    with loaded(way):
        one, two = flowlib.put(np.ones(200_000)), flowlib.put(Model("m", np.full(300_000, 2.0)))
        nested = {"a": [one, (two, {"b": one})], "c": make(200_000), "d": np.ones(200_000)}
        assert total(nested, [one], last=Model("n", one)).result(DEADLINE) == 1_800_000
        assert one.done() and "MB" in repr(one)
        small = flowlib.put({"k": [1, 2]})
        assert flowlib.put(small) is small
        assert length(small).result(DEADLINE) == ("dict", 1)


def test_put_of_what_has_no_buffers(loaded: Loader) -> None:
    """Bytes, text and nested lists can be put as well, classes of the script too, and what cannot be sent is refused."""
    with loaded():
        data = bytes(3 * MB)
        assert length(flowlib.put(data)).result(DEADLINE) == ("bytes", 3 * MB)
        assert length(flowlib.put(bytearray(data))).result(DEADLINE) == ("bytearray", 3 * MB)
        assert length(flowlib.put("x" * MB)).result(DEADLINE) == ("str", MB)
        assert length(flowlib.put([{"n": n} for n in range(1000)])).result(DEADLINE) == ("list", 1000)
        with pytest.raises(SerializationError, match="lock"):
            flowlib.put({"a": threading.Lock()})


def test_put_before_load_says_so() -> None:
    """Without a configuration there is nowhere to put anything."""
    with pytest.raises(NoDataFlowKernelError):
        flowlib.put([1])


@pytest.mark.parametrize("executor", [InlineExecutor(label="here"), ThreadPoolExecutor(label="here")])
def test_put_for_this_process_copies_nothing(tmp_path: Path, executor: Any) -> None:
    """Where tasks run in this process they get the very object."""

    @python_app
    def same(obj: Any) -> int:
        return id(obj)

    with flowlib.load(Config(executors=[executor], run_dir=str(tmp_path))):
        array = np.ones(MB)
        ref = flowlib.put(array)
        assert same([ref]).result(DEADLINE) != id(array) and same(ref).result(DEADLINE) == id(array)
        assert ref.result() is array and not HOME.used


def test_one_reference_for_several_executors(tmp_path: Path) -> None:
    """A reference and a large result serve tasks of threads and of other executors as well."""

    def htex(label: str) -> HighThroughputExecutor:
        provider = LocalProvider(init_blocks=1, max_blocks=1)
        return HighThroughputExecutor(label=label, address="127.0.0.1", max_workers_per_node=1, provider=provider)

    with flowlib.load(Config(executors=[htex("a"), htex("b"), ThreadPoolExecutor(label="t")], run_dir=str(tmp_path))):
        ref = flowlib.put(np.ones(MB))
        assert [add.options(executors=[x])(ref).result(DEADLINE) for x in "abt"] == [(1.0, 2.0)] * 3
        made = make.options(executors=["a"])(MB, 3.0)
        assert [total.options(executors=[x])([made]).result(DEADLINE) for x in "bat"] == [3.0 * MB] * 3


# ------------------------------------------------------------------------------------------------ implicit arguments


@pytest.mark.parametrize("way", WAYS)
def test_large_arguments_are_stored_by_content(loaded: Loader, way: str) -> None:
    """Equal arrays are stored once while tasks use them, a change between two calls is seen, none between tasks."""
    with loaded(way):
        array = np.ones(2 * MB // 8)
        first = [add(array, 1.0) for _ in range(20)]
        array[0] = 5
        second = [add({"x": array}["x"], 1.0) for _ in range(20)]
        assert {f.result(DEADLINE) for f in first} == {(1.0, 3.0)}
        assert {f.result(DEADLINE) for f in second} == {(5.0, 7.0)}
        until(lambda: not len(HOME), "arguments of tasks that ended are kept")
        until(lambda: not any(map(objects_in, managers())), "the manager keeps arguments of tasks that ended")


def test_tasks_that_ask_for_resources_and_objects(loaded: Loader) -> None:
    """What a task uses is there whatever it asks for beside."""
    with loaded():
        ref = flowlib.put(np.ones(MB))
        asking = total.options(resources={"cores": 2}, priority=3.0)
        futures = [asking(ref, made) for made in [make(MB) for _ in range(4)]]
        assert [f.result(DEADLINE) for f in futures] == [2.0 * MB] * 4


def test_kinds_of_large_arguments(loaded: Loader) -> None:
    """Read-only arrays stay so, Fortran order too; bytes are bytes, bytearrays bytearrays; strided ones just travel."""

    @python_app
    def describe(array: Any) -> tuple[bool, bool, float]:
        return bool(array.flags.writeable), bool(array.flags.f_contiguous), float(array.sum())

    with loaded():
        frozen = np.ones((500, 1000))
        frozen.flags.writeable = False
        assert describe(frozen).result(DEADLINE) == (False, False, 500_000.0)
        assert describe(np.asfortranarray(np.ones((500, 1000)))).result(DEADLINE) == (True, True, 500_000.0)
        assert describe(np.ones((1000, 1000))[::2, ::2]).result(DEADLINE)[2] == 250_000.0
        assert length(bytes(2 * MB)).result(DEADLINE) == ("bytes", 2 * MB)
        assert length(data=bytearray(2 * MB)).result(DEADLINE) == ("bytearray", 2 * MB)


def test_the_threshold_is_the_users(loaded: Loader) -> None:
    """What is below the threshold travels with its task, and with None everything does."""
    with loaded(object_threshold="4MB"):
        assert total(np.ones(400_000)).result(DEADLINE) == 400_000 and not HOME.used
        big = make(400_000)
        assert big.result(DEADLINE).sum() == 400_000 and not len(HOME)
        stored = make(800_000)
        assert stored.exception(DEADLINE) is None and len(HOME) == 1
        del stored
    with loaded(object_threshold=None):
        array = make(800_000)
        assert total(array.result(DEADLINE)).result(DEADLINE) == 800_000 and not len(HOME)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"object_threshold": "many"}, ValueError),
        ({"object_threshold": 0}, ValueError),
        ({"object_memory": -1}, ValueError),
        ({"object_memory": [1]}, TypeError),
        ({"object_directory": ""}, ValueError),
        ({"object_directory": 3}, TypeError),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    """A size that is none, or a directory that is none, is refused by name."""
    with pytest.raises(error, match=next(iter(options))):
        HighThroughputExecutor(**options)


# --------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("way", WAYS)
def test_results_stay_until_they_are_wanted(loaded: Loader, way: str) -> None:
    """A chain of tasks on one node moves nothing to the script; asking for the value does, once, and freeing frees."""
    with loaded(way):
        made = make(2 * MB // 8, 7.0)
        ends = [total(made), total([made, made])]
        assert [end.result(DEADLINE) for end in ends] == [7.0 * 2 * MB / 8, 7.0 * 2 * MB / 4]
        assert len(HOME) == 1 and not HOME.used, "the result was fetched though nobody asked"
        value = made.result(DEADLINE)
        assert value.sum() == 7.0 * 2 * MB / 8 and value.flags.writeable and made.result() is value
        del made, value, ends
        until(lambda: not any(map(objects_in, managers())), "the manager keeps a result that nobody refers to")
        assert not HOME.used


@pytest.mark.parametrize("way", ["short", "pieces"])
def test_results_go_from_node_to_node(loaded: Loader, way: str) -> None:
    """A task on another node than the one where a result was made gets it all the same."""
    with loaded(way, blocks=2, workers=1):
        until(lambda: len(managers()) == 2, "two managers")
        made = make(MB, 2.0)
        seen: set[int] = set()
        deadline = time.monotonic() + DEADLINE
        while len(seen) < 2:
            assert time.monotonic() < deadline, "only one manager gets tasks"
            seen.update(f.result(DEADLINE) for f in [which_manager(made) for _ in range(8)])
        assert total(made).result(DEADLINE) == 2.0 * MB


@python_app
def make_where(size: int) -> tuple[Any, int]:
    """An array, and the manager on whose node it is."""
    import numpy as np
    import psutil

    return np.ones(size), psutil.Process().parent().parent().pid  # type: ignore[union-attr]


@python_app
def same_manager(made: tuple[Any, int]) -> bool:
    """Whether this runs where that was made."""
    import psutil

    return bool(made[1] == psutil.Process().parent().parent().pid)  # type: ignore[union-attr]


def test_chained_tasks_go_to_where_the_result_is(loaded: Loader) -> None:
    """Of two idle nodes a task gets the one that has its argument, so that nothing moves."""
    with loaded(blocks=2, workers=1):
        until(lambda: len(managers()) == 2, "two managers")
        for _ in range(10):
            assert same_manager(make_where(MB)).result(DEADLINE)
        assert not HOME.used


def test_results_are_there_after_the_run(loaded: Loader) -> None:
    """What the script still refers to when a run ends was fetched before the nodes went."""
    with loaded():
        kept = [make(MB, float(n)) for n in range(3)]
        flowlib.wait_for_current_tasks()
        assert len(HOME) == 3 and not HOME.used
    assert [float(f.result(0).sum()) for f in kept] == [0.0, 1.0 * MB, 2.0 * MB]
    del kept
    gc.collect()
    assert not len(HOME)


def test_results_of_a_block_that_is_drained(loaded: Loader) -> None:
    """A node that is to leave ends when the script has what is only there, and the result is read afterwards."""
    with loaded() as dfk:
        made, others = make(MB, 4.0), [make(MB) for _ in range(3)]
        flowlib.wait_for_current_tasks()
        del others
        executor: Any = dfk.executors["objects"]
        before = managers()
        executor.scale_in(1, drain=True)
        until(lambda: not {*before} & {*managers()}, "the drained manager does not end")
        assert float(made.result(DEADLINE).sum()) == 4.0 * MB


def test_many_results_at_once(loaded: Loader) -> None:
    """What ``app.map`` gathers comes back, though together it is large."""

    @python_app
    def some(n: int) -> bytes:
        return bytes([n % 256]) * 100_000

    with loaded():
        found = list(some.map(range(200), chunksize=20))
        assert [part[0] for part in found] == [n % 256 for n in range(200)] and {*map(len, found)} == {100_000}
        arrays = list(make.map([MB // 8] * 12, chunksize=4))
        assert [array.sum() for array in arrays] == [MB / 8] * 12


def test_a_forked_child_reads_what_is_here(loaded: Loader) -> None:
    """A process that the script forks can read what was fetched, and takes nothing from its parent when it ends."""
    with loaded():
        ref, made, other = flowlib.put(np.ones(MB)), make(MB, 2.0), make(MB)
        made.result(DEADLINE)
        flowlib.wait_for_current_tasks()
        pid = os.fork()
        if not pid:
            good = float(ref.result().sum()) == MB and float(made.result(0).sum()) == 2.0 * MB
            del ref, made
            gc.collect()
            os._exit(0 if good else 1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert total(ref, made, other).result(DEADLINE) == 4.0 * MB


def test_large_results_of_other_kinds(loaded: Loader) -> None:
    """Large bytes, text and frames of arrays come back, from 200 MB down; what cannot be pickled is the task's failure."""

    @python_app
    def other(kind: str) -> Any:
        import threading

        import numpy as np

        made: dict[str, Any] = {"text": "y" * 3_000_000, "list": [np.ones(200_000), np.ones(10)]}
        return made.get(kind) or (threading.Lock() if kind == "lock" else bytes(200_000_000))

    with loaded():
        assert len(other("text").result(DEADLINE)) == 3_000_000
        one, two = other("list").result(DEADLINE)
        assert one.sum() == 200_000 and two.sum() == 10
        assert len(other("bytes").result(DEADLINE)) == 200_000_000
        assert isinstance(other("lock").exception(DEADLINE), SerializationError)


class Trap:
    """Cannot be rebuilt."""

    def __init__(self) -> None:
        self.data = bytes(2 * MB)

    def __reduce__(self) -> Any:
        return _spring, (self.data,)


def _spring(data: bytes) -> None:
    raise RuntimeError("sprung")


def test_what_cannot_be_unpickled_harms_its_readers_only(loaded: Loader) -> None:
    """An object whose unpickling fails, as argument and as result: its task or its reader fails, others go on."""

    @python_app
    def trap() -> Any:
        return Trap()

    with loaded():
        ref = flowlib.put(Trap())
        bad = [length(ref) for _ in range(5)]
        good = [length(bytes(MB)) for _ in range(5)]
        for future in bad:
            assert "sprung" in str(future.exception(DEADLINE))
        assert [f.result(DEADLINE)[1] for f in good] == [MB] * 5
        with pytest.raises(DeserializationError, match="sprung"):
            ref.result()
        made = trap()
        for _ in range(2):
            with pytest.raises(DeserializationError, match="sprung"):
                made.result(DEADLINE)


# ---------------------------------------------------------------------------------------------------------- memory


def test_what_is_too_much_for_memory_goes_to_disk(loaded: Loader, tmp_path: Path) -> None:
    """With room for two of twelve results all can be read, memory stays within its bounds, and no file has a name."""
    spill = tmp_path / "spill"
    spill.mkdir()
    with loaded("pieces", object_memory=10 * MB, object_directory=str(spill)):
        made = [make(4 * MB // 8, float(n)) for n in range(12)]
        flowlib.wait_for_current_tasks()
        (manager,) = managers()
        names = objects_in(manager)
        assert len(names) == 12
        assert sum(name.startswith("/memfd:") for name in names) == 2 and not os.listdir(spill)
        assert [total(f).result(DEADLINE) for f in made] == [n * 4.0 * MB / 8 for n in range(12)]
        assert [float(f.result(DEADLINE)[-1]) for f in made] == [*map(float, range(12))]
        assert HOME.used <= 10 * MB
        refs = [flowlib.put(np.full(4 * MB // 8, float(n))) for n in range(6)]
        assert HOME.used <= 10 * MB
        assert [total(ref).result(DEADLINE) for ref in refs] == [n * 4.0 * MB / 8 for n in range(6)]
        assert not os.listdir(spill)


def test_without_room_a_result_travels_as_before(loaded: Loader, tmp_path: Path) -> None:
    """Where there is neither memory nor disk for a result it is sent with its message."""
    with loaded(object_memory=MB, object_directory=str(tmp_path / "missing")):
        assert float(make(4 * MB // 8).result(DEADLINE).sum()) == 4 * MB / 8


# ------------------------------------------------------------------------------------------------------------ cost


def test_small_tasks_know_nothing_of_it() -> None:
    """A task without large arguments is as it was: no requirement, not one byte more on the wire."""
    task = m.Task(1, 0, 1, b"p")
    # A byte for each of its six fields, for how many these are, and two more for the payload.
    assert len(m.encode(m.Tasks([task] * 11))) - len(m.encode(m.Tasks([task] * 10))) == 9
    assert m.decode(m.encode(m.Tasks([task]))) == m.Tasks([task])
    needs = m.Needs(priority=2.0)
    assert b"objects" not in m.encode(m.Tasks([m.Task(1, 0, 1, b"p", needs)]))


def test_releasing_what_was_never_held_is_nothing() -> None:
    """Attempts that used no object end beside those that did."""
    objects = Objects(lambda message: None, 1, 100, None)
    objects.held[3, 0] = ()
    objects.release([(3, 0, None), (4, 0, None)], lambda owner: int(owner))
    assert not objects.held


def test_put_for_a_kernel_of_ones_own(tmp_path: Path) -> None:
    """A kernel that is not the loaded one is named."""
    with flowlib.DataFlowKernel(Config(executors=[InlineExecutor(label="own")], run_dir=str(tmp_path))) as kernel:
        value = [1]
        assert flowlib.put(value, kernel).result() is value
