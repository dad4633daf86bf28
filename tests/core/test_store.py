"""The decisions about large objects: their layout, who is kept where, what is asked for next."""

from __future__ import annotations

import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlib.store.ledger import Ledger
from flowlib.store.packing import ALIGNED, MARK, pack, unpack
from flowlib.store.pulls import Ask, Pulls


@given(st.binary(max_size=200), st.lists(st.binary(max_size=300), max_size=6))
def test_what_is_packed_is_unpacked(body: bytes, buffers: list[bytes]) -> None:
    """Pickle and buffers come back as they were, and every buffer starts where a CPU likes it."""
    packed = b"".join(pack(body, [memoryview(buffer) for buffer in buffers]))
    found, views = unpack(memoryview(packed))
    assert bytes(found) == body and [bytes(view) for view in views] == buffers
    assert packed[:1] == MARK != pickle.dumps(1, 5)[:1]
    end = 24 + 16 * len(buffers) + len(body)
    for buffer in buffers:
        end = -(-end // ALIGNED) * ALIGNED + len(buffer)
    assert len(packed) == end


@given(st.integers(0, 400), st.integers(0, 255))
def test_what_is_cut_off_or_garbled_is_refused(length: int, byte: int) -> None:
    """Bytes that are no packed object are refused with a ValueError, whatever they are; none are read beyond the end."""
    packed = b"".join(pack(b"body", [memoryview(bytes(300))]))
    if length < len(packed):
        with pytest.raises(ValueError, match="packed object"):
            unpack(memoryview(packed[:length]))
    with pytest.raises(ValueError, match="no packed object"):
        unpack(memoryview(bytes([byte ^ 0x80 if byte == MARK[0] else byte]) + packed[1:]))


@settings(max_examples=60)
@given(st.integers(0, 1 << 30))
def test_the_ledger_keeps_its_limit(seed: int) -> None:
    """Whatever happens in whatever order, memory stays within its limit, what is used stays, what is freed goes."""
    rng = random.Random(seed)
    ledger = Ledger(100)
    here: dict[bytes, int] = {}
    original: set[bytes] = set()
    pins: dict[bytes, int] = {}
    doomed: set[bytes] = set()
    for step in range(120):
        action = rng.choice(("admit", "admit", "pin", "unpin", "free", "keep"))
        known = sorted(here)
        if action == "admit":
            key, size = b"%d" % step, rng.randint(0, 130)
            first = rng.random() < 0.5
            admission = ledger.admit(key, size, original=first)
            assert not {*admission.drop, *admission.spill} & {k for k, n in pins.items() if n}
            assert not original & {*admission.drop}, "the only one was dropped"
            assert {*admission.spill} <= original, "a copy was spilled"
            assert admission.memory or not (admission.drop or admission.spill)
            for gone in admission.drop:
                del here[gone]
            here[key] = size
            if first:
                original.add(key)
        elif known and action == "pin":
            key = rng.choice(known)
            ledger.pin(key)
            pins[key] = pins.get(key, 0) + 1
            doomed.discard(key)
        elif known and action == "unpin":
            used = [k for k in known if pins.get(k)]
            if used:
                key = rng.choice(used)
                pins[key] -= 1
                goes = ledger.unpin(key)
                assert goes == (key in doomed and not pins[key])
                if goes:
                    del here[key]
        elif known and action == "free":
            key = rng.choice(known)
            goes = ledger.free(key)
            assert goes == (not pins.get(key))
            doomed.add(key)
            if goes:
                del here[key]
        elif known and action == "keep":
            key = rng.choice(known)
            ledger.keep(key)
            original.add(key)
        original &= here.keys()
        doomed &= here.keys()
        ledger.check_invariants()
        assert sorted(ledger.ids()) == sorted(here)
        assert {*ledger.originals()} == original - doomed


def test_what_does_not_fit_goes_to_disk_and_sends_nobody_there() -> None:
    """An object that could not fit even if all others left displaces none of them."""
    ledger = Ledger(100)
    ledger.admit(b"a", 50, original=True)
    assert ledger.admit(b"huge", 101, original=True) == (False, [], [])
    ledger.pin(b"a")
    assert ledger.admit(b"b", 60, original=True) == (False, [], [])
    assert ledger.used == 50


@settings(max_examples=60)
@given(st.integers(0, 1 << 30))
def test_every_byte_is_asked_for_until_it_comes(seed: int) -> None:
    """With answers lost, doubled and out of order each object arrives, each byte once, the window never exceeded."""
    rng = random.Random(seed)
    pulls = Pulls(piece=10, window=3)
    sizes = {b"%d" % i: rng.randint(1, 75) for i in range(rng.randint(1, 6))}
    got: dict[bytes, set[int]] = {key: set() for key in sizes}
    dropped = set(rng.sample(sorted(sizes), k=rng.randint(0, len(sizes) - 1)))
    now = 0.0
    for key, size in sizes.items():
        pulls.begin(key, size, now)
        pulls.begin(key, size, now)
    on_the_way: list[Ask] = []
    for _ in range(3000):
        now += 1
        on_the_way += pulls.asks()
        if not on_the_way:
            on_the_way += pulls.again(now, now)
        pulls.check_invariants()
        if not len(pulls):
            break
        if dropped and rng.random() < 0.1:
            pulls.drop(dropped.pop())
            continue
        if not on_the_way:
            continue
        ask = on_the_way.pop(rng.randrange(len(on_the_way)))
        if rng.random() < 0.2:
            continue
        if rng.random() < 0.2:
            on_the_way.append(ask)
        if not pulls.expects(*ask):
            continue
        assert not got[ask.object] & {*range(ask.offset, ask.offset + ask.length)}
        got[ask.object].update(range(ask.offset, ask.offset + ask.length))
        whole = pulls.took(*ask, now)
        assert whole == (len(got[ask.object]) == sizes[ask.object])
    assert not len(pulls)


def test_only_what_stands_still_is_asked_for_again() -> None:
    """An object of which a piece came a moment ago is left alone, one that stands still is asked for once a pause."""
    pulls = Pulls(piece=10, window=4)
    pulls.begin(b"a", 20, now=0.0)
    pulls.begin(b"b", 20, now=0.0)
    assert len(pulls.asks()) == 4
    pulls.took(b"a", 0, 10, now=5.0)
    assert pulls.again(4.0, now=6.0) == [(b"b", 0, 10), (b"b", 10, 10)]
    assert pulls.again(4.0, now=6.0) == []
    assert pulls.again(5.5, now=7.0) == [(b"a", 10, 10)]


def test_copies_nobody_uses_can_be_dropped() -> None:
    """Not those in use, and never the only one; the longest unused first."""
    ledger = Ledger(100)
    for key in (b"a", b"b", b"c", b"d"):
        ledger.admit(key, 1, original=key == b"b")
    ledger.pin(b"a")
    ledger.pin(b"c")
    ledger.unpin(b"c")
    assert ledger.droppable() == [b"d", b"c"]
