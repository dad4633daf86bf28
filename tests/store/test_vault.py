"""The memory behind large objects: segments that vanish, move to disk, and do without descriptors when these are few."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flowlib.errors import NoRoom
from flowlib.store import segments
from flowlib.store.segments import Segment
from flowlib.store.vault import Vault, most_objects


def key(n: int) -> bytes:
    """An id."""
    return n.to_bytes(16, "big")


def descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))


def test_segments_are_written_read_and_gone(tmp_path: Path) -> None:
    """In memory and in a file: parts arrive in order, private views are private, names are nowhere, ends leave nothing."""
    before = descriptors()
    for directory in (None, str(tmp_path)):
        segment = Segment.create(key(1), 10, directory)
        segment.write([b"abc", memoryview(b"defg")])
        segment.write([b"hij"], 7)
        assert bytes(segment.view()) == b"abcdefghij" and bytes(segment.view(2, 3)) == b"cde"
        mine = segment.private()
        mine[0:1] = b"X"
        assert bytes(segment.view(0, 2)) == b"ab" and bytes(mine[:2]) == b"Xb"
        other = Segment.open(segment.path, key(1), 10)
        assert bytes(other.view()) == b"abcdefghij"
        assert not os.listdir(tmp_path)
        view = other.view()
        segment.close()
        other.close()
        assert bytes(view) == b"abcdefghij"
        del view, mine, segment, other
    assert descriptors() == before


def test_another_object_is_not_taken_for_the_one_that_was_meant() -> None:
    """A descriptor that was closed and means something else by now is noticed, as is one of another size."""
    segment = Segment.create(key(1), 10)
    for wrong in ((key(2), 10), (key(1), 11)):
        with pytest.raises(FileNotFoundError):
            Segment.open(segment.path, *wrong)
    path = segment.path
    segment.close()
    with pytest.raises(OSError):
        Segment.open(path, key(1), 10)


def test_a_full_memory_is_no_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no memory an object goes to disk; where it has no disk either, that is an error."""
    real = os.posix_fallocate

    def no_memory(fd: int, offset: int, length: int) -> None:
        if "memfd" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd, offset, length)

    monkeypatch.setattr(segments.os, "posix_fallocate", no_memory)
    vault = Vault(1000, str(tmp_path))
    vault.create(key(1), 100, original=True).write([bytes(100)])
    assert not vault.ledger.used and vault.get(key(1)) is not None
    before = descriptors()
    missing = Vault(1000, str(tmp_path / "missing"))
    with pytest.raises(NoRoom, match="100 B.*missing"):
        missing.create(key(1), 100, original=True)
    assert key(1) not in missing.ledger and descriptors() == before
    vault.close()


def test_what_is_moved_to_disk_stays_what_it_was(tmp_path: Path) -> None:
    """The longest unused goes to disk with its content, pinned ones stay, freed ones go, and all go at the end."""
    before = descriptors()
    vault = Vault(100, str(tmp_path))
    for n in range(5):
        vault.create(key(n), 40, original=True).write([bytes([n]) * 40])
        if n == 1:
            vault.pin(key(1))
    assert vault.ledger.used == 80
    found = [vault.get(key(n)) for n in range(5)]
    assert [bytes(segment.view()) for segment in found if segment is not None] == [bytes([n]) * 40 for n in range(5)]
    vault.free(key(1))
    assert vault.get(key(1)) is not None
    vault.unpin(key(1))
    assert vault.get(key(1)) is None and vault.ledger.used == 40
    vault.close()
    del found
    assert descriptors() == before and not os.listdir(tmp_path)


def test_descriptors_are_few(tmp_path: Path) -> None:
    """Beyond the most that may have a descriptor copies go; then there is no room, or memory without a name."""
    assert 16 <= most_objects() <= 1 << 20
    node = Vault(1000, str(tmp_path), most=2)
    node.create(key(1), 10, original=False)
    node.create(key(2), 10, original=True)
    node.create(key(3), 10, original=True)
    assert node.get(key(1)) is None
    with pytest.raises(NoRoom, match="descriptors"):
        node.create(key(4), 10, original=True)
    node.close()
    home = Vault(1000, str(tmp_path), most=1, nameless=True)
    home.create(key(1), 10, original=True)
    before = descriptors()
    segment = home.create(key(2), 10, original=True)
    segment.write([b"abc", b"defghij"])
    mine = segment.private()
    mine[:1] = b"X"
    assert descriptors() == before and not segment.path
    assert bytes(segment.view()) == b"abcdefghij" and bytes(segment.view(1, 2)) == b"bc"
    home.free(key(2))
    assert home.get(key(2)) is None
    home.close()
