"""What a progress display says, from counters and a clock that the test makes up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowlib.dataflow.states import States
from flowlib.tally import Tally, duration

counters = st.dictionaries(
    st.text(min_size=1, max_size=3), st.dictionaries(st.sampled_from(list(States)), st.integers(0, 1000)), max_size=4
)


@given(counters)
def test_every_task_counts_once(snapshot: dict[str, dict[int, int]]) -> None:
    """Each task is in exactly one column, in whatever state it is."""
    tally = Tally()
    tally.update(0.0, snapshot)
    assert tally.total.total == sum(sum(counts.values()) for counts in snapshot.values())
    assert [row.name for row in tally.rows] == list(snapshot)


def test_columns() -> None:
    """States go to the columns a person expects them in."""
    tally = Tally()
    tally.update(0.0, {"f": dict.fromkeys(States, 1)})
    (row,) = tally.rows
    assert (row.done, row.failed, row.launched, row.waiting) == (2, 3, 4, 2)


def test_rate_follows_the_last_seconds() -> None:
    """The rate forgets what was long ago, so the time left follows a run that slows down."""
    tally = Tally()
    for second in range(100):
        done = min(second, 50) * 100 + max(0, second - 50)
        tally.update(float(second), {"f": {States.exec_done: done, States.launched: 10_000 - done}})
    assert 0.9 < tally.rate < 1.1
    assert tally.left is not None
    assert tally.left > 4000


def test_nothing_is_promised_without_a_rate() -> None:
    """Before anything is finished nobody says how long it takes, and at the end nothing is left."""
    tally = Tally()
    tally.update(0.0, {"f": {States.launched: 1}})
    tally.update(5.0, {"f": {States.launched: 1}})
    assert (tally.left, tally.line()) == (None, "0 of 1 done, 1 launched")
    tally.update(6.0, {"f": {States.exec_done: 1}})
    assert (tally.left, tally.line()) == (0.0, "1 of 1 done, 0.17/s")


@given(st.floats(0, 10**7))
def test_durations_are_short(seconds: float) -> None:
    """Any length of time fits into a line."""
    assert 0 < len(duration(seconds)) < 16
