"""Stores in files: shared, damaged, tidied."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from flowlib.memory.store import INLINE, Entry, Facts, Store
from flowlib.memory.tidy import tidy
from tests.faults.sampling import SEED


def facts(created: float = 1e9, size: int = 5) -> Facts:
    """Facts of an entry."""
    return Facts(INLINE, "m.f", created, size, bytes(32), {"x": b"1"})


def key(number: int) -> bytes:
    """A key."""
    return random.Random(number).randbytes(32)


def value(store: Store, number: int) -> bytes | None:
    """What a store has under a key."""
    entry = store.get(key(number))
    return None if entry is None else entry.value


def test_two_writers_share_a_store(tmp_path: Path) -> None:
    """Each finds what the other wrote, and a third finds both."""
    one, other = Store(str(tmp_path)), Store(str(tmp_path))
    one.put([(key(1), facts(), b"one")])
    other.put([(key(2), facts(), b"two")])
    one.refresh()
    other.refresh()
    third = Store(str(tmp_path))
    for store in (one, other, third):
        assert [value(store, 1), value(store, 2), value(store, 3)] == [b"one", b"two", None]
        store.close()


def test_later_entries_win_and_many_are_indexed(tmp_path: Path) -> None:
    """Of entries with one key the last counts; a store of thousands is found by its index."""
    store = Store(str(tmp_path))
    for start in range(0, 6000, 500):
        store.put([(key(i), facts(), b"%d" % i) for i in range(start, start + 500)])
    store.put([(key(7), facts(), b"new")])
    assert value(store, 7) == b"new"
    store.close()
    assert list(tmp_path.glob("*.idx"))
    again = Store(str(tmp_path))
    assert [value(again, i) for i in (0, 7, 5999, 6000)] == [b"0", b"new", b"5999", None]
    again.close()


@pytest.mark.parametrize("damage", ["cut", "flip", "zero", "double", "noise"])
def test_damaged_stores_load(tmp_path: Path, damage: str) -> None:
    """Whatever happens to its files, a store opens, gives no false value, and takes new ones."""
    store = Store(str(tmp_path))
    store.put([(key(i), facts(), b"%d" % i) for i in range(5000)])
    store.close()
    chance = random.Random(SEED)
    for path in sorted(tmp_path.glob("*.*")):
        data = bytearray(path.read_bytes())
        at = chance.randrange(len(data))
        if damage == "cut":
            del data[at:]
        elif damage == "flip":
            data[at] ^= 1 << chance.randrange(8)
        elif damage == "zero":
            data[at : at + 500] = bytes(len(data[at : at + 500]))
        elif damage == "double":
            data[at:at] = data[at : at + 500]
        else:
            data[at : at + 50] = chance.randbytes(50)
        path.write_bytes(data)
    again = Store(str(tmp_path))
    found = [value(again, i) for i in range(5000)]
    assert all(v is None or v == b"%d" % i for i, v in enumerate(found))
    if damage in ("flip", "zero", "noise"):
        assert found.count(None) < 20
    again.put([(key(9999), facts(), b"fresh")])
    assert value(again, 9999) == b"fresh"
    again.close()


def test_tidying(tmp_path: Path) -> None:
    """Old entries go, then the oldest until the size is met; files are joined; what is being written stays."""
    for start in (0, 10, 20):
        store = Store(str(tmp_path))
        store.put([(key(i), facts(created=1e9 if i < 10 else 4e9), b"%d" % i) for i in range(start, start + 10)])
        store.close()
    busy = Store(str(tmp_path))
    busy.put([(key(100), facts(created=1), b"busy")])
    done = tidy(str(tmp_path), max_age=3600.0)
    assert (done.kept, done.removed, done.busy) == (20, 10, 1)
    assert len(list(tmp_path.glob("*.log"))) == 2
    store = Store(str(tmp_path))
    assert [value(store, i) for i in (0, 10, 29, 100)] == [None, b"10", b"29", b"busy"]
    store.close()
    busy.close()

    def unwanted(entry: Entry) -> bool:
        return entry.key == key(29)

    assert tidy(str(tmp_path), unwanted=unwanted).removed == 1
    assert tidy(str(tmp_path), max_size=500).kept < 5


def test_a_read_only_store_is_read(tmp_path: Path) -> None:
    """What is there is found where nothing can be written."""
    store = Store(str(tmp_path / "store"))
    store.put([(key(1), facts(), b"one")])
    store.close()
    os.chmod(tmp_path / "store", 0o500)
    again = Store(str(tmp_path / "store"))
    assert value(again, 1) == b"one"
    again.close()
    os.chmod(tmp_path / "store", 0o700)
