"""The dispatcher alone: tasks per second in a steady state, for several numbers of managers.

Run with ``python -m benchmarks.dispatcher``.  Every manager is full and tasks wait all the time.  The rate should not
depend on the number of managers: at least two thirds of that with one, at 500 managers with 256 workers each and at
2 000 with 64.
"""

from __future__ import annotations

import random
import statistics
import time

from flowlib.executors.high_throughput.dispatcher import Dispatcher
from flowlib.executors.high_throughput.messages import Register, Result, Status, Task

TASKS = 60_000
BATCH = 16
RUNS = 3
SHAPES = ((1, 256), (50, 256), (500, 256), (2000, 64))


def rate(managers: int, slots: int) -> float:
    """Tasks per second through a dispatcher with that many managers; results come in batches from random ones."""
    core = Dispatcher()
    names = [f"manager-{n}" for n in range(managers)]
    for n, name in enumerate(names):
        core.register(Register(1, "3.11", "0", name, str(n), "host", 1, slots, 0), 0.0)
    full = managers * slots
    core.submit(Task(n, 0, n % 10, b"") for n in range(full))
    holds = {name: [] for name in names}  # type: dict[str, list[Task]]
    for part in core.assign():
        holds[part.manager.name] += part.tasks
    rng = random.Random(0)
    tasks = [Task(full + n, 0, n % 10, b"") for n in range(TASKS)]
    done = 0
    began = time.perf_counter()
    spent_outside = 0.0
    while done < TASKS:
        outside = time.perf_counter()
        held = holds[name := rng.choice(names)]
        batch, held[:BATCH] = held[:BATCH], []
        results = [Result(t.task, 0, Status.OK, b"", 1.0, 2.0) for t in batch]
        spent_outside += time.perf_counter() - outside
        core.submit(tasks[done : done + len(batch)])
        core.finish(name, results, 1.0)
        for part in core.assign():
            holds[part.manager.name] += part.tasks
        done += len(batch)
    return done / (time.perf_counter() - began - spent_outside)


def main() -> None:
    """Print a table."""
    print(f"{'managers':>8} {'workers each':>12} {'tasks/s':>9} {'of one manager':>14}")
    base = 0.0
    for managers, slots in SHAPES:
        median = statistics.median(rate(managers, slots) for _ in range(RUNS))
        base = base or median
        print(f"{managers:>8} {slots:>12} {median:>9.0f} {median / base:>14.2f}")


if __name__ == "__main__":
    main()
