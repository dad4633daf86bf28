"""Whether a manager still has a home: registration, heartbeats, silence and lease, as arithmetic on times.

A manager must neither give up too early, since a login node may stall for a minute, nor outlive its run, since its
block costs somebody's allocation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowlib.executors.high_throughput.block import Block

_TICK = 1.0
_TICK_BEFORE = 0.25


class Contact:
    """What is known of the interchange.

    Times are seconds of any clock that never goes back.

    Args:
        block: Timeouts.
        now: Time.

    Attributes:
        registered: Whether the interchange has taken the manager in.
        threshold: Seconds of silence after which the other side counts as gone.
    """

    def __init__(self, block: Block, now: float) -> None:
        self.registered = False
        self.threshold = block.heartbeat_threshold
        self._patience = block.address_probe_timeout
        self._lease = block.lease
        self._period = block.heartbeat_period
        self._connect_by = now + block.address_probe_timeout
        self._down_since: float | None = None
        self._heard = now
        self._beat_at = now + self._period
        self._check_at = now + _TICK_BEFORE

    # -------------------------------------------------------------------------------------------------- what happens

    def connected(self, now: float) -> None:
        """There is a connection."""
        self._down_since = None
        self._heard = now

    def disconnected(self, now: float) -> bool:
        """There is none any more; whether that is news."""
        news = self._down_since is None
        if news:
            self._down_since = now
            self._check_at = min(self._check_at, now + _TICK_BEFORE)
        return news

    def heard(self, now: float) -> None:
        """The interchange said something."""
        self._heard = now

    def accepted(self, period: float, threshold: float, now: float) -> bool:
        """The interchange has taken the manager in, and tells its heartbeats; whether that is news."""
        news = not self.registered
        self.registered = True
        self._period, self.threshold = period, threshold
        self._beat_at = min(self._beat_at, now + period)
        self._check_at = min(self._check_at, self._beat_at)
        return news

    def stood_still(self, seconds: float) -> None:
        """This process did not run for a while, so that silence means nothing."""
        if seconds > _TICK:
            self._heard += seconds

    # ---------------------------------------------------------------------------------------------- what is to be done

    @property
    def connection_lost(self) -> bool:
        """Whether there was a connection and is none now."""
        return self._down_since is not None

    @property
    def check_at(self) -> float:
        """When ``beat_is_due``, ``never_reached`` and ``given_up`` are to be asked again."""
        return self._check_at

    def beat_is_due(self, now: float) -> bool:
        """Whether to send a heartbeat now; not asked again before the next is."""
        due = now >= self._beat_at
        if due:
            self._beat_at = now + self._period
        settled = self.registered and self._down_since is None
        self._check_at = min(now + (_TICK if settled else _TICK_BEFORE), self._beat_at)
        return due and self.registered

    def never_reached(self, now: float) -> bool:
        """Whether it is time to give up finding the interchange."""
        return not self.registered and self._down_since is None and now >= self._connect_by

    def given_up(self, now: float) -> str:
        """Why to give up an interchange that was there before; "" for not yet."""
        if self._down_since is not None and now - self._down_since > self._lease:
            return f"there was no connection to the interchange for {self._lease:g} s"
        # An interchange that hangs is replaced after the threshold: its successor is worth waiting for.
        patience = self.threshold + self._lease
        if self.registered and now - self._heard > patience:
            return f"nothing was heard from the interchange for {patience:g} s"
        return ""
