"""The backlog: bounded, in order, samples before events, and every loss counted."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flowlib.events.backlog import Backlog, Lost

LIMIT = 100


class Model(RuleBasedStateMachine):
    """Adds and writes at random; the file must hold what was kept, in order, and the counts the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog(LIMIT)
        self.file = bytearray()
        self.added: list[tuple[int, int, bool]] = []
        self.reported = [0, 0]

    @rule(size=st.integers(1, 40), records=st.integers(1, 5), samples=st.booleans())
    def add(self, size: int, records: int, samples: bool) -> None:
        number = len(self.added)
        self.added.append((size, records, samples))
        self.backlog.add(bytes([number % 256]) * size, records, samples=samples)

    @rule(share=st.floats(0.1, 1.0))
    def write(self, share: float) -> None:
        head = bytes(self.backlog.head())
        if head:
            count = max(1, int(len(head) * share))
            self.file += head[:count]
            self.backlog.written(count)

    @rule()
    def report(self) -> None:
        gap = self.backlog.unreported()
        if gap is not None:
            assert self.backlog.size <= LIMIT // 2
            assert gap != (0, 0)
            self.reported[0] += gap.events
            self.reported[1] += gap.samples

    @invariant()
    def bounded(self) -> None:
        assert 0 <= self.backlog.size <= LIMIT

    @invariant()
    def told_no_more_than_lost(self) -> None:
        assert self.reported[0] <= self.backlog.lost.events
        assert self.reported[1] <= self.backlog.lost.samples

    def teardown(self) -> None:
        while head := bytes(self.backlog.head()):
            self.file += head
            self.backlog.written(len(head))
        kept, position = [0, 0], 0
        for number, (size, records, samples) in enumerate(self.added):
            if self.file[position : position + size] == bytes([number % 256]) * size:
                position += size
                kept[samples] += records
        assert position == len(self.file), "something in the file is torn or out of order"
        lost = self.backlog.lost
        assert kept[0] + lost.events == sum(records for _, records, samples in self.added if not samples)
        assert kept[1] + lost.samples == sum(records for _, records, samples in self.added if samples)
        assert self.backlog.size == 0


TestModel = Model.TestCase


def test_samples_make_room_for_events() -> None:
    """When it is full, older samples go before any event does; the half-written head stays whole."""
    backlog = Backlog(limit=30)
    backlog.add(b"s" * 10, 1, samples=True)
    backlog.written(3)
    backlog.add(b"t" * 10, 2, samples=True)
    backlog.add(b"e" * 10, 4)
    backlog.add(b"f" * 10, 8)
    assert backlog.lost == Lost(events=0, samples=2)
    backlog.add(b"u" * 10, 16, samples=True)
    backlog.add(b"g" * 10, 32)
    assert backlog.lost == Lost(events=32, samples=18)
    assert bytes(backlog.head()) == b"s" * 7


@given(st.integers(1, 50))
def test_loss_is_reported_once(count: int) -> None:
    """A loss is reported when there is room again, once, with its count."""
    backlog = Backlog(limit=10)
    backlog.add(b"x" * 10, 1)
    backlog.add(b"y" * 10, count)
    assert backlog.unreported() is None
    backlog.written(10)
    assert backlog.unreported() == Lost(count, 0)
    assert backlog.unreported() is None
