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
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from flowlib.errors import ConfigurationError
from flowlib.jobs.states import JobState

STRATEGIES = ("none", "simple", "htex_auto_scale")

SETTLE = 0.5
"""Seconds that the news of a manager may come later than the news of its block's end."""
ARRIVAL = 60.0
"""Seconds that the managers of a block of several nodes may come one after the other."""
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
        nodes_per_block: Managers that a complete block has.
    """

    strategy: str = "simple"
    init_blocks: int = 1
    min_blocks: int = 0
    max_blocks: int = 1
    parallelism: float = 1.0
    max_idletime: float = 120.0
    strategy_period: float = 5.0
    slots_per_block: int = 1
    nodes_per_block: int = 1

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
        managers_per_block: int | None = None,
    ) -> Settings:
        """The settings that a provider and a Config ask for.

        Args:
            provider: Has ``init_blocks``, ``min_blocks``, ``max_blocks`` and ``parallelism``.
            strategy: As in ``Config``; None counts as "none".
            max_idletime: As in ``Config``, seconds.
            strategy_period: As in ``Config``, seconds.
            slots_per_block: Workers that a block will probably have, all its nodes together.
            managers_per_block: Managers that it will have; None for one on each node.
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
            nodes_per_block=managers_per_block or int(getattr(provider, "nodes_per_block", 1)),
        )


@dataclass(frozen=True)
class BlockLoad:
    """What the managers of one block do now.

    Attributes:
        managers: How many are connected.
        slots: Their workers.
        running: Tasks they have.
        idle: Seconds since one of them had a task; 0 while one has.
        leaving: How many of the workers are about to leave, because their job ends or they drain.
    """

    managers: int = 0
    slots: int = 0
    running: int = 0
    idle: float = 0.0
    leaving: int = 0


@dataclass(frozen=True)
class Load:
    """What an executor has to do now.

    Attributes:
        queued: Tasks that no manager has.
        running: Tasks that managers have.
        blocks: What each block with connected managers does, by id.
        extra: Slots that all these tasks take beyond one each, because they ask for more than a worker's share.
    """

    queued: int = 0
    running: int = 0
    blocks: Mapping[str, BlockLoad] = field(default_factory=dict)
    extra: int = 0


@dataclass(frozen=True)
class Decision:
    """What to do now.

    Attributes:
        start: How many blocks to start.
        drain: Blocks whose managers shall finish and leave.
        cancel: Blocks to end at once, each with the reason.
        give_up: "" or why the executor cannot go on.
        failed: With ``give_up``, the blocks that are to blame.
        wake: Seconds until a decision may turn out differently without anything happening.
    """

    start: int = 0
    drain: tuple[str, ...] = ()
    cancel: tuple[tuple[str, str], ...] = ()
    give_up: str = ""
    failed: tuple[str, ...] = ()
    wake: float = math.inf


@dataclass(slots=True)
class Block:
    """What the core knows of one block.

    Attributes:
        id: Its name.
        state: Where it is in its life.
        since: Time of the last change of state.
        came: Whether a manager of it ever registered.
        managers: Its live managers.
        slots: Workers of its live managers.
        leaving: How many of these are about to leave.
        idle: Seconds since its managers had a task.
        running: Tasks that its managers have.
        lost: Time since which it has no manager any more; None while it has, or never had.
        missing: Queries in a row that did not know its job.
        ending: "" or why it was told to end.
        fault: Whether it was told to end because something is wrong with it.
        told: Time at which it was last told.
        why: How it ended.
    """

    id: str
    state: BlockState
    since: float
    came: bool = False
    managers: int = 0
    slots: int = 0
    leaving: int = 0
    idle: float = 0.0
    running: int = 0
    lost: float | None = None
    missing: int = 0
    ending: str = ""
    fault: bool = False
    told: float = 0.0
    why: str = ""

    @property
    def useful(self) -> bool:
        """Whether it is to stay, or may come: neither told to end nor about to end by itself."""
        return not self.ending and not 0 < self.slots <= self.leaving


