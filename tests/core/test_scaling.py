"""The scaling core: what it decides, and that no sequence of events breaks its promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowlib.errors import ConfigurationError
from flowlib.jobs.states import JobState
from flowlib.scaling import (
    CANCEL_AGAIN,
    DRAIN_GRACE,
    LOST_GRACE,
    REGISTRATION_LIMIT,
    SETTLE,
    TRANSIENT_LIMIT,
    BlockLoad,
    BlockState,
    Decision,
    Load,
    Scaler,
    Settings,
)


class Site:
    """A scaler with a clock and blocks that do as they are told."""

    def __init__(self, failure_limit: int | None = 1, **settings: Any) -> None:
        self.scaler = Scaler(Settings(**settings), failure_limit)
        self.now = 1000.0
        self.ids = iter(map(str, range(10_000)))
        self.managers: dict[str, BlockLoad] = {}
        self.queued = self.running = 0

    def decide(self, after: float = 0.0) -> Decision:
        """Let time pass, decide, hand new blocks to the provider."""
        self.now += after
        decision = self.scaler.decide(Load(self.queued, self.running, self.managers), self.now)
        for _ in range(decision.start):
            self.scaler.submitting(next(self.ids), self.now)
        self.scaler.check_invariants()
        return decision

    def job(self, block: str, state: JobState) -> bool:
        if state.terminal:
            self.managers.pop(block, None)
        return self.scaler.reported(block, state, self.now)

    def register(self, *blocks: str, slots: int = 2, idle: float = 0.0) -> None:
        for block in blocks:
            self.scaler.registered(block, self.now)
            self.managers[block] = BlockLoad(1, slots, 0, idle)

    def alive(self) -> list[str]:
        return list(self.scaler.blocks)


# ------------------------------------------------------------------------------------------------ scaling out


def test_first_blocks() -> None:
    """The first decision asks for init_blocks, the next for no more while there is no work."""
    site = Site(init_blocks=2, max_blocks=5)
    assert site.decide().start == 2
    assert site.decide(after=5).start == 0


def test_first_blocks_are_at_least_min_blocks() -> None:
    """min_blocks is kept from the start."""
    assert Site(init_blocks=0, min_blocks=3, max_blocks=5).decide().start == 3


def test_max_blocks_bounds_the_first_blocks() -> None:
    """max_blocks holds from the start."""
    assert Site(init_blocks=7, max_blocks=3).decide().start == 3


def test_slots_are_those_of_live_managers() -> None:
    """Capacity is what registered managers have, not what was guessed."""
    site = Site(init_blocks=1, max_blocks=10, slots_per_block=1)
    site.decide()
    site.register("0", slots=8)
    site.queued = 8
    assert site.decide().start == 0
    site.queued = 17
    assert site.decide().start == 2, "nine tasks more than slots, eight slots per block"


def test_pending_blocks_count_as_capacity() -> None:
    """Work that blocks on their way will take asks for no further ones."""
    site = Site(init_blocks=0, max_blocks=10, slots_per_block=4)
    site.decide()
    site.queued = 10
    assert site.decide().start == 3
    assert site.decide(after=5).start == 0


@pytest.mark.parametrize(("parallelism", "blocks"), [(1.0, 10), (0.5, 5), (0.11, 2), (0.0, 1)])
def test_parallelism(parallelism: float, blocks: int) -> None:
    """Parallelism is slots per task; 0 still means one block."""
    site = Site(init_blocks=0, max_blocks=100, parallelism=parallelism)
    site.decide()
    site.queued = 10
    assert site.decide().start == blocks


def test_demand_is_in_slots() -> None:
    """Two tasks that take eight slots each are worth as many blocks as sixteen plain tasks."""
    scaler = Scaler(Settings(init_blocks=0, max_blocks=9, slots_per_block=4), failure_limit=1)
    scaler.decide(Load(), 0.0)
    assert scaler.decide(Load(queued=2, extra=14), 1.0).start == 4
    assert Scaler(Settings(init_blocks=0, max_blocks=9), None).decide(Load(extra=3), 0.0).start == 0, "first look"


def test_strategy_none_starts_the_first_blocks_only() -> None:
    """With strategy none no amount of work starts another block."""
    site = Site(strategy="none", init_blocks=1, max_blocks=10)
    assert site.decide().start == 1
    site.register("0")
    site.queued = 1000
    assert site.decide(after=1000) == Decision()


def test_min_blocks_are_replaced() -> None:
    """A block that ends is replaced down to min_blocks, without any work."""
    site = Site(init_blocks=2, min_blocks=2, max_blocks=2)
    site.decide()
    site.register("0", "1")
    site.decide()
    assert site.job("0", JobState.COMPLETED)
    assert site.decide().start == 1


def test_dead_block_is_replaced_when_work_waits() -> None:
    """A block that had served and died is replaced at once if there is work."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    site.register("0")
    site.queued = 1
    site.decide()
    site.job("0", JobState.FAILED)
    assert site.decide().start == 1


