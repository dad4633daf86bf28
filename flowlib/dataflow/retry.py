"""Whether a failed task is tried again.

Pure.  Two budgets: what the user's code does costs ``retries`` (a retry handler may set the price of a failure), what
happens to the machines costs ``lost_retries``, so that a bad node never eats the retries that were meant for the
user's own failures.
"""

from __future__ import annotations

from flowlib.dataflow.outcomes import Blame


def first_set(*settings: float | None) -> float:
    """The first setting that is not None: call before app before Config.

    Raises:
        ValueError: All are None.

    Example:
        >>> first_set(None, 0, 3)
        0
    """
    for setting in settings:
        if setting is not None:
            return setting
    raise ValueError("no setting is set; the last one must be")


def may_retry(blame: Blame, *, cost: float, retries: float, losses: int, lost_retries: float) -> bool:
    """Whether there is another attempt.

    Args:
        blame: Who pays for the failure.
        cost: What the user's failures cost so far, this one included. A handler may make it fractional or negative.
        retries: The budget for it.
        losses: How often the infrastructure lost the task, this time included.
        lost_retries: The budget for that.

    Example:
        >>> may_retry(Blame.USER, cost=1, retries=1, losses=0, lost_retries=2)
        True
        >>> may_retry(Blame.REFUSED, cost=0, retries=9, losses=0, lost_retries=2)
        False
    """
    if blame is Blame.USER:
        return cost <= retries
    if blame is Blame.INFRASTRUCTURE:
        return losses <= lost_retries
    return False
