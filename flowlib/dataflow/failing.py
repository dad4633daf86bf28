"""What becomes of failed attempts: the engine's part that knows budgets, retry handlers and waits.

Most is decided at once, under the engine's lock, by ``retry``.  A retry handler is user code, so its judgement is
fetched on the side crew while the task is held; a task that is to wait before its next try is held as well, and one
thread tells when the waits are over.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.futures import DependencyFailed
from flowlib.dataflow.graph import CANCELLED, DEP_FAIL, FAIL_RETRYABLE, FAILED, LAUNCHED
from flowlib.dataflow.later import Later
from flowlib.dataflow.lineage import Regain, lost_among, objects_of
from flowlib.dataflow.outcomes import Blame, Failed
from flowlib.dataflow.refusals import refused_by
from flowlib.dataflow.retry import Cause, Retry, cause_of, first_set, may_retry, more_memory
from flowlib.dataflow.tries import Try, told
from flowlib.events.schema import Code

if TYPE_CHECKING:
    from flowlib.config import Config
    from flowlib.dataflow.engine import Effects, Engine
    from flowlib.dataflow.lanes import Lane
    from flowlib.dataflow.record import TaskRecord
    from flowlib.dataflow.states import States
    from flowlib.errors import FlowlibError

_WAITING = int(Code.TASK_WAITING)


class Failures:
    """Decides about failed attempts.

    Args:
        engine: Whose tasks they are.
        config: Budgets and retry handler.
    """

    def __init__(self, engine: Engine, config: Config) -> None:
        self._engine = engine
        self._retries: int | Retry = config.retries
        self._lost_retries = config.lost_retries
        self._retry_handler = config.retry_handler
        self._later: Later[tuple[TaskRecord, int]] = Later("flowlib-retries", self._over)

    def decide(
        self, record: TaskRecord, attempt: int, outcome: Failed, lane: Lane | None, effects: Effects
    ) -> States | None:
        """An attempt failed: another follows (None), or the final state. The engine's lock is held.

        Args:
            record: The task.
            attempt: Which try.
            outcome: How it failed.
            lane: The executor that had it; None if none had.
            effects: Takes what follows.
        """
        blame, graph = outcome.blame, self._engine.graph
        # What is no failure of the task's: nobody has begun it, or its executor turns out to have no node for it.
        if blame is Blame.NOBODY or (blame is Blame.REFUSED and refused_by(record, lane, outcome)):
            graph.retry(record)
            effects.ready.append(record)
            return None
        if type(outcome) is not DependencyFailed and self._misses(record, attempt, outcome, effects):
            return None
        record.fail_count += 1
        if blame is Blame.REFUSED:
            return self._refused(record, attempt, outcome)
        one = self._note(record, attempt, outcome)
        if blame is Blame.INFRASTRUCTURE:
            record.losses += 1
        elif self._retry_handler is not None or record.memoize:
            graph.hold(record)
            effects.aside.append((self._judge, record, attempt, outcome, one))
            return None
        if self._pays(record, outcome, one, 1):
            self._again(record, outcome, one, effects)
            return None
        if type(outcome) is Failed and isinstance(outcome.error, CancelledError):
            return CANCELLED
        self._tell(record, outcome)
        return FAILED

    def withdrawn(self, record: TaskRecord, attempt: int) -> None:
        """A task that was held is done: it need not wait any more."""
        self._later.remove((record, attempt))

    def close(self) -> None:
        """The run is over: nobody waits any more."""
        self._later.close(5.0)

    # ------------------------------------------------------------------------------------------------ the budgets

    def _note(self, record: TaskRecord, attempt: int, outcome: Failed) -> Try:
        """Remember a failed try."""
        kinds = outcome.kinds()
        cause = cause_of(outcome.blame, kinds)
        rare = record.more()
        one = Try(attempt, cause, kinds[0], outcome.manager, outcome.host(), time(), rare.memory)
        rare.tries += (one,)
        return one

    def _refused(self, record: TaskRecord, attempt: int, outcome: Failed) -> States:
        if type(outcome) is DependencyFailed:
            return DEP_FAIL
        # Only of a plain failure is the exception at hand; others may have to rebuild it, which is user code.
        if type(outcome) is Failed and isinstance(outcome.error, CancelledError):
            return CANCELLED
        if record.fail_count > 1:
            self._note(record, attempt, outcome)
            self._tell(record, outcome)
        return FAILED

    def _policy(self, record: TaskRecord) -> int | Retry:
        own = record.options.retries
        return self._retries if own is None else own

    def _pays(self, record: TaskRecord, outcome: Failed, one: Try, cost: float) -> bool:
        """Whether there is another attempt; the cost of a failure of the user's is booked."""
        policy = self._policy(record)
        spent, budget = 0.0, 0.0
        if outcome.blame is Blame.USER:
            record.fail_cost += cost
            if isinstance(policy, Retry):
                purse, budget = policy.allowed(one.cause, outcome.kinds())
                account = record.more().spent
                spent = account[purse] = account.get(purse, 0) + cost
            else:
                spent, budget = record.fail_cost, policy
        return may_retry(
            outcome.blame,
            cost=spent,
            retries=budget,
            losses=record.losses,
            lost_retries=self.losses_allowed(record),
        )

    def losses_allowed(self, record: TaskRecord) -> float:
        """How often the infrastructure may lose a task, or what it has made, before it fails."""
        options = record.options
        return first_set(_lost(options.retries), options.lost_retries, _lost(self._retries), self._lost_retries)

    def _tell(self, record: TaskRecord, outcome: Failed) -> None:
        """The final failure says what went before it."""
        rare = record.more()
        rare.told = told(rare.tries)
        if rare.told:
            outcome.add_note(rare.told)

    # ------------------------------------------------------------------------------------------- the next attempt

    def _again(self, record: TaskRecord, outcome: Failed, one: Try, effects: Effects) -> None:
        """There is another attempt, now or later. The engine's lock is held."""
        engine, policy, seconds = self._engine, self._policy(record), 0.0
        if isinstance(policy, Retry):
            if policy.memory is not None and one.cause is Cause.OOM:
                _raise_memory(record, outcome, policy.memory)
            seconds = policy.wait(record.id, len(record.more().tries))
        if not seconds:
            engine.graph.retry(record)
            effects.ready.append(record)
            return
        if record.status is LAUNCHED:
            engine.graph.hold(record)
        engine.emit((_WAITING, time(), record.id, one.attempt, one.cause.value, seconds))
        self._later.put((record, one.attempt), seconds)

    def _over(self, held: tuple[TaskRecord, int]) -> None:
        """A wait is over; in the thread of all waits, which must not launch anything itself: that may take long."""
        self._engine.side_put(self.resume, *held)

    def resume(self, record: TaskRecord, attempt: int) -> None:
        """Launch a task that was held, unless something has become of it since."""
        engine, effects = self._engine, self._engine.effects()
        with engine.lock:
            if record.status is not FAIL_RETRYABLE or record.attempt != attempt:
                return
            engine.graph.retry(record)
            effects.ready.append(record)
        engine.follow(effects)

    # ------------------------------------------------------------------------------------------------- lost values

    def _misses(self, record: TaskRecord, attempt: int, outcome: Failed, effects: Effects) -> bool:
        """Whether a task is held because what it lacks is to be made again. The engine's lock is held."""
        if not lost_among(record, outcome):
            return False
        if not any(stored.entry.lost for stored in objects_of(record)):
            # There again meanwhile.
            record.losses += 1
            if record.losses > self.losses_allowed(record):
                return False
        self._engine.graph.hold(record)
        if effects.regain is None:
            effects.regain = []
        effects.regain.append(Regain(self._engine, record, attempt))
        return True

    def give_up(self, record: TaskRecord, attempt: int, error: FlowlibError) -> None:
        """Fail a task that is held, because what it lacks cannot be made again."""
        engine, effects = self._engine, self._engine.effects()
        with engine.lock:
            if record.status is not FAIL_RETRYABLE or record.attempt != attempt:
                return
            engine.graph.finish(record, FAILED, effects)
            engine.settle(record, FAILED, Failed(error, Blame.REFUSED), time(), effects)
            engine.seal(effects)
        engine.follow(effects)

    def _judge(self, record: TaskRecord, attempt: int, outcome: Failed, one: Try) -> None:
        """Decide about a failure; on the side crew, for a handler is user code."""
        engine, verdict = self._engine, outcome
        record.more().fail_history += (_text(outcome.error),)
        cost: float = 1
        if self._retry_handler is not None:
            try:
                cost = 0 + self._retry_handler(outcome.error, record)
            except Exception as e:  # noqa: BLE001  # a user's handler that fails fails the task with its own error
                verdict = Failed(e, Blame.REFUSED)
        effects, again = engine.effects(), False
        with engine.lock:
            if record.status is not FAIL_RETRYABLE or record.attempt != attempt:
                return
            if verdict is outcome:
                again = self._pays(record, outcome, one, cost)
                if again:
                    self._again(record, outcome, one, effects)
        if not again:
            self._tell(record, verdict)
            if record.memoize:
                engine.tell_memoizer(record, lambda: engine.memoizer.update_memo_exception(record, verdict.error))
            with engine.lock:
                if record.status is FAIL_RETRYABLE:
                    engine.graph.finish(record, FAILED, effects)
                    engine.settle(record, FAILED, verdict, time(), effects)
                    engine.seal(effects)
        engine.follow(effects)


def _lost(policy: int | Retry | None) -> int | None:
    return policy.lost if isinstance(policy, Retry) else None


def _raise_memory(record: TaskRecord, outcome: Failed, factor: float) -> None:
    """Let the next attempt have more memory."""
    specification = record.resource_specification
    asked: Any = specification.get("memory", 0)
    limit, peak = outcome.memory()
    memory = more_memory(asked if isinstance(asked, (int, float)) else 0, limit, peak, factor)
    if memory:
        # Not changed in place: it may be the caller's.
        record.resource_specification = {**specification, "memory": memory}
        record.more().memory = memory


def _text(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # noqa: BLE001  # the user's __repr__ is user code; the class's name is ours to have
        return type(error).__name__
