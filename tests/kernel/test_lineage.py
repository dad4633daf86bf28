"""What is kept of how large values were made, and the plan to make them again: without processes."""

from __future__ import annotations

import gc
import os
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from flowlib.dataflow.futures import AppFuture
from flowlib.dataflow.kernel import Function
from flowlib.dataflow.lineage import DEEPEST, CannotRerun, Lineage, Rerun, remember
from flowlib.dataflow.outcomes import Blame, Failed
from flowlib.dataflow.record import NO_KWARGS, TaskRecord
from flowlib.options import TaskOptions
from flowlib.store.home import Entry, Home
from flowlib.store.refs import ObjectRef
from flowlib.store.stored import Stored


class Run:
    """A run in which tasks end as soon as a test says so."""

    def __init__(self, budget: int = 2) -> None:
        self.cleaned_up = False
        self.owner = os.getpid()
        failures = SimpleNamespace(losses_allowed=lambda record: budget)
        self.engine = SimpleNamespace(failures=failures, unseen=SimpleNamespace(seen=lambda number: None))
        self.home = Home()
        self.count = 0
        self.again: list[Rerun] = []

    def submit_again(self, rerun: Rerun, first: TaskRecord) -> None:
        """Note a further task."""
        rerun.id = 1000 + len(self.again)
        self.again.append(rerun)

    def task(self, *args: Any) -> AppFuture[Any]:
        """The future of a task that has ended with a large value."""
        record = TaskRecord(
            *(self, Function(divmod), TaskOptions(), divmod, args, NO_KWARGS, (), [0] * 20, 0.0)  # type: ignore[arg-type]
        )
        record.id = self.count
        self.count += 1
        future = record.future = AppFuture[Any](record)
        future._outcome, future._state = self.value(f"task {record.id}"), "FINISHED"
        lineage = remember(record, future._outcome, True)
        if lineage is not None:
            lineage.slim(record)
        record.forget()
        return future

    def value(self, made: str = "") -> Stored:
        """A large value on a node."""
        entry = Entry(os.urandom(16), 1 << 20)
        entry.made = made
        return self.home._enter(entry)


def lose(future: Any) -> Lineage:
    """The value of a future is lost; how it was made."""
    stored = future._get_outcome()
    stored.entry.lost = "its node is gone"
    assert isinstance(stored.maker, Lineage)
    return stored.maker


def end(rerun: Rerun, outcome: Any) -> None:
    """A further task ends."""
    assert rerun.future is not None
    rerun.future._outcome = outcome
    rerun.forget()


def test_values_are_not_kept() -> None:
    """Of large arguments nothing is kept but how they were made; of those that were put nothing."""
    run = Run()
    put = ObjectRef[Any](run.value())
    first = run.task()
    second = run.task([first], {"x": put})
    values = [weakref.ref(first._outcome), weakref.ref(put._outcome)]
    del first, put
    gc.collect()
    assert [value() for value in values] == [None, None]
    with pytest.raises(CannotRerun, match=r"task 1 .* cannot run again without object .*, which is gone"):
        lose(second).start()


def test_a_diamond_is_made_again_once() -> None:
    """Each task runs again once, however many need it; what is there still is used as it is."""
    run = Run()
    root, kept = run.task(), run.task()
    left, right = run.task(root, kept), run.task(root)
    top = run.task(left, [right])
    del root, left, right
    gc.collect()
    lineage = lose(top)
    again = lineage.start()
    assert lineage.start() is again, "asked twice"
    assert len(run.again) == 4
    one = {rerun.lineage.record.id: rerun for rerun in run.again}
    assert sorted(one) == [0, 2, 3, 4] and again is one[4]
    assert one[4].args == (one[2].future, [one[3].future])
    assert one[3].args == (one[0].future,)
    there = one[2].args[1]
    assert isinstance(there, ObjectRef) and there._outcome is kept._outcome


def test_what_was_made_again_takes_the_place() -> None:
    """Whoever refers to the lost value has the new one, and the new one can be lost and made again in turn."""
    run = Run()
    future = run.task()
    stored = future._outcome
    for _ in range(2):
        rerun = lose(future).start()
        fresh = run.value()
        end(rerun, fresh)
        assert rerun.over.is_set() and stored.entry is fresh.entry
        assert not stored.entry.lost and stored.entry.made == "task 0"
    with pytest.raises(CannotRerun, match="was run again 2 times and may not be: lost_retries is 2"):
        lose(future).start()
    del fresh
    gc.collect()
    assert len(run.home) == 1, "the value lives as long as what stands for it"


def test_a_failure_is_final() -> None:
    """The second run fails: nobody tries a third time, and all who ask are told."""
    run = Run()
    future = run.task()
    lineage = lose(future)
    called: list[int] = []
    rerun = lineage.start()
    rerun.call_when_over(lambda: called.append(1))
    end(rerun, Failed(ValueError("no such file"), Blame.USER))
    assert called == [1] and len(run.again) == 1
    with pytest.raises(CannotRerun, match=r"task 0 \(divmod\) ran again as task 1000, and failed: ValueError: no such"):
        lineage.start()
    assert "no such file" in str(future._outcome.entry.error())
    cancelled = lose(run.task())
    end(cancelled.start(), "by cancel_all()")
    with pytest.raises(CannotRerun, match="ran again as task 1001, and was cancelled"):
        cancelled.start()


def test_long_chains_are_cut() -> None:
    """However long a chain gets, a bounded number of tasks is kept behind its end."""
    run = Run()
    future = run.task()
    for _ in range(4 * DEEPEST):
        future = run.task(future)
    gc.collect()
    generations, lineage = 0, future._outcome.maker
    while lineage is not None:
        generations += 1
        lineage = lineage._args[0].maker if lineage._args else None
    assert 1 <= generations <= DEEPEST
    with pytest.raises(CannotRerun, match="which is gone"):
        lose(future).start()
    assert not run.again


def test_a_plan_that_fails_leaves_nothing_behind() -> None:
    """A value that cannot be made again for want of another one can be as soon as that is there."""
    run = Run()
    first = run.task()
    second = run.task(first)
    run.cleaned_up = True
    with pytest.raises(CannotRerun, match="the run is over"):
        lose(second).start()
    run.cleaned_up = False
    lose(first)
    assert lose(second).start().args == (run.again[1].future,)
    assert [rerun.lineage.record.id for rerun in run.again] == [1, 0]
