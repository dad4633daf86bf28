"""A request that executors turn out not to hold: the next one gets it, and the error tells what each of them lacks.

What a node has is known for sure only when one is there.  Until then an executor may be given a task that it can never
run; its refusal comes later, as the failure of an attempt, and is no failure of the task's while there is another
executor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowlib.dataflow.futures import DependencyFailed
from flowlib.dataflow.outcomes import Failed
from flowlib.errors import InvalidResourceSpecification

if TYPE_CHECKING:
    from flowlib.dataflow.lanes import Lane
    from flowlib.dataflow.record import TaskRecord

_REFUSAL = "flowlib.errors.InvalidResourceSpecification"


def refused_by(record: TaskRecord, lane: Lane | None, outcome: Failed) -> bool:
    """Note that an executor cannot hold a task, as its nodes have turned out; whether another one may.

    Args:
        record: The task.
        lane: Who had it; None if nobody had.
        outcome: What became of the attempt.
    """
    if lane is None or len(record.lanes) < 2 or not _is_refusal(outcome):
        return False
    rare = record.more()
    rare.refusals += (outcome,)
    record.lanes = type(record.lanes)(other for other in record.lanes if other is not lane)
    return True


def whole(record: TaskRecord, outcome: Failed) -> Failed:
    """The failure of a task as its future tells it: of one that several executors refused, what each of them lacks."""
    rare = record.rare
    if rare is None or not rare.refusals or not _is_refusal(outcome):
        return outcome
    return Failed(joint([failed.error for failed in (*rare.refusals, outcome)]), outcome.blame)


def joint(refusals: Sequence[BaseException]) -> InvalidResourceSpecification:
    """One refusal for those of several executors."""
    keys: dict[str, None] = {}
    reasons: list[str] = []
    for refusal in refusals:
        if isinstance(refusal, InvalidResourceSpecification):
            keys.update(dict.fromkeys(refusal.invalid_keys))
            reasons.append(refusal.message)
    return InvalidResourceSpecification(keys, "; ".join(dict.fromkeys(reasons)))


def _is_refusal(outcome: Failed) -> bool:
    # The exception of a task that lacks a dependency would have to be made first, which runs users' code.
    return type(outcome) is not DependencyFailed and _REFUSAL in outcome.kinds()
