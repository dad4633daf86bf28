"""Retries by cause in a run: budgets, waits, more memory, and what the final failure says."""

# Many tasks here are started for what they do, not for their value.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Any

import pytest

from flowlib import Retry
from flowlib.dataflow.crew import Crew
from flowlib.dataflow.kernel import DataFlowKernel, Function
from flowlib.dataflow.outcomes import Blame, Failed, Returned
from flowlib.dataflow.retry import Cause
from flowlib.dataflow.states import States
from flowlib.errors import AppTimeout, DependencyError, ManagerLost, OutOfMemory, SerializationError, WorkerLost
from flowlib.events.reader import EventReader
from flowlib.events.schema import Code, as_dict
from flowlib.executors import InlineExecutor
from flowlib.executors.base import FlowlibExecutor
from flowlib.options import TaskOptions
from tests.kernel.conftest import MakeKernel
from tests.kernel.test_kernel import Scripted, inc

DEADLINE = 20
CRASH, OOM, LOST = WorkerLost(0, "n1"), OutOfMemory(0, "n2", 100, 130), ManagerLost("m", "n3")
LATE, BAD = AppTimeout("late"), ValueError("bad")


def until(condition: Callable[[], object]) -> None:
    """Wait for something that has no event."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def submit(kernel: DataFlowKernel, retries: Any = None, **options: Any) -> Any:
    """A task with options."""
    return kernel.submit_app(Function(inc), TaskOptions(retries=retries, **options), (1,), {})


@pytest.mark.parametrize(
    ("policy", "failures", "survives"),
    [
        (Retry(error=2), [BAD, BAD], True),
        (Retry(error=2), [BAD, BAD, BAD], False),
        (Retry(error=2), [LATE], False),
        (Retry(error=1, timeout=1, oom=1, crash=1), [BAD, LATE, OOM, CRASH], True),
        (Retry(error=1, timeout=1, oom=1, crash=1), [BAD, LATE, OOM, BAD], False),
        (Retry(crash=2), [OOM], False),
        (Retry({LookupError: 2, OSError: 1}), [KeyError(), OSError(), IndexError()], True),
        (Retry({LookupError: 2, OSError: 1}), [FileNotFoundError(), TimeoutError()], False),
        (Retry({LookupError: 2}), [BAD], False),
        (Retry(), [LOST, LOST], True),
        (Retry(lost=0), [LOST], False),
        (Retry(lost=3), [LOST, LOST, LOST], True),
        (0, [BAD], False),
        (2, [BAD, LATE], True),
    ],
)
def test_each_cause_has_its_budget(make_kernel: MakeKernel, policy: Any, failures: list[Any], survives: bool) -> None:
    """A task is tried again while the budget of what happened lasts, given for the task or for the run."""
    of_task = make_kernel(executors=[Scripted("s", *failures, "fine")], retries=9)
    of_run = make_kernel(executors=[Scripted("s", *failures, "fine")], retries=policy)
    for future in (submit(of_task, policy), submit(of_run)):
        error = future.exception(DEADLINE)
        assert (error is None) is survives
        assert survives or error is failures[-1]


def test_losses_by_layer(make_kernel: MakeKernel) -> None:
    """A number for losses given for the task counts before those of the run."""
    kernel = make_kernel(executors=[Scripted("s", LOST, LOST, "fine")], retries=Retry(lost=0), lost_retries=0)
    assert submit(kernel, lost_retries=2).result(DEADLINE) == "fine"
    kernel = make_kernel(executors=[Scripted("s", LOST, LOST, "fine")], retries=Retry(lost=1), lost_retries=9)
    assert submit(kernel, 5).exception(DEADLINE) is LOST


def test_final_failure_tells_all(make_kernel: MakeKernel) -> None:
    """The last exception carries a note of all tries; the record has them one by one."""
    kernel = make_kernel(executors=[Scripted("s", CRASH, WorkerLost(1, "n9"), OOM, BAD)], retries=Retry(crash=2, oom=1))
    future = submit(kernel)
    error = future.exception(DEADLINE)
    assert error is BAD
    assert error.__notes__[-1] == "4 tries: worker lost on n1 and n9, out of memory on n2, ValueError"
    tries = future.task_record["tries"]
    assert [one.cause for one in tries] == [Cause.CRASH, Cause.CRASH, Cause.OOM, Cause.ERROR]
    assert [one.attempt for one in tries] == [0, 1, 2, 3]
    assert [one.host for one in tries] == ["n1", "n9", "n2", ""]
    assert tries[0].error == "flowlib.errors.WorkerLost"


def test_the_log_and_the_end_of_the_run_tell_all(make_kernel: MakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
    """What became of the tries stands in the event log, and in what is said of failures that nobody looked at."""
    kernel = make_kernel(executors=[Scripted("s", CRASH, BAD, BAD)], retries=Retry(crash=1))
    submit(kernel)
    submit(kernel)
    kernel.wait_for_current_tasks()
    kernel.cleanup()
    assert "task 0 (inc): ValueError: bad (2 tries: worker lost on n1, ValueError)" in capsys.readouterr().err
    with EventReader(f"{kernel.run_dir}/events.log") as reader:
        told = [as_dict(r) for r in reader.read() if r[0] == Code.TASK_DONE]
    assert [t.get("tries") for t in told] == ["2 tries: worker lost on n1, ValueError", None]


def test_refusal_after_a_failure_tells_of_it(make_kernel: MakeKernel) -> None:
    """Where the next try is refused, the first one's failure is not forgotten; a refusal alone has no note."""

    class Refusing(Scripted):
        def launch(self, record: Any, attempt: int, func: Any, args: Any, kwargs: Any) -> None:
            if attempt == 1:
                raise SerializationError("inc", "no")
            super().launch(record, attempt, func, args, kwargs)

    error = submit(make_kernel(executors=[Refusing("s", CRASH)], retries=1)).exception(DEADLINE)
    assert isinstance(error, SerializationError)
    assert error.__notes__ == ["2 tries: worker lost on n1, SerializationError"]