def test_unknown_counts_as_alive() -> None:
    """Blocks in unknown and held states occupy their places."""
    site = Site(init_blocks=2, max_blocks=2)
    site.decide()
    site.job("0", JobState.UNKNOWN)
    site.job("1", JobState.HELD)
    site.queued = 100
    assert site.decide().start == 0


def test_missing_once_is_not_gone() -> None:
    """A job that one query did not list is still alive; two in a row without managers are the end."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    assert not site.job("0", JobState.MISSING)
    site.job("0", JobState.PENDING)
    assert not site.job("0", JobState.MISSING)
    assert site.job("0", JobState.MISSING)
    assert site.alive() == []


def test_missing_with_managers_is_alive() -> None:
    """A scheduler that does not know a block with connected managers is not believed."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    site.scaler.registered("0", site.now)
    site.managers["0"] = BlockLoad(1, 2)
    site.decide()
    for _ in range(5):
        assert not site.scaler.reported("0", JobState.MISSING, site.now)


def test_nodes_of_a_block_arrive_one_by_one() -> None:
    """While the managers of a block of several nodes arrive, it counts as whole, and no others are started."""
    site = Site(init_blocks=1, max_blocks=4, slots_per_block=8, nodes_per_block=4)
    site.decide()
    site.queued = 8
    site.scaler.registered("0", site.now)
    site.managers["0"] = BlockLoad(1, 2)
    assert site.decide(after=1).start == 0
    assert site.decide(after=70).start == 1, "after a minute what is there counts"


def test_submissions_are_bounded_in_time() -> None:
    """Blocks that register and die again and again do not flood the scheduler."""
    site = Site(init_blocks=0, max_blocks=2)
    site.decide()
    site.queued = 100
    for _ in range(500):
        site.decide(after=0.1)
        for block in site.alive():
            site.register(block)
            site.job(block, JobState.FAILED)
    assert next(site.ids) == "30"


# ------------------------------------------------------------------------------------------------- scaling in


def test_idle_blocks_end_all_at_once() -> None:
    """After max_idletime without any work everything above min_blocks is given up, in one decision."""
    site = Site(init_blocks=5, min_blocks=1, max_blocks=5, max_idletime=60)
    site.decide()
    site.register("0", "1", "2")
    decision = site.decide(after=1)
    assert (decision.drain, decision.cancel) == ((), ())
    assert decision.wake == pytest.approx(60, abs=1)
    decision = site.decide(after=60)
    assert {b for b, _ in decision.cancel} == {"3", "4"}, "those that never came are cancelled first"
    assert len(decision.drain) == 2
    assert len([b for b in site.scaler.blocks.values() if not b.ending]) == 1


def test_work_resets_the_idle_time() -> None:
    """Idle time is counted from the last work."""
    site = Site(init_blocks=1, max_blocks=1, max_idletime=60)
    site.decide()
    site.register("0")
    site.decide(after=50)
    site.running = 1
    site.decide(after=5)
    site.running = 0
    site.decide(after=5)
    assert site.decide(after=59).drain == ()
    assert site.decide(after=1).drain == ("0",)


def test_simple_keeps_idle_blocks_while_there_is_work() -> None:
    """The simple strategy ends nothing as long as one task is unfinished."""
    site = Site(init_blocks=4, max_blocks=4, max_idletime=10)
    site.decide()
    site.register("0", "1", "2", "3", idle=1000)
    site.running = 1
    assert site.decide(after=1000).drain == ()


