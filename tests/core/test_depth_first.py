"""Which of equally important tasks is next: those that use what others have made, so that little is kept meanwhile."""

from __future__ import annotations

import pytest

from flowlib.executors.high_throughput.dispatcher import Dispatcher
from flowlib.executors.high_throughput.messages import Needs, Register, Result, Status, Task

WIDTH = 300


@pytest.mark.parametrize("needs", [None, Needs(5.0), Needs(0.0, None, {"cores": 1})])
def test_early_tasks_go_first(needs: Needs | None) -> None:
    """Among equals those marked early are first, each kind in its order; those put back are before all."""
    core = Dispatcher()
    core.submit([Task(1, 0, 1, b"", needs), Task(2, 0, 1, b"", needs, True), Task(3, 0, 1, b"", needs)])
    core.submit([Task(4, 0, 1, b"", needs, True)])
    core.register(Register(1, "3.11", "0", "m", "0", "host", 1, slots=1, prefetch=0), 0.0)
    order: list[int] = []
    while sent := [t for a in core.assign() for t in a.tasks]:
        order += [t.task for t in sent]
        core.finish("m", [Result(t.task, 0, Status.OK) for t in sent], 1.0)
        core.check_invariants()
    assert order == [2, 4, 1, 3]


@pytest.mark.parametrize(("early", "most"), [(True, 8), (False, WIDTH)])
def test_wide_levels_keep_few_results(early: bool, most: int) -> None:
    """Of two levels, three hundred wide, on four workers: how many results of the first wait for the second."""
    core = Dispatcher()
    core.register(Register(1, "3.11", "0", "m", "0", "host", 1, slots=4, prefetch=0), 0.0)
    core.submit(Task(n, 0, 1, b"") for n in range(WIDTH))
    kept = peak = done = 0
    while done < 2 * WIDTH:
        for task in [t for a in core.assign() for t in a.tasks]:
            core.finish("m", [Result(task.task, 0, Status.OK)], 1.0)
            done += 1
            if task.task < WIDTH:
                core.submit([Task(WIDTH + task.task, 0, 1, b"", None, early)])
            kept += 1 if task.task < WIDTH else -1
            peak = max(peak, kept)
    assert peak <= most if early else peak == most
