"""What a run's records say of it as a whole."""

from __future__ import annotations

from flowlib.dataflow.states import States
from flowlib.events.schema import Code
from flowlib.runs.run import split
from flowlib.runs.summary import summarize


def test_tasks_and_blocks() -> None:
    """Tasks are counted by their last state; a block has its last change and keeps its job's number."""
    records = [
        (Code.RUN_STARTED, 1.0, 1, "abc", "/r", "/s.py", "/", "ann", "host", 7, "3.11", "0.1", "s.py", ""),
        (Code.EXECUTOR, 1.0, 0, "htex", "HighThroughputExecutor", ""),
        (Code.BLOCK, 1.1, 0, "0", "submitting", "", ""),
        (Code.BLOCK, 1.2, 0, "0", "submitted", "17", ""),
        (Code.BLOCK, 1.3, 0, "0", "pending", "17", "Priority"),
        (Code.BLOCK, 1.4, 0, "1", "failed", "", "refused"),
        *((Code.TASK_SUBMITTED, 2.0, n, 0, []) for n in range(4)),
        *((Code.TASK_LAUNCHED, 2.1, n, 0, 0) for n in range(3)),
        (Code.TASK_DONE, 2.2, 0, int(States.exec_done), ""),
        (Code.TASK_DONE, 2.2, 1, int(States.dep_fail), ""),
    ]
    told = summarize(records)
    assert told.tasks == {"waiting": 1, "launched": 1, "done": 1, "failed": 1}
    assert (told.run_id, told.pid, told.host, told.ended) == ("abc", 7, "host", 0.0)
    first, second = told.blocks
    assert (first.executor, first.state, first.job, first.reason, first.alive) == (
        "htex",
        "pending",
        "17",
        "Priority",
        True,
    )
    assert not second.alive


def test_split() -> None:
    """What stands before the script is the site's, what comes after is the script's, whatever it looks like."""
    assert split(["--max-blocks=2", "a=b", "s.py", "c=d"]) == (["max_blocks=2", "a=b"], ["s.py", "c=d"])
    assert split(["a=b", "--", "x=y.py"]) == (["a=b"], ["x=y.py"])
