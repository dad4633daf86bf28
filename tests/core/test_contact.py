"""When a manager gives up its interchange, and when it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowlib.executors.high_throughput.block import Block, read_block
from flowlib.executors.high_throughput.contact import Contact

BLOCK = Block(
    addresses=["tcp://127.0.0.1:1"], lease=30, heartbeat_period=5, heartbeat_threshold=20, address_probe_timeout=10
)


def _registered(now: float = 0.0) -> Contact:
    contact = Contact(BLOCK, 0.0)
    contact.connected(now)
    assert contact.accepted(5.0, 20.0, now)
    return contact


def test_never_reached() -> None:
    """After the time for probing, unless it was taken in; silence before that is no reason."""
    contact = Contact(BLOCK, 100.0)
    assert not contact.never_reached(109.9)
    assert contact.given_up(1000.0) == ""
    assert contact.never_reached(110.0)
    contact.connected(109.0)
    assert contact.never_reached(110.0)
    contact.accepted(5.0, 20.0, 109.5)
    assert not contact.never_reached(110.0)


def test_silence() -> None:
    """Nothing heard for the threshold that the interchange told and the lease, in which another may take over."""
    contact = _registered()
    contact.accepted(5.0, 12.0, 0.0)
    contact.heard(10.0)
    assert contact.given_up(52.0) == ""
    assert contact.given_up(52.1) == "nothing was heard from the interchange for 42 s"


def test_own_standstill_is_no_silence() -> None:
    """A manager that was stopped itself does not blame the interchange."""
    contact = _registered()
    contact.stood_still(0.5)
    assert contact.given_up(50.4)
    contact.stood_still(100.0)
    assert contact.given_up(149.0) == ""
    assert contact.given_up(151.0)


def test_lease() -> None:
    """It counts from the first of several disconnections, and begins anew after a connection."""
    contact = _registered()
    assert contact.disconnected(5.0)
    assert not contact.disconnected(10.0)
    assert contact.connection_lost
    contact.heard(30.0)
    assert contact.given_up(35.0) == ""
    assert contact.given_up(35.1) == "there was no connection to the interchange for 30 s"
    contact.connected(36.0)
    assert not contact.connection_lost
    assert contact.given_up(37.0) == ""
    assert contact.disconnected(38.0)


def test_heartbeats() -> None:
    """One each period, none before registration, and the loop wakes up for them."""
    contact = Contact(BLOCK, 0.0)
    assert not contact.beat_is_due(6.0)
    contact.connected(6.0)
    assert contact.accepted(0.5, 20.0, 6.0)
    assert not contact.accepted(0.5, 20.0, 6.0)
    beats = 0
    now = 6.0
    while now < 16.0:
        assert now < contact.check_at <= now + 0.5
        now = contact.check_at
        beats += contact.beat_is_due(now)
    assert beats == 20


def test_block_files(tmp_path: Path) -> None:
    """What a driver writes is read, with defaults for what it left out, and other versions' keys left alone."""
    path = tmp_path / "block.json"
    path.write_text('{"addresses": ["tcp://h:1"], "block": "3", "of_the_future": [1]}')
    block = read_block(str(path))
    assert (block.addresses, block.block, block.lease, block.cwd) == (["tcp://h:1"], "3", 30, None)
    for text, error in (("{", "no block file"), ('{"addresses": []}', "no address"), ('{"block": "1"}', "addresses")):
        path.write_text(text)
        with pytest.raises(ValueError, match=error):
            read_block(str(path))
