"""The kernel on executors of this process: dependencies, failures, retries, joins, cancelling, the end."""

# Many tasks here are started for what they do, not for their value.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import concurrent.futures
import gc
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from flowlib.dataflow.futures import AppFuture
from flowlib.dataflow.kernel import DataFlowKernel, Function
from flowlib.dataflow.memoization import BasicMemoizer
from flowlib.dataflow.states import States
from flowlib.errors import (
    AppAborted,
    AppTimeout,
    ConfigurationError,
    DependencyError,
    GeneratorResult,
    InvalidResourceSpecification,
    JoinError,
    ManagerLost,
    NoDataFlowKernelError,
    SerializationError,
)
from flowlib.events.reader import EventReader
from flowlib.events.schema import Code, as_dict
from flowlib.executors import InlineExecutor, ThreadPoolExecutor
from flowlib.executors.base import FlowlibExecutor
from flowlib.options import TaskOptions
from tests.kernel.conftest import MakeKernel

DEADLINE = 20


def inc(x: int) -> int:
    """One more."""
    return x + 1


def total(*numbers: int) -> int:
    """A sum."""
    return sum(numbers)


def fail(text: str = "boom") -> None:
    """Fails."""
    raise ValueError(text)


def test_chain_of_ten_thousand(kernel: DataFlowKernel) -> None:
    """A long chain that is set free at once does not grow the stack."""
    gate: Future[int] = Future()
    future = kernel.submit(inc, [gate])
    for _ in range(10_000):
        future = kernel.submit(inc, [future])
    gate.set_result(0)
    assert future.result(DEADLINE) == 10_001


def test_failing_chain_of_ten_thousand(kernel: DataFlowKernel) -> None:
    """The failure of the first of many tasks reaches the last, with the root as its cause."""
    gate: Future[int] = Future()
    future = kernel.submit(inc, [gate])
    for _ in range(10_000):
        future = kernel.submit(inc, [future])
    gate.set_exception(OSError("the root"))
    error = future.exception(DEADLINE)
    assert isinstance(error, DependencyError)
    assert isinstance(error.__cause__, OSError)
    assert "the root" in str(error)
    assert len(str(error)) < 2000


def test_fan_in_of_five_thousand(kernel: DataFlowKernel) -> None:
    """One task takes the values of five thousand."""
    futures = [kernel.submit(inc, [i]) for i in range(5000)]
    assert kernel.submit(total, futures).result(DEADLINE) == sum(range(1, 5001))


def test_dependency_error_lists_all(kernel: DataFlowKernel) -> None:
    """Each failed dependency is listed with its task; the first is the cause."""
    bad = [kernel.submit(fail, [str(i)]) for i in range(3)]
    child = kernel.submit(total, [bad[0], kernel.submit(inc, [1]), *bad[1:]])
    error = child.exception(DEADLINE)
    assert isinstance(error, DependencyError)
    assert [str(e) for e, _ in error.dependent_exceptions_tids] == ["0", "1", "2"]
    assert "task 0 (fail)" in str(error)
    assert error.task_id == child.tid
    assert child.task_status() == "dep_fail"


def test_late_child_of_a_failure(kernel: DataFlowKernel) -> None:
    """A task submitted after its dependency failed fails as well."""
    bad = kernel.submit(fail, [])
    assert isinstance(bad.exception(DEADLINE), ValueError)
    assert isinstance(kernel.submit(inc, [bad]).exception(DEADLINE), DependencyError)


@pytest.mark.parametrize(("retries", "runs"), [(0, 1), (2, 3)])
def test_retries(make_kernel: MakeKernel, retries: int, runs: int) -> None:
    """A task that always fails runs once and once for each retry."""
    kernel = make_kernel(retries=retries)
    seen: list[int] = []

    def body() -> None:
        seen.append(1)
        raise ValueError

    future = kernel.submit(body, [])
    assert isinstance(future.exception(DEADLINE), ValueError)
    assert len(seen) == runs
    assert future.task_record["fail_count"] == runs