def test_auto_scale_drains_single_idle_blocks() -> None:
    """htex_auto_scale gives up the blocks that were idle long enough, and keeps what the work needs."""
    site = Site(strategy="htex_auto_scale", init_blocks=4, max_blocks=4, max_idletime=10)
    site.decide()
    site.register("0", "1", "2", "3", slots=2)
    site.managers |= {"1": BlockLoad(1, 2, 0, 11), "2": BlockLoad(1, 2, 0, 3), "3": BlockLoad(1, 2, 0, 12)}
    site.running = 2
    decision = site.decide(after=1)
    assert set(decision.drain) == {"1", "3"}
    assert decision.wake == pytest.approx(7)


def test_auto_scale_cancels_pending_blocks_that_are_not_needed() -> None:
    """Pending blocks for which there has been no need for max_idletime are cancelled; needed ones stay."""
    site = Site(strategy="htex_auto_scale", init_blocks=0, max_blocks=4, max_idletime=10, slots_per_block=2)
    site.decide()
    site.queued = 8
    assert site.decide().start == 4
    site.register("0")
    site.queued, site.running = 2, 2
    assert site.decide(after=1).cancel == ()
    decision = site.decide(after=10)
    assert len(decision.cancel) == 2
    assert decision.drain == ()


def test_drained_block_that_stays_is_cancelled() -> None:
    """A drained block gets its time after its last task, then it is ended."""
    site = Site(init_blocks=1, max_blocks=1, max_idletime=0)
    site.decide()
    site.register("0")
    assert site.decide().drain == ("0",)
    site.managers["0"] = BlockLoad(1, 2, running=1)
    assert site.decide(after=10 * DRAIN_GRACE).cancel == (), "a task runs there"
    site.managers["0"] = BlockLoad(1, 2)
    assert [b for b, _ in site.decide(after=1).cancel] == ["0"]


def test_cancel_is_repeated() -> None:
    """A block that does not end although it was cancelled is cancelled again, and stays in the count."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    assert site.scaler.tell_to_end("0", site.now, "by request", drain=False)
    site.queued = 5
    assert site.decide(after=1) == Decision(wake=CANCEL_AGAIN - 1)
    assert site.decide(after=CANCEL_AGAIN).cancel == (("0", "by request"),)


# --------------------------------------------------------------------------------------------------- failures


def test_block_that_never_comes_up_ends_it() -> None:
    """With one initial block, its failure is the executor's."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    site.queued = 5
    site.job("0", JobState.FAILED)
    assert site.decide().give_up == "", "the news of a manager may still be on its way"
    decision = site.decide(after=SETTLE)
    assert "1 block in a row ended without a manager" in decision.give_up
    assert decision.failed == ("0",)
    assert site.decide(after=100).start == 0


def test_late_news_of_a_manager() -> None:
    """A block that ended right after its manager came is no failure, whatever is heard first."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    site.queued = 1
    site.job("0", JobState.FAILED)
    site.scaler.registered("0", site.now)
    decision = site.decide(after=SETTLE)
    assert (decision.give_up, decision.start) == ("", 1)


def test_failures_count_only_in_a_row() -> None:
    """A block that comes up forgives the failures before it, but the others' places are refilled slower and slower."""
    site = Site(failure_limit=2, init_blocks=2, max_blocks=2)
    site.decide()
    site.queued = 50
    site.job("0", JobState.FAILED)
    site.decide(after=SETTLE)
    assert site.decide(after=100).start == 0, "the other one shows whether the site works"
    site.register("1")
    assert site.decide().start == 1
    pauses = []
    for _ in range(12):
        (block,) = (b for b in site.alive() if b != "1")
        site.job(block, JobState.FAILED)
        assert site.decide(after=SETTLE).give_up == ""
        waited = 0.0
        while not site.decide(after=1).start:
            waited += 1
        pauses.append(waited)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(300, abs=2)


