"""How many blocks an executor should have: the decision, without clock, thread or provider.

Events tell the core what became of blocks; ``decide`` looks at the load and says what to start, drain and cancel.
The shell, ``flowlib.executors.blocks``, carries that out.

A block lives like this::

    SUBMITTED -> PENDING -> RUNNING -> REGISTERED -> DRAINING -> ENDED
         any state but REGISTERED and DRAINING may be skipped, any may go to ENDED

Rules that hold whatever happens:

* never more than ``max_blocks`` blocks alive; one whose state is unknown counts as alive;
* capacity is what live managers have; for blocks still on their way it is what earlier ones had;
* a block whose process ended without a manager ever having come from it is a failure. Failures in a row slow down
  further starts and in the end stop them, so that a broken set-up never floods a scheduler.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from flowlib.errors import ConfigurationError
from flowlib.jobs.states import JobState

STRATEGIES = ("none", "simple", "htex_auto_scale")

SETTLE = 0.5
"""Seconds that the news of a manager may come later than the news of its block's end."""
LOST_GRACE = 5.0
"""Seconds that a block may live on after its last manager was lost."""
DRAIN_GRACE = 30.0
"""Seconds that a drained block may take to end once nothing runs there."""
REGISTRATION_LIMIT = 1800.0
"""Seconds that a running job may take until its manager registers."""
CANCEL_AGAIN = 15.0
"""Seconds after which a block that was cancelled and is still alive is cancelled again."""
RATE_WINDOW = 60.0
"""Submissions are bounded over this many seconds."""
BACKOFF_MOST = 300.0
"""Longest pause after failures, in seconds."""
TRANSIENT_LIMIT = 8
"""Failed submissions in a row, of the kind that may pass, before giving up."""


class BlockState(IntEnum):
    """Where a block is in its life."""

    SUBMITTED = 0
    PENDING = 1
    RUNNING = 2
    REGISTERED = 3
    DRAINING = 4
    ENDED = 5


@dataclass(frozen=True)
class Settings:
    """How many blocks to have; see ``of``.

    Attributes:
        strategy: "none": the first blocks only. "simple": more when work waits, fewer when all is idle.
            "htex_auto_scale": also fewer when single blocks are idle.
        init_blocks: Blocks to start with.
        min_blocks: Blocks to keep.
        max_blocks: Most blocks alive.
        parallelism: Slots per unfinished task.
        max_idletime: Seconds of idleness before blocks are given up.
        strategy_period: Seconds between decisions if nothing happens.
        slots_per_block: Guess until the first block registers.
    """

    strategy: str = "simple"
    init_blocks: int = 1
    min_blocks: int = 0
    max_blocks: int = 1
    parallelism: float = 1.0
    max_idletime: float = 120.0
    strategy_period: float = 5.0
    slots_per_block: int = 1

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ConfigurationError(f"strategy={self.strategy!r}: give one of {', '.join(map(repr, STRATEGIES))}")
        if not self.strategy_period > 0:
            raise ConfigurationError(f"strategy_period={self.strategy_period!r}: give seconds above 0")
        if not self.max_idletime >= 0:
            raise ConfigurationError(f"max_idletime={self.max_idletime!r}: give seconds, 0 or more")

    @classmethod
    def of(
        cls,
        provider: Any,
        *,
        strategy: str | None = "simple",
        max_idletime: float = 120.0,
        strategy_period: float = 5.0,
        slots_per_block: int = 1,
    ) -> Settings:
        """The settings that a provider and a Config ask for.

        Args:
            provider: Has ``init_blocks``, ``min_blocks``, ``max_blocks`` and ``parallelism``.
            strategy: As in ``Config``; None counts as "none".
            max_idletime: As in ``Config``, seconds.
            strategy_period: As in ``Config``, seconds.
            slots_per_block: Workers that a block will probably have, all its nodes together.
        """
        return cls(
            strategy=strategy or "none",
            init_blocks=provider.init_blocks,
            min_blocks=provider.min_blocks,
            max_blocks=provider.max_blocks,
            parallelism=provider.parallelism,
            max_idletime=max_idletime,
            strategy_period=strategy_period,
            slots_per_block=max(1, slots_per_block),
        )


@dataclass(frozen=True)
class BlockLoad:
    """What the managers of one block do now.

    Attributes:
        managers: How many are connected.
        slots: Their workers.
        running: Tasks they have.
        idle: Seconds since one of them had a task; 0 while one has.
    """

    managers: int = 0
    slots: int = 0
    running: int = 0
    idle: float = 0.0


@dataclass(frozen=True)
class Load:
    """What an executor has to do now.

    Attributes:
        queued: Tasks that no manager has.
        running: Tasks that managers have.
        blocks: What each block with connected managers does, by id.
    """

    queued: int = 0
    running: int = 0
    blocks: Mapping[str, BlockLoad] = field(default_factory=dict)