class Scaler:
    """Decides how many blocks an executor has.

    All times are seconds on one monotonic clock.

    Args:
        settings: How many blocks.
        failure_limit: Blocks in a row that may fail before giving up; None for any number.

    Example:
        >>> scaler = Scaler(Settings(init_blocks=1, max_blocks=4, slots_per_block=2), failure_limit=1)
        >>> scaler.decide(Load(), now=0.0).start
        1
        >>> scaler.submitting("0", now=0.0)
        >>> scaler.decide(Load(queued=5), now=1.0).start
        2
    """

    def __init__(self, settings: Settings, failure_limit: int | None = 1) -> None:
        self.settings = settings
        self.blocks: dict[str, Block] = {}
        """Blocks alive, oldest first."""
        self._failure_limit = failure_limit
        self._begun = False
        self._halted = False
        self._per_block = settings.slots_per_block
        self._failures: list[str] = []
        self._refusals = 0
        self._hopeless = False
        self._ever_came = False
        self._ended_unasked = False
        self._suspects: dict[str, tuple[Block, float]] = {}
        self._not_before = -math.inf
        self._starts: deque[float] = deque()
        self._idle_since: float | None = None
        self._excess_since: float | None = None

    # ------------------------------------------------------------------------------------------------- events

    def submitting(self, block: str, now: float) -> None:
        """A block is about to be handed to the provider."""
        self.blocks[block] = Block(block, BlockState.SUBMITTED, now)
        self._starts.append(now)

    def refused(self, block: str, now: float, *, retryable: bool) -> None:
        """The provider did not take a block; ``retryable`` says whether asking again can help."""
        self.blocks.pop(block, None)
        self._ended_unasked = True
        self._refusals += 1
        self._hopeless = self._hopeless or not retryable
        self._failed(block, now)

    def reported(self, block: str, job: JobState, now: float, why: str = "") -> bool:
        """The provider told the state of a block's job.

        Args:
            block: The block.
            job: The state.
            now: The time.
            why: How the job ended, if it did.

        Returns:
            Whether the block ended by that.
        """
        known = self.blocks.get(block)
        if known is None:
            return False
        if job is JobState.MISSING:
            # A scheduler may not list a fresh job yet, and a living manager disproves it.
            known.missing += 1
            if known.missing < 2 or known.slots:
                return False
        else:
            known.missing = 0
        if job.terminal:
            self._ended(known, now, why or job.name.lower())
            return True
        self._refusals = 0
        if job in (JobState.PENDING, JobState.HELD) and known.state is BlockState.SUBMITTED:
            known.state, known.since = BlockState.PENDING, now
        elif job is JobState.RUNNING and known.state in (BlockState.SUBMITTED, BlockState.PENDING):
            known.state, known.since = BlockState.RUNNING, now
        return False

    def registered(self, block: str, now: float) -> bool:
        """A manager of a block registered; True if that is the block's first."""
        self._failures.clear()
        self._refusals = 0
        self._not_before = -math.inf
        self._ever_came = True
        if block in self._suspects:
            del self._suspects[block]
        known = self.blocks.get(block)
        if known is None:
            return False
        known.lost = None
        first = not known.came
        known.came = True
        if known.state < BlockState.REGISTERED:
            known.state, known.since = BlockState.REGISTERED, now
        return first

    def tell_to_end(self, block: str, now: float, why: str, *, drain: bool) -> bool:
        """Somebody ordered a block to end, other than by a decision; whether it is alive and had no such order."""
        known = self.blocks.get(block)
        if known is None or (known.ending and (drain or known.state is not BlockState.DRAINING)):
            return False
        self._end(known, now, why, drain)
        return True

    def halt(self) -> None:
        """Start no more blocks."""
        self._halted = True

    # ----------------------------------------------------------------------------------------------- decision

    def decide(self, load: Load, now: float) -> Decision:
        """What to do now.

        What is returned counts as ordered: drained and cancelled blocks are not ordered again at once.

        Args:
            load: What there is to do.
            now: The time.
        """
        self._look_at(load, now)
        wakes = [self._settle(now)]
        cancel = self._stuck(now, wakes)
        blame = self._reason_to_give_up(load)
        if blame:
            self._halted = True
            return Decision(cancel=tuple(cancel), give_up=blame, failed=tuple(self._failures))
        outstanding = load.queued + load.running + load.extra
        useful = [b for b in self.blocks.values() if b.useful]
        start = self._wanted(outstanding, useful, now)
        start = self._allowed(start, now, wakes)
        drain: list[str] = []
        if not start and self.settings.strategy != "none":
            for block in self._surplus(outstanding, useful, now, wakes):
                by_drain = block.slots > 0
                self._end(block, now, "not needed any more", by_drain)
                if by_drain:
                    drain.append(block.id)
                else:
                    cancel.append((block.id, block.ending))
        wake = max(0.0, min(wakes) - now)
        return Decision(start=start, drain=tuple(drain), cancel=tuple(cancel), wake=wake)

    def _look_at(self, load: Load, now: float) -> None:
        """Note which blocks have managers."""
        for block in self.blocks.values():
            seen = load.blocks.get(block.id)
            if seen is not None and seen.managers:
                if not block.came:
                    self.registered(block.id, now)
                block.managers, block.slots = seen.managers, seen.slots
                block.idle, block.running, block.lost = seen.idle, seen.running, None
                block.leaving = seen.leaving
                if seen.managers >= self.settings.nodes_per_block or seen.slots > self._per_block:
                    self._per_block = max(1, seen.slots)
            else:
                block.managers, block.slots, block.leaving, block.idle, block.running = 0, 0, 0, 0.0, 0
                if block.came and block.lost is None:
                    block.lost = now

    def _settle(self, now: float) -> float:
        """Count blocks whose managers never came, once the news of one cannot be on its way any more."""
        for block, (ended, due) in list(self._suspects.items()):
            if now >= due:
                del self._suspects[block]
                self._failed(ended.id, now)
        return min((due for _, due in self._suspects.values()), default=math.inf)

    def _stuck(self, now: float, wakes: list[float]) -> list[tuple[str, str]]:
        """Blocks that occupy a place and will not become useful any more."""
        found: list[tuple[str, str]] = []
        for block in self.blocks.values():
            if block.ending and block.state is not BlockState.DRAINING:
                due, why = block.told + CANCEL_AGAIN, block.ending
            elif block.state is BlockState.DRAINING:
                if block.running:
                    continue
                due, why = block.told + DRAIN_GRACE, f"{block.ending}, and did not end by itself"
            elif block.lost is not None:
                due, why = block.lost + LOST_GRACE, "its managers are lost"
            elif block.state is BlockState.RUNNING:
                due, why = block.since + REGISTRATION_LIMIT, f"no manager came within {REGISTRATION_LIMIT:.0f} s"
            else:
                continue
            if now < due:
                wakes.append(due)
                continue
            block.fault = block.fault or not block.ending
            self._end(block, now, why, drain=False)
            found.append((block.id, why))
        return found

    def _reason_to_give_up(self, load: Load) -> str:
        if self._halted or self.blocks or self._suspects:
            return ""
        limit = self._failure_limit
        if limit is not None:
            count = len(self._failures)
            if self._hopeless and not self._ever_came:
                return "a block was refused for good"
            if self._refusals and self.settings.strategy != "none":
                # Submissions that may work later get more tries than jobs that ran and came to nothing.
                limit = max(limit, TRANSIENT_LIMIT)
            elif self._ever_came:
                limit = max(limit, 3)
            if count >= limit:
                return f"{count} block{'s' if count > 1 else ''} in a row ended without a manager registering"
        stranded = self._begun and self._ended_unasked and load.queued + load.running
        if stranded and self.settings.strategy == "none":
            return "all blocks ended while tasks wait, and the strategy 'none' starts no others"
        return ""

    def _wanted(self, outstanding: int, useful: list[Block], now: float) -> int:
        """How many more blocks the work asks for, without regard to limits."""
        settings = self.settings
        if not self._begun:
            self._begun = True
            least = (
                settings.init_blocks if settings.strategy == "none" else max(settings.init_blocks, settings.min_blocks)
            )
            return least - len(useful)
        if settings.strategy == "none":
            return 0
        wanted = settings.min_blocks - len(useful)
        if outstanding:
            missing = math.ceil(outstanding * settings.parallelism) - sum(self._size(b, now) for b in useful)
            wanted = max(wanted, math.ceil(missing / self._per_block))
            if not any(not b.came or b.slots for b in useful):
                wanted = max(wanted, 1)
        return max(0, wanted)

    def _size(self, block: Block, now: float) -> int:
        """Workers that a block has, or will have as far as one can tell."""
        if not block.came:
            return self._per_block
        arriving = 0 < block.managers < self.settings.nodes_per_block and now - block.since < ARRIVAL
        return (max(block.slots, self._per_block) if arriving else block.slots) - block.leaving

    def _allowed(self, start: int, now: float, wakes: list[float]) -> int:
        """That many blocks as far as limits allow."""
        start = min(start, self.settings.max_blocks - len(self.blocks))
        if start <= 0 or self._halted or self._suspects:
            return 0
        if self._failures and any(not b.came for b in self.blocks.values()):
            return 0  # those on their way show whether the site works at all
        if now < self._not_before:
            wakes.append(self._not_before)
            return 0
        while self._starts and self._starts[0] <= now - RATE_WINDOW:
            self._starts.popleft()
        room = max(30, 2 * self.settings.max_blocks) - len(self._starts)
        if room < start:
            wakes.append(self._starts[0] + RATE_WINDOW)
        return max(0, min(start, room))

    def _surplus(self, outstanding: int, useful: list[Block], now: float, wakes: list[float]) -> list[Block]:
        """Blocks to give up, all at once, pending ones first."""
        settings = self.settings
        self._idle_since = None if outstanding else self._idle_since if self._idle_since is not None else now
        keep = max(settings.min_blocks, 1 if outstanding else 0)
        spare = len(useful) - keep
        if spare <= 0:
            self._excess_since = None
            return []
        useful = sorted(useful, key=lambda b: (b.state, b.slots > 0, -b.idle))
        if self._idle_since is not None:
            due = self._idle_since + settings.max_idletime
            if now >= due:
                return useful[:spare]
            wakes.append(due)
        if settings.strategy != "htex_auto_scale":
            return []
        return self._excess(outstanding, useful, spare, now, wakes)

    def _excess(self, outstanding: int, useful: list[Block], spare: int, now: float, wakes: list[float]) -> list[Block]:
        """Single blocks that have been idle, or pending without need, for long enough."""
        settings = self.settings
        excess = sum(self._size(b, now) for b in useful) - math.ceil(outstanding * settings.parallelism)
        self._excess_since = None if excess <= 0 else self._excess_since if self._excess_since is not None else now
        chosen: list[Block] = []
        for block in useful:
            size = self._size(block, now)
            if len(chosen) == spare or excess <= 0 or self._excess_since is None:
                break
            if size > excess or block.running or block.state is BlockState.RUNNING:
                continue
            due = now + settings.max_idletime - block.idle if block.came else self._excess_since + settings.max_idletime
            if now < due:
                wakes.append(due)
                continue
            chosen.append(block)
            excess -= size
        return chosen

    # ------------------------------------------------------------------------------------------------ changes

    def _end(self, block: Block, now: float, why: str, drain: bool) -> None:
        block.ending, block.told = why, now
        if drain:
            block.state, block.since = BlockState.DRAINING, now
        elif block.state is BlockState.DRAINING:
            block.state = BlockState.REGISTERED if block.came else BlockState.RUNNING

    def _ended(self, block: Block, now: float, why: str) -> None:
        del self.blocks[block.id]
        block.state, block.since, block.why, block.slots = BlockState.ENDED, now, why, 0
        self._ended_unasked = block.fault or not block.ending
        if self._ended_unasked and not block.came:
            self._suspects[block.id] = (block, now + SETTLE)

    def _failed(self, block: str, now: float) -> None:
        self._failures.append(block)
        pause = min(BACKOFF_MOST, 2.0 ** (len(self._failures) - 1))
        self._not_before = max(self._not_before, now + pause)

    # --------------------------------------------------------------------------------------------- invariants

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself; for tests."""
        assert all(b.state is not BlockState.ENDED for b in self.blocks.values())
        assert not set(self._suspects) & set(self.blocks)
        assert all(b.came or b.state is not BlockState.REGISTERED for b in self.blocks.values())
        assert all(b.lost is None or b.came for b in self.blocks.values())
        assert all(b.ending for b in self.blocks.values() if b.state is BlockState.DRAINING)
        assert self._per_block >= 1
