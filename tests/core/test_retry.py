"""Who pays for a failure, and when the money is gone."""

from __future__ import annotations

import pytest

from flowlib.dataflow.outcomes import Blame
from flowlib.dataflow.retry import first_set, may_retry


@pytest.mark.parametrize(
    ("cost", "retries", "again"), [(1, 0, False), (1, 1, True), (2, 1, False), (0.5, 0.5, True), (-1, 0, True)]
)
def test_user_budget(cost: float, retries: float, again: bool) -> None:
    """A task is tried again while its failures cost no more than its retries."""
    assert may_retry(Blame.USER, cost=cost, retries=retries, losses=9, lost_retries=0) is again


@pytest.mark.parametrize(("losses", "again"), [(1, True), (2, True), (3, False)])
def test_lost_budget(losses: int, again: bool) -> None:
    """Losses have a budget of their own, whatever the user's failures cost."""
    assert may_retry(Blame.INFRASTRUCTURE, cost=99, retries=0, losses=losses, lost_retries=2) is again


def test_refused_is_final() -> None:
    """What can never work is not tried again."""
    assert not may_retry(Blame.REFUSED, cost=0, retries=99, losses=0, lost_retries=99)


def test_precedence() -> None:
    """The first setting that is set counts, zero included; none at all is a mistake."""
    assert first_set(None, 0, 5) == 0
    assert first_set(None, None, 5) == 5
    with pytest.raises(ValueError, match="last"):
        first_set(None)