def test_options_override_config(make_kernel: MakeKernel) -> None:
    """The retries of a call count, not those of the configuration."""
    kernel = make_kernel(retries=5)
    seen: list[int] = []

    def body() -> None:
        seen.append(1)
        raise ValueError

    future = kernel.submit_app(Function(body), TaskOptions(retries=1), (), {})
    assert isinstance(future.exception(DEADLINE), ValueError)
    assert len(seen) == 2


def test_retry_handler(make_kernel: MakeKernel) -> None:
    """A handler prices failures; it sees the exception and the record, not under the kernel's lock."""
    calls: list[tuple[str, int]] = []

    def handler(error: BaseException, record: Any) -> float:
        # A submission from another thread would hang if the lock were held.
        other = threading.Thread(target=kernel.submit, args=(inc, [1]))
        other.start()
        other.join(DEADLINE)
        assert not other.is_alive()
        calls.append((str(error), record["fail_count"]))
        return 0.5

    kernel = make_kernel(retries=1, retry_handler=handler)
    assert isinstance(kernel.submit(fail, []).exception(DEADLINE), ValueError)
    assert calls == [("boom", 1), ("boom", 2), ("boom", 3)]


def test_retry_handler_that_fails(make_kernel: MakeKernel) -> None:
    """A handler that raises fails the task with its own exception."""

    def handler(error: BaseException, record: Any) -> float:
        raise KeyError("handler")

    kernel = make_kernel(retries=9, retry_handler=handler)
    assert isinstance(kernel.submit(fail, []).exception(DEADLINE), KeyError)


