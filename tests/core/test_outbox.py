"""Memory by which a worker and its manager share tasks to be revoked and results that were not sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput import outbox, page


def _box() -> tuple[outbox.Outbox, memoryview, memoryview]:
    cells, memory = memoryview(bytearray(64)).cast("Q"), memoryview(bytearray(outbox.SIZE))
    return outbox.Outbox(cells, 3, memory), cells, memory


@given(st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=outbox.LARGEST)), max_size=200))
def test_reads_what_was_put_since_the_last_emptying(steps: list[bytes | None]) -> None:
    """At any moment the other side reads exactly what is in it; what does not fit is refused."""
    box, cells, memory = _box()
    inside: list[bytes] = []
    for step in steps:
        if step is None:
            box.empty()
            inside.clear()
        elif box.put(step):
            inside.append(step)
        else:
            assert sum(map(len, inside)) + len(step) > outbox.SIZE
        assert outbox.read(cells, 3, memory) == box.look() == (len(inside), b"".join(inside))
        assert box.count == len(inside)


def test_a_change_while_reading_is_seen() -> None:
    """What changes under the reader's hands is read again, and left alone when it does not come to rest."""
    box, cells, memory = _box()
    box.put(b"before")

    class Restless:
        """Cells whose every second reading finds that the worker went on."""

        def __init__(self, times: int) -> None:
            self.reads = 0
            self.times = times

        def __getitem__(self, cell: int) -> int:
            self.reads += 1
            if self.reads % 2 == 0 and self.reads <= 2 * self.times:
                box.empty()
                box.put(b"after%d" % self.reads)
            return int(cells[cell])

    assert outbox.read(Restless(1), 3, memory) == (1, b"after2")  # type: ignore[arg-type]
    assert outbox.read(Restless(100), 3, memory) == (0, b"")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 9), st.binary(max_size=50)), min_size=1, max_size=400))
def test_makes_a_message(fields: list[tuple[int, int, bytes]]) -> None:
    """Encoded results, one after the other, make a message of them."""
    results = [m.Result(task, attempt, 0, payload, 1.5, 2.5, 3) for task, attempt, payload in fields]
    parts = [m._encoder.encode(result) for result in results]
    assert m.decode(outbox.message(len(parts), b"".join(parts))) == m.Results(results)


def test_page_keeps_workers_apart() -> None:
    """Each worker has cells and an outbox of its own; a fresh one finds both empty."""
    shared = page.Page.create(3)
    try:
        boxes = [outbox.Outbox(shared.cells, rank * page.CELLS + page.OUTBOX, shared.outbox(rank)) for rank in range(3)]
        for rank, box in enumerate(boxes):
            shared.reset(rank)
            assert box.put(b"%d" % rank * outbox.LARGEST)
            shared.cells[rank * page.CELLS + page.STARTED] = rank + 10
        assert [shared.read_outbox(rank) for rank in range(3)] == [
            (1, b"%d" % rank * outbox.LARGEST) for rank in range(3)
        ]
        shared.reset(1)
        assert shared.read_outbox(1) == (0, b"")
        assert shared.cells[page.CELLS + page.REVOKED] == page.NEVER
        assert shared.cells[2 * page.CELLS + page.STARTED] == 12
        del boxes, box
    finally:
        shared.close()