def test_gives_up_later_where_it_once_worked() -> None:
    """After a good start, three blocks in a row must fail."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    site.queued = 5
    site.register("0")
    site.decide()
    site.job("0", JobState.COMPLETED)
    seen = []
    for _ in range(3):
        while not site.decide(after=1).start:
            pass
        site.job(site.alive()[0], JobState.FAILED)
        seen.append(bool(site.decide(after=SETTLE).give_up))
    assert seen == [False, False, True]


def test_refused_for_good() -> None:
    """A submission that can never work ends it at once."""
    site = Site(init_blocks=1, max_blocks=1)
    assert site.decide().start == 1
    site.scaler.refused("0", site.now, retryable=False)
    assert "refused for good" in site.decide().give_up


def test_refused_for_now() -> None:
    """A submission that may work later is tried again, with growing pauses, but not for ever."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    site.queued = 1
    tries, began = 1, site.now
    site.scaler.refused("0", site.now, retryable=True)
    for _ in range(10_000):
        decision = site.decide(after=1)
        if decision.give_up:
            break
        for block in site.alive():
            tries += 1
            site.scaler.refused(block, site.now, retryable=True)
    assert tries == TRANSIENT_LIMIT
    assert site.now - began > 60


def test_without_a_limit_it_only_slows_down() -> None:
    """block_error_handler=False never gives up, and does not flood the scheduler either."""
    site = Site(failure_limit=None, init_blocks=1, max_blocks=1)
    site.queued = 1
    started = 0
    for _ in range(3600):
        decision = site.decide(after=1)
        assert not decision.give_up
        started += decision.start
        for block in site.alive():
            site.job(block, JobState.FAILED)
    assert 10 <= started <= 30


def test_none_with_all_blocks_gone_fails_the_work() -> None:
    """With strategy none, work that no block will ever take is failed instead of waiting for ever."""
    site = Site(strategy="none", init_blocks=1, max_blocks=1)
    site.decide()
    site.register("0")
    site.decide()
    site.job("0", JobState.TIMEOUT)
    assert site.decide().give_up == ""
    site.queued = 1
    assert "starts no others" in site.decide().give_up


def test_none_with_blocks_started_by_hand_waits() -> None:
    """With no initial blocks the user starts them; until then work waits, also after the user ended the last one."""
    site = Site(strategy="none", init_blocks=0, max_blocks=1)
    site.queued = 1
    assert site.decide(after=100) == Decision()
    site.scaler.submitting("0", site.now)
    site.register("0")
    site.scaler.tell_to_end("0", site.now, "by request", drain=False)
    site.job("0", JobState.CANCELLED)
    assert site.decide(after=100) == Decision()


