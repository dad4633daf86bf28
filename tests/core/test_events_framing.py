"""Frames of the event log: what was written is found again, whatever happened to the file around it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlib.events import framing
from flowlib.events.framing import MAGIC, MARK, Parser, decode, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
small = st.lists(st.tuples(st.integers(1, 60), st.binary(max_size=9)), min_size=1, max_size=3)
batches = st.lists(small, min_size=1, max_size=4)


def frames_of(batch: list[tuple[Any, ...]]) -> bytes:
    """The bytes of a batch."""
    return b"".join(frame for frame, _ in encode(batch))


def as_lists(batch: list[tuple[Any, ...]]) -> list[list[Any]]:
    """The batch as a reader gives it back."""
    return [list(record) for record in batch]


def parse(data: bytes, pieces: list[int] | None = None) -> tuple[list[list[Any]], Parser]:
    """The records in a file that arrives in pieces of these lengths."""
    parser, found, position = Parser(), list[list[Any]](), 0
    for length in [*(pieces or []), len(data)]:
        for payload in parser.feed(data[position : position + length]):
            found += decode(payload)
        position += length
    for payload in parser.at_end():
        found += decode(payload)
    return found, parser


@given(values)
@settings(max_examples=50)
def test_values(value: Any) -> None:
    """Whatever msgpack can hold is read as it was written."""
    assert parse(MAGIC + frames_of([(1, 0.0, value)]))[0] == [[1, 0.0, value]]


@given(batches, st.lists(st.integers(1, 40), max_size=8))
def test_round_trip_in_pieces(batches: list[list[tuple[Any, ...]]], pieces: list[int]) -> None:
    """A file read in pieces of any length gives the records that were written, and no damage."""
    found, parser = parse(MAGIC + b"".join(map(frames_of, batches)), pieces)
    assert found == [record for batch in batches for record in as_lists(batch)]
    assert (parser.format, parser.damage, parser.unfinished) == (1, [], 0)


@given(batches, st.data())
def test_torn_end(batches: list[list[tuple[Any, ...]]], data: st.DataObject) -> None:
    """A file cut anywhere gives every frame before the cut, whole, and nothing else."""
    frames = [frames_of(batch) for batch in batches]
    whole = MAGIC + b"".join(frames)
    cut = data.draw(st.integers(len(MAGIC), len(whole)))
    found, parser = parse(whole[:cut])
    expected, end = list[list[Any]](), len(MAGIC)
    for batch, frame in zip(batches, frames, strict=True):
        if end + len(frame) > cut:
            break
        expected += as_lists(batch)
        end += len(frame)
    assert found == expected
    assert parser.unfinished == cut - end


@given(batches, st.data())
def test_one_bad_byte_costs_one_frame(batches: list[list[tuple[Any, ...]]], data: st.DataObject) -> None:
    """A flipped byte anywhere after the first line loses the frame it is in; the damage says where."""
    frames = [frames_of(batch) for batch in batches]
    victim = data.draw(st.integers(0, len(frames) - 1))
    place = data.draw(st.integers(0, len(frames[victim]) - 1))
    broken = bytearray(frames[victim])
    broken[place] ^= data.draw(st.integers(1, 255))
    start = len(MAGIC) + sum(map(len, frames[:victim]))
    frames[victim] = bytes(broken)
    found, parser = parse(MAGIC + b"".join(frames))
    assert found == [record for i, batch in enumerate(batches) if i != victim for record in as_lists(batch)]
    lost = sum(damage.length for damage in parser.damage) + parser.unfinished
    assert lost == len(broken)
    assert all(start <= damage.offset < start + len(broken) for damage in parser.damage)


@given(small, st.binary(max_size=60), st.data())
def test_writer_went_on_after_torn_frame(batch: list[tuple[Any, ...]], junk: bytes, data: st.DataObject) -> None:
    """What a second writer appends after a torn frame and junk is found."""
    frame = frames_of(batch)
    torn = frame[: data.draw(st.integers(0, len(frame) - 1))]
    found, parser = parse(MAGIC + frame + torn + junk.replace(MARK, b"") + frame)
    assert found[: len(batch)] == as_lists(batch)
    assert found[-len(batch) :] == as_lists(batch)
    assert parser.unfinished == 0


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(junk: bytes) -> None:
    """Nonsense gives no records, no exception, and an account of every byte."""
    found, parser = parse(junk)
    assert found == []
    first_line = len(junk) if parser.format == 0 else junk.index(b"\n") + 1
    assert sum(d.length for d in parser.damage) + parser.unfinished + (first_line if parser.format else 0) == len(junk)


def test_newer_format_is_told() -> None:
    """The number of the format is known once the first line is."""
    assert parse(b"flowlib-events 27\n" + frames_of([(1, 0.0)]))[1].format == 27


def test_damaged_first_line_loses_nothing_else() -> None:
    """A file whose beginning was overwritten still gives its records."""
    found, parser = parse(b"\0" * len(MAGIC) + frames_of([(13, 0.0, 1, 3)]))
    assert found == [[13, 0.0, 1, 3]]
    assert parser.damage == [(0, len(MAGIC))]


class _Loud:
    def __repr__(self) -> str:
        raise RuntimeError("a user's class must not be asked")


class _Number(IntEnum):
    SEVEN = 7


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("nor a user's string")


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("bad \udc80", "bad \\udc80"),
        (2**64, "<integer of more than 64 bits>"),
        (_Loud(), "<_Loud>"),
        (_Number.SEVEN, 7),
        (_Text("text"), "text"),
        ({1: 2**70}, {"1": "<integer of more than 64 bits>"}),
        (3j, "<complex>"),
    ],
)
def test_unwritable_values_are_replaced(value: Any, written: Any) -> None:
    """A value that the log cannot hold becomes something readable; its neighbours are untouched."""
    found, _ = parse(MAGIC + frames_of([(1, 0.0, "before"), (2, 0.0, value, 5), (3, 0.0, "after")]))
    assert found == [[1, 0.0, "before"], [2, 0.0, written, 5], [3, 0.0, "after"]]


def test_endless_nesting_is_cut() -> None:
    """A record that is nested too deeply for the encoder is written, cut."""
    found, _ = parse(MAGIC + frames_of([(1, 0.0, _nested(100_000))]))
    assert found[0][:2] == [1, 0.0]


def test_large_batches_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """No frame exceeds the limit: a batch is split, a single huge record is trimmed, and counts stay right."""
    monkeypatch.setattr(framing, "PAYLOAD_LIMIT", 100_000)
    batch = [(1, 0.0, "x" * 30_000)] * 10 + [(2, 0.0, "y" * 200_000, b"z" * 200_000)]
    frames = encode(batch)
    assert sum(count for _, count in frames) == 11
    assert all(len(frame) <= 100_000 + 12 for frame, _ in frames)
    found, _ = parse(MAGIC + b"".join(frame for frame, _ in frames))
    assert found[:10] == as_lists(batch[:10])
    assert found[10] == [2, 0.0, "y" * 65536, "<200000 bytes, too many for the log>"]


def test_nothing_gives_no_frame() -> None:
    """An empty batch writes nothing."""
    assert encode([]) == []
