"""What a manager keeps until it is confirmed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowlib.executors.high_throughput.messages import Result
from flowlib.executors.high_throughput.unconfirmed import Unconfirmed


@given(st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=60))
def test_keeps_exactly_what_is_not_confirmed(steps: list[int | None]) -> None:
    """Messages are kept in order from the last confirmed number on; confirming again, or less, changes nothing."""
    sent, numbers, confirmed = Unconfirmed(), [], 0
    for step in steps:
        if step is None:
            number = sent.next()
            numbers.append(number)
            sent.add(number, [Result(number, 0, 0, b"")], [b"%d" % number])
        else:
            sent.confirm(step)
            numbers = [n for n in numbers if n > step]
            confirmed = max(confirmed, step)
        assert sent.frames() == [[b"%d" % n] for n in numbers]
        assert sent.keys() == [(n, 0) for n in numbers]
    assert len(set(numbers)) == len(numbers)