class Scripted(FlowlibExecutor):
    """An executor on the field's interface, whose attempts end as the test says."""

    def __init__(self, label: str, *outcomes: Any) -> None:
        self.label = label
        self.outcomes = list(outcomes)
        self.futures: list[Future[Any]] = []

    def start(self) -> None:
        """Nothing to start."""

    def submit(
        self, func: Callable[..., Any], resource_specification: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """A future that ends as the next outcome says; left open where there is none."""
        future: Future[Any] = Future()
        self.futures.append(future)
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        return future

    def shutdown(self) -> None:
        """Nothing to end."""


class AtOnce(FlowlibExecutor):
    """Runs a task where it is submitted, and gives a future that is done."""

    label = "at once"

    def start(self) -> None:
        """Nothing to start."""

    def submit(self, func: Any, resource_specification: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it."""
        future: Future[Any] = Future()
        future.set_result(func(*args, **kwargs))
        return future

    def shutdown(self) -> None:
        """Nothing to end."""


def test_chains_do_not_nest_in_executors_that_are_done_at_once(make_kernel: MakeKernel) -> None:
    """A long chain on an executor whose futures are done at submit needs no more stack than a short one."""
    kernel = make_kernel(executors=[AtOnce()])
    start: Future[int] = Future()

    def depth(x: int) -> int:
        return len(inspect.stack())

    last: Future[int] = start
    links = []
    for _ in range(200):
        last = kernel.submit(depth, [last])
        links.append(last)
    start.set_result(0)
    depths = {link.result(DEADLINE) for link in links[1:]}
    assert len(depths) == 1


def test_losses_have_their_own_budget(make_kernel: MakeKernel) -> None:
    """Lost attempts are repeated without costing retries, until their own budget is spent."""
    lost = ManagerLost("m", "h")
    kernel = make_kernel(executors=[Scripted("s", lost, lost, "fine", lost, lost, lost)])
    assert kernel.submit(inc, [1]).result(DEADLINE) == "fine"
    assert isinstance(kernel.submit(inc, [1]).exception(DEADLINE), ManagerLost)


def test_refused_is_not_retried(make_kernel: MakeKernel) -> None:
    """What the executor cannot take is final at once."""

    class Refusing(Scripted):
        def launch(self, record: Any, attempt: int, func: Any, args: Any, kwargs: Any) -> None:
            self.futures.append(Future())
            raise SerializationError("inc", "no")

    executor = Refusing("s")
    kernel = make_kernel(executors=[executor], retries=3)
    assert isinstance(kernel.submit(inc, [1]).exception(DEADLINE), SerializationError)
    assert len(executor.futures) == 1


def test_out_of_date_outcomes_are_dropped(make_kernel: MakeKernel) -> None:
    """An outcome of an attempt that is over changes nothing."""
    from flowlib.dataflow.outcomes import Failed, Returned

    kernel = make_kernel(executors=[Scripted("s")])
    future = kernel.submit(inc, [1])
    record = future.task_record
    kernel.engine.report([(record, 7, Returned("wrong attempt"))])
    assert not future.done()
    kernel.engine.report([(record, 0, Returned("right")), (record, 0, Failed(OSError()))])
    kernel.engine.report([(record, 0, Returned("twice"))])
    assert future.result(0) == "right"
    assert kernel.task_state_counts[States.exec_done] == 1


def test_least_outstanding_executor(make_kernel: MakeKernel) -> None:
    """Among several executors each task goes to the one with the fewest."""
    executors = [Scripted("a"), Scripted("b")]
    kernel = make_kernel(executors=executors)
    for _ in range(10):
        kernel.submit(inc, [1])
    assert [len(e.futures) for e in executors] == [5, 5]
    for future in executors[1].futures:
        future.set_result(1)
    for _ in range(5):
        kernel.submit(inc, [1])
    assert [len(e.futures) for e in executors] == [5, 10]


def test_unknown_executor(kernel: DataFlowKernel) -> None:
    """An unknown label is refused at the call, with the nearest valid one."""
    with pytest.raises(ValueError, match="'main'"):
        kernel.submit(inc, [1], executors=["mian"])
    assert kernel.submit(inc, [1], executors="main").result(DEADLINE) == 2


def test_impossible_resources(kernel: DataFlowKernel) -> None:
    """A specification that no executor can honour is refused at the call."""
    with pytest.raises(InvalidResourceSpecification, match="cores"):
        kernel.submit(inc, [1], app_kwargs={"flowlib_resource_specification": {"cores": 2}})


def test_bodies(kernel: DataFlowKernel) -> None:
    """Whatever ends a program, or cannot be a value, ends only its task."""

    def leave() -> None:
        sys.exit(3)

    def numbers() -> Any:
        return (i for i in range(3))

    async def later(x: int) -> int:
        return x + 1

    error = kernel.submit(leave, []).exception(DEADLINE)
    assert isinstance(error, AppAborted)
    assert isinstance(error.__cause__, SystemExit)
    assert isinstance(kernel.submit(numbers, []).exception(DEADLINE), GeneratorResult)
    assert kernel.submit(later, [1]).result(DEADLINE) == 2


def test_walltime(kernel: DataFlowKernel) -> None:
    """A body that outlives its walltime is stopped; one that does not is left alone."""
    forever = threading.Event()

    def spin() -> None:
        while not forever.wait(0.01):
            pass

    future = kernel.submit_app(Function(spin), TaskOptions(walltime=0.1), (), {})
    error = future.exception(DEADLINE)
    assert isinstance(error, AppTimeout)
    assert "0.1 s" in str(error)
    assert kernel.submit(inc, [1], app_kwargs={"walltime": 5}).result(DEADLINE) == 2


def test_context_variables(make_kernel: MakeKernel) -> None:
    """A task sees the context variables of its call, also when it ran later and in another thread."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="none")
    kernel = make_kernel()
    gate: Future[int] = Future()
    token = variable.set("of the call")
    future = kernel.submit(lambda _: variable.get(), [gate])
    variable.reset(token)
    gate.set_result(1)
    assert future.result(DEADLINE) == "of the call"


def test_join_values_and_failures(kernel: DataFlowKernel) -> None:
    """A join's value is made of the values of its futures, its failure of their failures."""
    foreign: Future[int] = Future()
    foreign.set_result(9)
    one = kernel.submit(lambda: kernel.submit(inc, [1]), [], join=True)
    many = kernel.submit(lambda: [kernel.submit(inc, [i]) for i in range(3)], [], join=True)
    mixed = kernel.submit(lambda: [foreign, kernel.submit(dict, [], app_kwargs={"a": 5})["a"]], [], join=True)
    empty = kernel.submit(list, [], join=True)
    wrong = kernel.submit(lambda: (kernel.submit(inc, [1]),), [], join=True)
    assert one.result(DEADLINE) == 2
    assert many.result(DEADLINE) == [1, 2, 3]
    assert mixed.result(DEADLINE) == [9, 5]
    assert empty.result(DEADLINE) == []
    assert isinstance(wrong.exception(DEADLINE), TypeError)
    bad = kernel.submit(lambda: [kernel.submit(fail, ["a"]), kernel.submit(fail, ["b"])], [], join=True)
    error = bad.exception(DEADLINE)
    assert isinstance(error, JoinError)
    assert [str(e) for e, _ in error.dependent_exceptions_tids] == ["a", "b"]
    single = kernel.submit(lambda: kernel.submit(fail, ["c"]), [], join=True)
    assert isinstance(single.exception(DEADLINE), JoinError)


def test_deep_recursion_of_joins(kernel: DataFlowKernel) -> None:
    """A join that returns a join, two thousand deep, ends without recursion."""

    def down(n: int) -> Any:
        return kernel.submit(down, [n - 1], join=True) if n else kernel.submit(inc, [41])

    assert kernel.submit(down, [2000], join=True).result(DEADLINE) == 42


def test_cancel_waiting(kernel: DataFlowKernel) -> None:
    """A waiting task is cancelled at once; those behind it fail with that as the cause."""
    gate: Future[int] = Future()
    waiting = kernel.submit(inc, [gate])
    child = kernel.submit(inc, [waiting])
    assert waiting.cancel()
    assert waiting.cancelled()
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result(0)
    error = child.exception(DEADLINE)
    assert isinstance(error, DependencyError)
    assert isinstance(error.__cause__, CancelledError)
    gate.set_result(1)
    assert waiting.task_status() == "cancelled"


def test_cancel_queued_and_running(make_kernel: MakeKernel) -> None:
    """A queued task is withdrawn and never runs; a running one and one that is done are not cancelled."""
    kernel = make_kernel(executors=[ThreadPoolExecutor(max_threads=1)])
    started, gate, ran = threading.Event(), threading.Event(), threading.Event()

    def hold() -> str:
        started.set()
        gate.wait(DEADLINE)
        return "held"

    running = kernel.submit(hold, [])
    queued = kernel.submit(ran.set, [])
    assert started.wait(DEADLINE)
    assert queued.cancel()
    assert not running.cancel()
    assert running.running()
    gate.set()
    assert running.result(DEADLINE) == "held"
    assert not running.cancel()
    assert kernel.submit(inc, [1]).result(DEADLINE) == 2
    assert not ran.is_set()


def test_futures_of_another_kernel(make_kernel: MakeKernel) -> None:
    """Kernels live side by side, and take each other's futures."""
    one, two = make_kernel(), make_kernel()
    gate: Future[int] = Future()
    first = one.submit(inc, [gate])
    second = two.submit(inc, [first])
    part = two.submit(inc, [one.submit(dict, [], app_kwargs={"k": 1})["k"]])
    gate.set_result(0)
    assert second.result(DEADLINE) == 2
    assert part.result(DEADLINE) == 2
    bad = two.submit(inc, [one.submit(fail, [])])
    assert isinstance(bad.exception(DEADLINE), DependencyError)


def test_part_that_is_not_there(kernel: DataFlowKernel) -> None:
    """A task that takes a part which does not exist fails as one whose dependency failed."""
    whole = kernel.submit(dict, [], app_kwargs={"a": 1})
    error = kernel.submit(inc, [whole["b"]]).exception(DEADLINE)
    assert isinstance(error, DependencyError)
    assert isinstance(error.__cause__, KeyError)


def test_wait_for_current_tasks(make_kernel: MakeKernel) -> None:
    """Waiting returns when all that was submitted is done, futures that nobody holds included."""
    kernel = make_kernel()
    gate: Future[int] = Future()
    done = [0]

    def count(_: int) -> None:
        done[0] += 1

    for _ in range(50):
        kernel.submit(count, [gate])
    threading.Timer(0.05, gate.set_result, [1]).start()
    kernel.wait_for_current_tasks()
    assert done == [50]
    assert kernel.tasks == {}
    assert kernel.task_count == 50


def test_finished_tasks_are_freed(make_kernel: MakeKernel) -> None:
    """When a task is done and its future dropped, plain reference counting frees all of it."""
    kernel = make_kernel(executors=[InlineExecutor()])

    class Thing:
        """Something to keep alive."""

    gc.disable()
    try:
        thing = Thing()
        alive = weakref.ref(thing)
        future = kernel.submit(lambda x: None, [thing])
        record = weakref.ref(future)
        child = kernel.submit(lambda a, b: None, [future, [thing]])
        del thing
        assert child.result(DEADLINE) is None
        assert alive() is None
        del future, child
        assert record() is None
    finally:
        gc.enable()


def test_waiting_task_is_small(make_kernel: MakeKernel) -> None:
    """A waiting task, all in, takes at most a kilobyte; a finished and dropped one leaves nothing to speak of."""
    import tracemalloc

    kernel = make_kernel(executors=[InlineExecutor()], events=False)
    gate: Future[int] = Future()
    root = kernel.submit(inc, [gate])
    app, options, count = Function(inc), TaskOptions(), 3000
    for _ in range(100):
        kernel.submit_app(app, options, (1,), {})
    gc.collect()
    tracemalloc.start()
    try:
        futures = [kernel.submit_app(app, options, (root,), {}) for _ in range(count)]
        waiting = tracemalloc.get_traced_memory()[0] / count
        gate.set_result(1)
        assert futures[-1].result(DEADLINE) == 3
        del futures
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert waiting <= 1024
    assert left <= 300


def test_cleanup_cancels_and_tells(make_kernel: MakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """The end of a run cancels what is not done, says how much that was, and takes no further tasks."""
    kernel = make_kernel()
    gate: Future[int] = Future()
    futures = [kernel.submit(inc, [gate]) for _ in range(3)]
    kernel.cleanup()
    assert all(f.cancelled() for f in futures)
    assert "3 tasks unfinished" in capsys.readouterr().err
    with pytest.raises(NoDataFlowKernelError, match="cleaned up"):
        kernel.submit(inc, [1])
    with pytest.raises(ConfigurationError, match="already"):
        kernel.cleanup()


def test_cleanup_goes_on_after_an_interrupt(make_kernel: MakeKernel) -> None:
    """Ctrl-C in one step of the end is passed on, and the other steps are taken all the same."""

    class Impatient(ThreadPoolExecutor):
        def shutdown(self) -> None:
            ended.append("executor")
            super().shutdown()

    class Interrupted(BasicMemoizer):
        def close(self) -> None:
            raise KeyboardInterrupt

    ended: list[str] = []
    executor = Impatient(max_threads=1)
    kernel = make_kernel(executors=[executor], memoizer=Interrupted())
    kernel.submit(inc, [1]).result(DEADLINE)
    with pytest.raises(KeyboardInterrupt):
        kernel.cleanup()
    assert ended == ["executor"]
    with EventReader(os.path.join(kernel.run_dir, "events.log")) as reader:
        *_, last = reader.read()
    assert last[0] == Code.RUN_ENDED
    # The configuration is free for the next run.
    kernel.config.executors = [ThreadPoolExecutor(max_threads=1)]


def test_cleanup_does_not_wait_for_threads(make_kernel: MakeKernel) -> None:
    """A body that never ends does not keep the run from ending."""
    kernel = make_kernel()
    started, gate = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        gate.wait(DEADLINE)

    future = kernel.submit(hold, [])
    assert started.wait(DEADLINE)
    try:
        kernel.cleanup()
        assert future.cancelled()
    finally:
        gate.set()


@pytest.mark.parametrize("raises", [False, True])
def test_exit_modes(make_kernel: MakeKernel, raises: bool) -> None:
    """Mode wait waits, but not after an exception; mode skip leaves the run alone."""
    kernel = make_kernel(exit_mode="wait")
    gate: Future[int] = Future()
    future = kernel.submit(inc, [gate])

    class Stop(Exception):
        """Leaves the block."""

    try:
        with kernel:
            if raises:
                raise Stop
            threading.Timer(0.05, gate.set_result, [1]).start()
    except Stop:
        assert raises
    assert future.cancelled() is raises
    skipping = make_kernel(exit_mode="skip")
    with skipping:
        assert skipping.submit(inc, [1]).result(DEADLINE) == 2
    assert skipping.submit(inc, [1]).result(DEADLINE) == 2


def test_config_is_reusable(make_kernel: MakeKernel) -> None:
    """The same executors serve one run after the other, but not two at once."""
    executor = ThreadPoolExecutor()
    first = make_kernel(executors=[executor])
    assert first.submit(inc, [1]).result(DEADLINE) == 2
    with pytest.raises(ConfigurationError, match="in use"):
        make_kernel(executors=[executor])
    assert first.submit(inc, [1]).result(DEADLINE) == 2
    config = first.config
    first.cleanup()
    config.retries = 1
    with DataFlowKernel(config) as second:
        assert second.submit(inc, [1]).result(DEADLINE) == 2


def test_files_from_elsewhere_are_refused(kernel: DataFlowKernel) -> None:
    """A file that nothing can bring to the task is refused at the call."""
    from flowlib.data_provider.files import File

    for kwargs in ({"inputs": [File("https://a.example/x")]}, {"x": File("ftp://a.example/x")}):
        with pytest.raises(ValueError, match="cannot stage"):
            kernel.submit(inc, [], app_kwargs=kwargs)
    assert kernel.submit(str, [File("/a/b")]).result(DEADLINE) == "/a/b"


def test_add_executors(make_kernel: MakeKernel) -> None:
    """An executor may join later; its label must be its own."""
    kernel = make_kernel()
    kernel.add_executors([InlineExecutor("late")])
    ident = kernel.submit(threading.get_ident, [], executors=["late"]).result(DEADLINE)
    assert ident == threading.get_ident()
    with pytest.raises(ConfigurationError, match="late"):
        kernel.add_executors([InlineExecutor("late")])


def test_failed_start_leaves_nothing(make_kernel: MakeKernel) -> None:
    """An executor that cannot start fails the load with its error; those before it are ended again."""

    class Broken(Scripted):
        def start(self) -> None:
            raise OSError("no machine")

    good = ThreadPoolExecutor("good")
    with pytest.raises(OSError, match="no machine"):
        make_kernel(executors=[good, Broken("broken")])
    assert make_kernel(executors=[good]).submit(inc, [1]).result(DEADLINE) == 2


def test_records_of_the_run(make_kernel: MakeKernel) -> None:
    """The event log tells of the run, its app, its executor and each step of a task."""
    kernel = make_kernel()
    future = kernel.submit(inc, [kernel.submit(inc, [1])])
    assert future.result(DEADLINE) == 3
    kernel.cleanup()
    with EventReader(os.path.join(kernel.run_dir, "events.log")) as reader:
        records = list(reader.read())
    codes = [record[0] for record in records]
    assert codes[0] == Code.RUN_STARTED
    assert codes[-1] == Code.RUN_ENDED
    assert codes.count(Code.TASK_DONE) == codes.count(Code.TRY_ENDED) == codes.count(Code.TASK_LAUNCHED) == 2
    submitted = [record for record in records if record[0] == Code.TASK_SUBMITTED]
    assert [tuple(record[4]) for record in submitted] == [(), (0,)]


def test_submissions_from_many_threads(make_kernel: MakeKernel) -> None:
    """Threads submit at once, and every task ends once."""
    kernel = make_kernel(executors=[ThreadPoolExecutor(max_threads=4)])
    results: list[list[AppFuture[int]]] = [[] for _ in range(4)]

    def work(mine: list[AppFuture[int]]) -> None:
        future = kernel.submit(inc, [0])
        for i in range(250):
            mine.append(kernel.submit(total, [future, i]))
            future = mine[-1] if i % 3 else future

    threads = [threading.Thread(target=work, args=(mine,)) for mine in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    every = [future for mine in results for future in mine]
    done, _ = concurrent.futures.wait(every, timeout=DEADLINE)
    assert len(done) == 1000
    assert len({future.tid for future in every}) == 1000
    assert kernel.task_state_counts[States.exec_done] == 1004
    kernel.engine.graph.check_invariants()


def test_progress_snapshot(kernel: DataFlowKernel) -> None:
    """The counters of a display: tasks by app and state."""
    gate: Future[int] = Future()
    kernel.submit(inc, [gate])
    assert isinstance(kernel.submit(fail, []).exception(DEADLINE), ValueError)
    assert kernel.progress_snapshot() == {"inc": {States.pending: 1}, "fail": {States.failed: 1}}
    gate.set_result(1)
    kernel.wait_for_current_tasks()
    assert kernel.progress_snapshot()["inc"] == {States.exec_done: 1}


def test_refused_attempts_are_recorded(make_kernel: MakeKernel) -> None:
    """A try that an executor does not take ends in the event log too, with the reason; so does a join that failed."""

    class Picky(ThreadPoolExecutor):
        def launch(self, *call: Any) -> None:
            raise SerializationError("inc", "a lock cannot be sent")

    kernel = make_kernel(executors=[Picky()])
    events: list[tuple[Any, ...]] = []
    kernel.engine.emit = events.append
    refused = kernel.submit(inc, [1])
    assert isinstance(refused.exception(DEADLINE), SerializationError)
    (ended,) = [as_dict(event) for event in events if event[0] == Code.TRY_ENDED]
    assert (ended["task"], ended["attempt"], ended["status"], ended["started"]) == (0, 0, 5, 0)
    assert ended["error_type"] == "SerializationError"
    assert "a lock cannot be sent" in ended["error_text"]
    joined = kernel.submit(lambda: [refused], [], join=True)
    assert joined.exception(DEADLINE) is not None
    done = [as_dict(event) for event in events if event[0] == Code.TASK_DONE]
    assert done[-1]["reason"] == "JoinError: task 0 (inc) failed"


@pytest.mark.parametrize(
    ("outputs", "hint"),
    [
        ([Path("a.txt")], r"write outputs=\[File\('a.txt'\)\]$"),
        ("a.txt", r"write outputs=\[File\('a.txt'\)\]$"),
        ([7], r"give File\(path\) for each file"),
    ],
)
def test_outputs_that_are_no_files(kernel: DataFlowKernel, outputs: Any, hint: str) -> None:
    """The refusal shows what to write instead."""
    with pytest.raises(TypeError, match=hint):
        kernel.submit(inc, [1], app_kwargs={"outputs": outputs})
