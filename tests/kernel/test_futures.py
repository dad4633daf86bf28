"""App futures: the stdlib's and asyncio's helpers, callbacks, parts of values, files."""

# Many tasks here are started for what they do, not for their value.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from flowlib import python_app
from flowlib.data_provider.files import File
from flowlib.dataflow.futures import AppFuture, DataFuture
from flowlib.dataflow.kernel import DataFlowKernel
from flowlib.errors import DependencyError
from flowlib.executors import ThreadPoolExecutor
from tests.kernel.conftest import MakeKernel

DEADLINE = 20


def identity(x: Any) -> Any:
    """Its argument."""
    return x


def test_stdlib_sees_pending_until_final(kernel: DataFlowKernel) -> None:
    """wait() and as_completed() handle futures that are done before, during and after the call."""
    gate: Future[int] = Future()
    early = kernel.submit(identity, [1])
    late = [kernel.submit(identity, [gate]) for _ in range(5)]
    done, pending = concurrent.futures.wait([early, *late], timeout=0.01)
    assert (len(done), len(pending)) == (1, 5)
    threading.Timer(0.05, gate.set_result, [7]).start()
    every: list[Future[Any]] = [early, *late, late[0]["x"]]
    found = list(concurrent.futures.as_completed(every, timeout=DEADLINE))
    assert len(found) == 7
    assert late[0].result(0) == 7


def test_first_exception(kernel: DataFlowKernel) -> None:
    """wait(FIRST_EXCEPTION) returns when one fails."""
    gate: Future[int] = Future()
    never: Future[int] = Future()
    futures = [kernel.submit(identity, [gate]), kernel.submit(identity, [never])]
    threading.Timer(0.05, gate.set_exception, [ValueError()]).start()
    done, _ = concurrent.futures.wait(futures, DEADLINE, concurrent.futures.FIRST_EXCEPTION)
    assert done == {futures[0]}