def test_handler_sets_the_price_for_its_cause(make_kernel: MakeKernel) -> None:
    """A retry handler sees what the user pays for; what it returns is booked on the budget of that cause."""
    seen: list[BaseException] = []

    def handler(error: BaseException, record: Any) -> float:
        seen.append(error)
        return 0.5

    failures = [BAD, LATE, LOST, BAD, LATE, BAD]
    kernel = make_kernel(
        executors=[Scripted("s", *failures, "fine")], retries=Retry(error=1, timeout=1), retry_handler=handler
    )
    future = submit(kernel)
    assert future.exception(DEADLINE) is BAD
    assert seen == [BAD, LATE, BAD, LATE, BAD]
    assert "6 tries" in BAD.__notes__[-1]


def test_memory_grows(make_kernel: MakeKernel) -> None:
    """After each try that ran out of memory the next one asks for more; what the caller gave stays as it was."""
    asked: list[Any] = []

    class Asked(Scripted):
        def submit(self, func: Any, resource_specification: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            asked.append(resource_specification.get("memory"))
            return super().submit(func, resource_specification, *args, **kwargs)

        def validate_resources(self, specification: dict[str, Any]) -> None:
            pass

    executor = Asked("s", OOM, BAD, OOM, "fine", OOM, "fine")
    kernel = make_kernel(executors=[executor], retries=Retry(error=1, oom=2, memory="x2"))
    future = submit(kernel)
    assert future.result(DEADLINE) == "fine"
    assert asked == [None, 200, 200, 400]
    assert [one.memory for one in future.task_record["tries"]] == [0, 200, 200]
    resources = {"memory": 1000}
    assert submit(kernel, resources=resources).result(DEADLINE) == "fine"
    assert asked[4:] == [1000, 2000]
    assert resources == {"memory": 1000}


@pytest.mark.parametrize("memoize", [False, True])
def test_backoff(make_kernel: MakeKernel, memoize: bool) -> None:
    """A task waits longer each time, in a state of its own, and the events tell for how long."""
    kernel = make_kernel(
        executors=[Scripted("s", BAD, BAD, "fine")], retries=Retry(error=2, backoff=0.05, factor=3, jitter=0)
    )
    began = time.monotonic()
    future = submit(kernel, cache=memoize)
    until(lambda: future.task_status() == "fail_retryable")
    assert kernel.task_state_counts[States.fail_retryable] == 1
    assert not future.running()
    assert future.result(DEADLINE) == "fine"
    assert time.monotonic() - began >= 0.2
    kernel.cleanup()
    with EventReader(f"{kernel.run_dir}/events.log") as reader:
        told = [as_dict(r) for r in reader.read() if r[0] == Code.TASK_WAITING]
    assert [(t["attempt"], t["cause"], round(t["seconds"], 6)) for t in told] == [
        (0, "error", 0.05),
        (1, "error", 0.15),
    ]


def test_thousands_wait_in_one_thread(make_kernel: MakeKernel) -> None:
    """Waiting tasks cost no threads, and come back in the order of their times."""
    before = threading.active_count()
    order: list[float] = []
    kernel = make_kernel(executors=[InlineExecutor()])
    failed: set[float] = set()

    def body(wait: float) -> float:
        if wait not in failed:
            failed.add(wait)
            raise OSError
        order.append(wait)
        return wait

    waits = [0.3 + n / 10_000 for n in range(1000)]
    futures = [
        kernel.submit_app(Function(body), TaskOptions(retries=Retry(error=1, backoff=w, jitter=0)), (w,), {})
        for w in reversed(waits)
    ]
    # The kernel's crews hire as they are kept waiting, up to a dozen or two.
    assert threading.active_count() <= before + 25
    assert [f.result(DEADLINE) for f in reversed(futures)] == waits
    assert len(order) == 1000


@pytest.mark.parametrize("how", ["cancel", "cancel_all", "cleanup"])
def test_waiting_ones_end_at_once(make_kernel: MakeKernel, how: str) -> None:
    """A task that waits for its next try is cancelled like one that waits for an executor; so is what needs it."""
    executor = Scripted("s", BAD)
    kernel = make_kernel(executors=[executor], retries=Retry(error=1, backoff="1h"))
    future = submit(kernel)
    child = kernel.submit(inc, [future])
    until(lambda: future.task_status() == "fail_retryable")
    began = time.monotonic()
    if how == "cancel":
        assert future.cancel()
    elif how == "cancel_all":
        assert kernel.cancel_all() == 2
    else:
        kernel.cleanup()
    assert time.monotonic() - began < 10
    with pytest.raises(CancelledError):
        future.result(DEADLINE)
    assert isinstance(child.exception(DEADLINE) if how == "cancel" else DependencyError("", []), DependencyError)
    assert len(executor.futures) == 1
    assert not len(kernel.engine.failures._later)
    assert kernel.engine.graph.unfinished == 0


def test_cancelled_while_a_handler_judges(make_kernel: MakeKernel) -> None:
    """A task whose failure a handler looks at can be cancelled; what the handler says then is nobody's."""
    asked, answer = threading.Event(), threading.Event()

    def handler(error: BaseException, record: Any) -> float:
        asked.set()
        assert answer.wait(DEADLINE)
        return 0

    executor = Scripted("s", BAD, "late")
    kernel = make_kernel(executors=[executor], retries=1, retry_handler=handler)
    future = submit(kernel)
    assert asked.wait(DEADLINE)
    assert future.cancel()
    answer.set()
    with pytest.raises(CancelledError):
        future.result(DEADLINE)
    kernel.cleanup()
    assert len(executor.futures) == 1


class Dice(FlowlibExecutor):
    """Ends each try at random, but always the same way; most at once, some later in another thread."""

    label = "dice"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.crew = Crew("dice", 2)

    def start(self) -> None:
        """Nothing to start."""

    def shutdown(self) -> None:
        """End the threads."""
        self.crew.close(5)

    def submit(self, func: Any, resource_specification: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Not used."""
        raise NotImplementedError

    def outcome(self, task: int, attempt: int) -> Any:
        """How a try ends."""
        rng = random.Random(f"{self.seed} {task} {attempt}")
        kinds: list[Any] = [None, BAD, LATE, OOM, CRASH, KeyError("k"), LOST]
        return rng.choice(kinds)

    def launch(self, record: Any, attempt: int, func: Any, args: Any, kwargs: Any) -> None:
        """Tell how the try ended."""
        error = self.outcome(record.id, attempt)
        blame = Blame.INFRASTRUCTURE if error is LOST else Blame.USER
        batch = [(record, attempt, Returned("fine") if error is None else Failed(type(error)(*error.args), blame))]
        if random.Random(f"{record.id} {attempt}").random() < 0.5:
            self.crew.put(self.report, batch)
        else:
            self.report(batch)


def expected(dice: Dice, task: int, policy: Retry) -> tuple[str, int]:
    """What a task should come to, worked out step by step: the name of its last error, and its failures."""
    left = {"timeout": policy.timeout, "oom": policy.oom, "crash": policy.crash, "lost": 2}
    names = {AppTimeout: "timeout", OutOfMemory: "oom", WorkerLost: "crash", ManagerLost: "lost"}
    errors = dict(policy.error) if isinstance(policy.error, Mapping) else {"": policy.error}
    for attempt in itertools.count():
        error = dice.outcome(task, attempt)
        if error is None:
            return "", attempt
        name = names.get(type(error))
        budget = errors if name is None else left
        if name is None:
            name = next((n for n in (f"builtins.{k.__name__}" for k in type(error).__mro__) if n in errors), "")
        if budget.get(name, 0) == 0:
            return type(error).__name__, attempt + 1
        budget[name] -= 1
    raise AssertionError


@pytest.mark.parametrize("seed", range(8))
def test_random_walk(make_kernel: MakeKernel, seed: int) -> None:
    """Whatever tries come to, with waits or without and with some tasks cancelled, each ends as its budgets say."""
    rng, dice = random.Random(seed), Dice(seed)
    kernel = make_kernel(executors=[dice])
    tasks: list[tuple[Any, Retry]] = []
    for _ in range(150):
        count = [rng.choice([0, 1, 2, 5]) for _ in range(4)]
        errors: Any = rng.choice([count[0], {LookupError: count[0], "ValueError": 1}])
        wait = rng.choice([0, 0, 0.002, 0.01])
        policy = Retry(errors, timeout=count[1], oom=count[2], crash=count[3], backoff=wait, cap=0.1)
        tasks.append((submit(kernel, policy, cache=rng.random() < 0.3, version=len(tasks)), policy))
        if rng.random() < 0.1:
            rng.choice(tasks)[0].cancel()
    for future, policy in tasks:
        try:
            error = future.exception(DEADLINE)
        except CancelledError:
            continue
        record = future.task_record
        want = expected(dice, record.id, policy)
        assert ("" if error is None else type(error).__name__, record["fail_count"]) == want
        assert len(record["tries"]) == want[1]
        assert bool(getattr(error, "__notes__", None)) is (want[1] > 1 and error is not None)
    with kernel.engine.lock:
        kernel.engine.graph.check_invariants()
    assert kernel.engine.graph.unfinished == 0
    assert not len(kernel.engine.failures._later)


def test_waits_end_with_the_run(make_kernel: MakeKernel) -> None:
    """Nothing of the run is left after its end: no thread, no task that comes back."""
    kernel = make_kernel(executors=[Scripted("s", BAD, "late")], retries=Retry(error=1, backoff=0.2, jitter=0))
    future = submit(kernel)
    until(lambda: future.task_status() == "fail_retryable")
    assert any(t.name == "flowlib-retries" for t in threading.enumerate())
    kernel.cleanup()
    assert not any(t.name == "flowlib-retries" for t in threading.enumerate())
    assert future.cancelled()
