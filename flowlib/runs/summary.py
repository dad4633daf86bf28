"""What a run's records say of it as a whole: who drives it, its tasks by state, its blocks with their jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowlib.dataflow.states import States
from flowlib.events.schema import Code

_ENDED = frozenset({"ended", "failed"})
_WORDS = {
    States.exec_done: "done",
    States.memo_done: "done",
    States.failed: "failed",
    States.dep_fail: "failed",
    States.cancelled: "cancelled",
}


@dataclass(slots=True)
class BlockSeen:
    """A block.

    Attributes:
        executor: Label of its executor.
        block: Its id there.
        state: Its last change; see ``flowlib.events.schema.Code.BLOCK``.
        job: The scheduler's id; "" if there is none yet.
        reason: Why it is in that state, if told.
    """

    executor: str
    block: str
    state: str = ""
    job: str = ""
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether nothing tells that it ended."""
        return self.state not in _ENDED


@dataclass(slots=True)
class RunSummary:
    """A run.

    Attributes:
        run_id: Its id; "" if the first record is missing.
        script: Path of the script.
        user: Who started it.
        host: Where the driver was started.
        pid: The driver's process there; 0 if unknown.
        started: Unix seconds.
        ended: Unix seconds; 0 as long as no record tells.
        reason: Why it ended.
        tasks: Tasks by "waiting", "launched", "done", "failed", "cancelled"; only those that there are.
        blocks: In the order in which they were started.
    """

    run_id: str = ""
    script: str = ""
    user: str = ""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    ended: float = 0.0
    reason: str = ""
    tasks: dict[str, int] = field(default_factory=dict)
    blocks: list[BlockSeen] = field(default_factory=list)


def summarize(records: Iterable[Sequence[Any]]) -> RunSummary:
    """The summary of a run.

    Args:
        records: Those of its event log, in order.

    Example:
        >>> told = summarize([(Code.TASK_SUBMITTED, 1.0, 0, 0, []), (Code.TASK_LAUNCHED, 1.1, 0, 0, 0)])
        >>> told.tasks
        {'launched': 1}
    """
    told = RunSummary()
    labels: dict[int, str] = {}
    blocks: dict[tuple[int, str], BlockSeen] = {}
    open_tasks: dict[int, str] = {}
    counts: Counter[str] = Counter()
    for record in records:
        code = record[0]
        if code == Code.TASK_SUBMITTED:
            open_tasks[record[2]] = "waiting"
        elif code == Code.TASK_LAUNCHED:
            open_tasks[record[2]] = "launched"
        elif code == Code.TASK_WAITING:
            open_tasks[record[2]] = "waiting"
        elif code == Code.TASK_DONE:
            open_tasks.pop(record[2], None)
            counts[_WORDS.get(States(record[3]), "failed")] += 1
        elif code == Code.BLOCK:
            _, _, executor, block, change, job, reason = record[:7]
            seen = blocks.setdefault((executor, block), BlockSeen(labels.get(executor, str(executor)), block))
            seen.state, seen.job, seen.reason = change, job or seen.job, reason
        elif code == Code.EXECUTOR:
            labels[record[2]] = record[3]
        elif code == Code.RUN_STARTED:
            told.started, told.run_id, told.script = record[1], record[3], record[5]
            told.user, told.host, told.pid = record[7], record[8], record[9]
        elif code == Code.RUN_ENDED:
            told.ended, told.reason = record[1], record[2]
    counts.update(open_tasks.values())
    told.tasks = {word: counts[word] for word in ("waiting", "launched", "done", "failed", "cancelled") if counts[word]}
    told.blocks = list(blocks.values())
    return told
