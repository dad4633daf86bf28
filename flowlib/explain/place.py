"""What an executor says of an attempt that it has, when a live run is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flowlib.explain.interval import Interval
from flowlib.explain.reasons import Reason


class Place(NamedTuple):
    """Where an attempt is at this moment.

    Attributes:
        reason: Why it does not run, or ``Reason.RUNNING``.
        detail: As in an ``Interval``.
        since: Unix time since when, where that is known.
    """

    reason: Reason
    detail: Mapping[str, Any]
    since: float | None = None


def refined(intervals: list[Interval], place: Place, now: float) -> list[Interval]:
    """What records tell, with the last interval as the executor sees it.

    Args:
        intervals: Of a task that is not done.
        place: Where its attempt is.
        now: Unix time.

    Example:
        >>> queued = Interval(Reason.CAPACITY, 10.0, None, {"workers": 2})
        >>> [tuple(i) for i in refined([queued], Place(Reason.RUNNING, {"host": "node1"}, 12.0), 15.0)]
        ... # doctest: +NORMALIZE_WHITESPACE
        [(<Reason.CAPACITY: 'capacity'>, 10.0, 12.0, {'workers': 2}),
         (<Reason.RUNNING: 'running'>, 12.0, None, {'host': 'node1'})]
    """
    *before, last = intervals
    if last.reason is place.reason:
        return [*before, last._replace(detail={**last.detail, **place.detail})]
    if place.since is not None and last.since < place.since < now:
        return [*before, last._replace(until=place.since), Interval(place.reason, place.since, None, place.detail)]
    return [*before, Interval(place.reason, last.since, None, place.detail)]