def test_block_without_managers_makes_room() -> None:
    """A block whose managers were lost while its job runs on is ended after a grace, so that another may take over."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    site.register("0")
    site.decide()
    site.managers.clear()
    site.queued = 1
    assert site.decide().cancel == ()
    assert site.decide(after=LOST_GRACE).cancel == (("0", "its managers are lost"),)
    site.job("0", JobState.CANCELLED)
    assert site.decide().start == 1


def test_block_that_runs_and_never_registers() -> None:
    """A running job without a manager is ended in the end, and counts as a failure."""
    site = Site(init_blocks=1, max_blocks=1)
    site.decide()
    site.job("0", JobState.RUNNING)
    site.queued = 1
    assert site.decide(after=REGISTRATION_LIMIT - 1).cancel == ()
    assert [b for b, _ in site.decide(after=1).cancel] == ["0"]
    site.job("0", JobState.CANCELLED)
    site.decide()
    assert site.decide(after=SETTLE).give_up


def test_states() -> None:
    """A block goes through its states in order, and none backwards."""
    site = Site(init_blocks=1, max_blocks=1, max_idletime=0)
    site.decide()
    block = site.scaler.blocks["0"]
    seen = [block.state]
    for state in (JobState.PENDING, JobState.RUNNING, JobState.PENDING):
        site.job("0", state)
        seen.append(block.state)
    site.register("0")
    seen.append(block.state)
    site.job("0", JobState.RUNNING)
    seen.append(block.state)
    site.decide()
    seen.append(block.state)
    site.job("0", JobState.COMPLETED)
    seen.append(block.state)
    assert seen == sorted(seen)
    assert set(seen) == set(BlockState)


@pytest.mark.parametrize(
    "settings", [{"strategy": "simpel"}, {"strategy_period": 0}, {"max_idletime": -1}, {"max_idletime": math.nan}]
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    """Settings that make no sense are refused with what was given."""
    with pytest.raises(ConfigurationError, match=str(next(iter(settings)))):
        Settings(**settings)


# ------------------------------------------------------------------------------------------------ random walk


class Walk(RuleBasedStateMachine):
    """Any events in any order; afterwards a world that works must get the work done, or have been given up."""

    @initialize(
        strategy=st.sampled_from(["simple", "htex_auto_scale", "none"]),
        numbers=st.lists(st.integers(0, 5), min_size=3, max_size=3),
        limit=st.sampled_from([None, 1, 3]),
        parallelism=st.sampled_from([0.0, 0.3, 1.0]),
    )
    def begin(self, strategy: str, numbers: list[int], limit: int | None, parallelism: float) -> None:
        least, init, most = sorted(numbers)
        self.site = Site(
            limit,
            strategy=strategy,
            min_blocks=least,
            init_blocks=init,
            max_blocks=max(1, most),
            parallelism=parallelism,
            max_idletime=20,
        )
        self.given_up = False

    def pick(self, data: Any) -> str | None:
        alive = self.site.alive()
        return data.draw(st.sampled_from(alive)) if alive else None

    @rule(after=st.sampled_from([0.0, 0.1, 0.6, 3.0, 16.0, 40.0, 400.0]))
    def decide(self, after: float) -> None:
        scaler, least = self.site.scaler, self.site.scaler.settings.min_blocks
        before = [b.id for b in scaler.blocks.values() if not b.ending]
        decision = self.site.decide(after)
        assert not (self.given_up and decision.start), "started after giving up"
        assert not (decision.give_up and scaler.blocks), "gave up with blocks alive"
        surplus = [b for b in before if b in scaler.blocks and scaler.blocks[b].ending == "not needed any more"]
        assert not surplus or len(before) - len(surplus) >= least, "fewer than min_blocks"
        assert not (surplus and decision.start), "ended blocks and started others"
        assert all(scaler.blocks[b].slots for b in decision.drain), "drained one without managers"
        self.given_up = self.given_up or bool(decision.give_up)

    @rule(queued=st.integers(0, 30), running=st.integers(0, 10))
    def work(self, queued: int, running: int) -> None:
        self.site.queued, self.site.running = queued, running

    @rule(data=st.data(), state=st.sampled_from(JobState))
    def provider_tells(self, data: Any, state: JobState) -> None:
        block = self.pick(data)
        if block is not None:
            self.site.job(block, state)

    @rule(data=st.data(), slots=st.integers(1, 8), idle=st.sampled_from([0.0, 5.0, 50.0]))
    def manager_comes(self, data: Any, slots: int, idle: float) -> None:
        block = self.pick(data)
        if block is not None:
            self.site.register(block, slots=slots, idle=idle)

    @rule(data=st.data())
    def manager_goes(self, data: Any) -> None:
        block = self.pick(data)
        if block is not None:
            self.site.managers.pop(block, None)

    @rule(data=st.data(), drain=st.booleans())
    def user_ends(self, data: Any, drain: bool) -> None:
        block = self.pick(data)
        if block is not None:
            self.site.scaler.tell_to_end(block, self.site.now, "by request", drain=drain)

    @precondition(lambda self: len(self.site.alive()) < self.site.scaler.settings.max_blocks and not self.given_up)
    @rule(retryable=st.booleans())
    def provider_refuses(self, retryable: bool) -> None:
        block = next(self.site.ids)
        self.site.scaler.submitting(block, self.site.now)
        self.site.scaler.refused(block, self.site.now, retryable=retryable)

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "site"):
            assert len(self.site.alive()) <= self.site.scaler.settings.max_blocks
            self.site.scaler.check_invariants()

    def teardown(self) -> None:
        if not hasattr(self, "site"):
            return
        site, settings = self.site, self.site.scaler.settings
        if settings.strategy == "none":
            return
        site.queued = 5
        for _ in range(2000):
            decision = site.decide(after=1)
            self.given_up = self.given_up or bool(decision.give_up)
            for known in list(site.scaler.blocks.values()):
                if known.ending:
                    site.job(known.id, JobState.CANCELLED)
                elif not known.came:
                    site.register(known.id)
            if self.given_up or any(b.slots and not b.ending for b in site.scaler.blocks.values()):
                return
        raise AssertionError(f"work waits for ever: {site.scaler.blocks}")


TestWalk = Walk.TestCase