def test_timeout(kernel: DataFlowKernel) -> None:
    """A wait that is too short raises TimeoutError and says for what."""
    future = kernel.submit(identity, [Future()])
    with pytest.raises(concurrent.futures.TimeoutError, match="identity"):
        future.result(0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(0)


def test_many_waiters(kernel: DataFlowKernel) -> None:
    """Threads that wait for the same future, and for parts of it, all wake."""
    gate: Future[Any] = Future()
    future = kernel.submit(identity, [gate])
    seen: list[Any] = []
    targets = [future, future["a"], future["a"], future]
    threads = [threading.Thread(target=lambda f=f: seen.append(f.result(DEADLINE))) for f in targets for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.set_result({"a": 1})
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(map(str, seen)) == ["1"] * 10 + ["{'a': 1}"] * 10


def test_callbacks(kernel: DataFlowKernel) -> None:
    """Callbacks run in order in a thread that is not the executor's; late ones at once; one that raises harms none."""
    gate: Future[int] = Future()
    future = kernel.submit(identity, [gate])
    names: list[str] = []
    finished = threading.Event()
    future.add_done_callback(lambda f: names.append(threading.current_thread().name))
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(lambda f: finished.set())
    gate.set_result(3)
    assert finished.wait(DEADLINE)
    assert names[0].startswith("flowlib-callbacks")
    future.add_done_callback(lambda f: names.append(threading.current_thread().name))
    assert names[1] == threading.current_thread().name


def test_blocking_callback_stalls_no_other(kernel: DataFlowKernel) -> None:
    """A callback may wait for what another callback does."""
    gate: Future[int] = Future()
    event, finished = threading.Event(), threading.Event()
    first, second = kernel.submit(identity, [gate]), kernel.submit(identity, [gate])
    first.add_done_callback(lambda f: finished.set() if event.wait(DEADLINE) else None)
    second.add_done_callback(lambda f: event.set())
    gate.set_result(1)
    assert finished.wait(DEADLINE)


def test_asyncio(kernel: DataFlowKernel) -> None:
    """Futures, parts and failures can be awaited."""
    gate: Future[Any] = Future()

    async def main() -> None:
        future = kernel.submit(identity, [gate])
        asyncio.get_running_loop().call_later(0.02, gate.set_result, {"k": 4})
        assert await future["k"] == 4
        assert await future == {"k": 4}
        assert await asyncio.wait_for(asyncio.wrap_future(kernel.submit(identity, [5])), DEADLINE) == 5
        with pytest.raises(KeyError):
            await future["missing"]

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


def test_parts(kernel: DataFlowKernel) -> None:
    """Parts of a value are futures that make no task, and carry their own failure."""
    future = kernel.submit(identity, [{"a": [1, 2 + 3j]}])
    part = future["a"][1].imag
    assert isinstance(part, AppFuture)
    assert part.result(DEADLINE) == 3.0
    assert part.task_status() == "exec_done"
    assert isinstance(future["b"].exception(DEADLINE), KeyError)
    assert isinstance(future.nonsense.exception(DEADLINE), AttributeError)
    assert future["b"].task_status() == "failed"
    assert kernel.task_count == 1
    bad = kernel.submit(lambda: 1 / 0, [])
    error = bad["a"].exception(DEADLINE)
    assert isinstance(error, DependencyError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert bad["a"].task_status() == "dep_fail"


def test_parts_of_failures_in_a_long_row(kernel: DataFlowKernel) -> None:
    """The error of a long row of parts of parts is found without recursion."""
    gate: Future[Any] = Future()
    future = kernel.submit(identity, [gate])
    for _ in range(3000):
        future = kernel.submit(identity, [future["a"]])
    gate.set_exception(OSError("root"))
    error = future.exception(DEADLINE)
    assert error is not None
    assert isinstance(error.__cause__, OSError)


def test_probing_does_nothing(kernel: DataFlowKernel) -> None:
    """hasattr, copying and repr make no tasks; pickling is refused with a hint."""
    future = kernel.submit(identity, [1])
    assert not hasattr(future, "_private")
    assert not hasattr(future, "__array__")
    assert copy.copy(future) is future
    assert copy.deepcopy([future])[0] is future
    assert "identity" in repr(future)
    with pytest.raises(TypeError, match="argument"):
        pickle.dumps(future)
    with pytest.raises(TypeError, match="result"):
        iter(future)
    with pytest.raises(TypeError, match="flowlib"):
        future.set_result(2)
    assert kernel.task_count == 1


class Outcome:
    """The pickled value of another process, that can be rebuilt or not."""

    def __init__(self, value: Any) -> None:
        self.rebuilt = 0
        self._value = value

    def value(self) -> Any:
        """The value, or a failure."""
        self.rebuilt += 1
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


def test_remote_value_stays_pickled(make_kernel: MakeKernel) -> None:
    """A remote value is not rebuilt before it is asked for, nor when an executor takes it as it is."""
    from tests.kernel.test_kernel import Scripted

    class Remote(Scripted):
        forwards_pickled = True
        taken: list[Any]

        def launch(self, record: Any, attempt: int, func: Any, args: Any, kwargs: Any) -> None:
            self.taken = [args]
            self.held = (record, attempt)

    executor = Remote("remote")
    kernel = make_kernel(executors=[executor])
    outcome = Outcome(5)
    first = kernel.submit(identity, [1])
    record, attempt = executor.held
    second = kernel.submit(identity, [[first]])
    kernel.engine.report([(record, attempt, outcome)])
    assert first.done()
    assert outcome.rebuilt == 0
    assert executor.taken == [([outcome],)]
    assert first.result(0) == 5
    assert not second.done()


def test_value_that_cannot_be_rebuilt(make_kernel: MakeKernel) -> None:
    """It is an exception of result() and exception(), and a failed dependency for a task in this process."""
    from flowlib.errors import DeserializationError
    from tests.kernel.test_kernel import Scripted

    executor = Scripted("s")
    kernel = make_kernel(executors=[executor])
    future = kernel.submit(identity, [1])
    kernel.engine.report([(future.task_record, 0, Outcome(DeserializationError("no class")))])
    with pytest.raises(DeserializationError):
        future.result(0)
    assert isinstance(future.exception(0), DeserializationError)
    child = kernel.submit(identity, [future])
    error = child.exception(DEADLINE)
    assert isinstance(error, DependencyError)
    assert isinstance(error.__cause__, DeserializationError)


def test_files(kernel: DataFlowKernel) -> None:
    """Output files are futures whose value is the file, or the task's failure."""
    gate: Future[int] = Future()
    file = File("a.txt")
    future = kernel.submit(lambda _, outputs: len(outputs), [gate], app_kwargs={"outputs": [file]})
    (output,) = future.outputs
    assert isinstance(output, DataFuture)
    assert (output.parent, output.file_obj, output.tid) == (future, file, future.tid)
    child = kernel.submit(lambda inputs: inputs[0].filepath, [], app_kwargs={"inputs": [output]})
    assert not output.done()
    gate.set_result(1)
    assert output.result(DEADLINE) is file
    assert child.result(DEADLINE) == "a.txt"
    bad = kernel.submit(lambda outputs: 1 / 0, [], app_kwargs={"outputs": [file]})
    assert isinstance(bad.outputs[0].exception(DEADLINE), ZeroDivisionError)
    with pytest.raises(TypeError, match="File"):
        kernel.submit(identity, [1], app_kwargs={"outputs": ["a.txt"]})


@pytest.fixture
def hectic() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual, which lets races show."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


def test_wait_counts_right_while_futures_complete(load: Any, hectic: None) -> None:
    """The stdlib's wait never returns early, though futures complete while it counts them."""
    from concurrent.futures import as_completed, wait

    load(ThreadPoolExecutor(max_threads=4))
    app = python_app(lambda x: x)
    for _ in range(150):
        futures = [app(i) for i in range(60)]
        views = [future.real for future in futures[::7]]
        done, pending = wait([*futures, *views], timeout=20)
        assert not pending
        assert len(done) == len(futures) + len(views)
        again = [app(i) for i in range(60)]
        assert len(list(as_completed(again, timeout=20))) == 60
