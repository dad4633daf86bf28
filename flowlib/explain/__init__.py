"""Why a task is not done yet, or where its time went: reasons with a code, and the seconds spent on each.

The answer is made from the event log alone, so it is the same while a run lives, from another terminal, and years
later.  A live run can add what only its executors know: a place in a queue, the node of a task that has just begun.
"""

from __future__ import annotations

from flowlib.explain.explanation import Explanation
from flowlib.explain.interval import Interval
from flowlib.explain.reasons import Reason

__all__ = ["Explanation", "Interval", "Reason"]
