"""How map decides on the size and number of its tasks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowlib.app.mapping import Pace


def run(pace: Pace, per_item: float, workers: int, tasks: int = 100, sending: float = 0.0) -> None:
    """Pretend that so many tasks ran on so many workers, all the time busy."""
    busy = 0.0
    for _ in range(tasks):
        seconds = pace.items * per_item
        busy += seconds
        # No more can run at once than are under way.
        pace.measure(pace.items, seconds, sending * pace.items, busy / min(workers, pace.tasks) + 1e-9)


def test_starts_with_one() -> None:
    """Nothing is known of the first item, so it goes alone."""
    assert Pace(2).items == 1


def test_short_items_are_batched() -> None:
    """No-ops end in batches of hundreds, after a handful of tasks."""
    pace = Pace(2)
    run(pace, 1e-7, 2, tasks=6)
    assert pace.items > 500


def test_long_items_stay_alone() -> None:
    """Items as long as a task should be are not batched."""
    pace = Pace(2)
    run(pace, 1.0, 2)
    assert pace.items == 1


def test_size_follows_duration() -> None:
    """A batch takes about as long as is wanted, whatever an item takes; and shrinks again."""
    pace = Pace(2)
    run(pace, 1e-3, 2)
    assert 0.02 < pace.items * 1e-3 < 0.1
    run(pace, 1e-2, 2)
    assert 0.02 < pace.items * 1e-2 < 0.1


def test_heavy_items() -> None:
    """Items that take long to send are not piled up, however quickly they are done."""
    pace = Pace(2)
    run(pace, 1e-7, 2, sending=0.01)
    assert pace.items <= 5


def test_large_values() -> None:
    """Values of a megabyte are not piled up, however quickly they are made."""
    pace = Pace(2)
    for _ in range(20):
        pace.measure(pace.items, pace.items * 1e-6, 0.0, 1.0, size=pace.items * 1_000_000)
    assert pace.items <= 4


def test_one_short_item_promises_little() -> None:
    """Growth is by a factor from what was seen, not to what the first measure suggests."""
    pace = Pace(2)
    pace.measure(1, 1e-9, 0.0, 1.0)
    assert pace.items <= 4


def test_many_workers() -> None:
    """As many tasks are under way as keep a thousand workers busy, and few more on two."""
    many, few = Pace(2), Pace(2)
    run(many, 1e-3, 1000, tasks=20_000)
    run(few, 1e-3, 2, tasks=20_000)
    assert many.tasks > 1500
    assert few.tasks <= 16


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e5)), max_size=50))
def test_bounds(measures: list[tuple[int, float, float, float]]) -> None:
    """Whatever is measured, both numbers stay within bounds."""
    pace = Pace(4)
    for measure in measures:
        pace.measure(*measure)
        assert 1 <= pace.items <= 2048
        assert 8 <= pace.tasks <= 4096
