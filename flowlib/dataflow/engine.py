"""What drives the task graph: launches what is ready, takes outcomes, ends tasks.

Callers' threads submit and executors' threads report.  Each holds one short lock while the graph decides; everything
that follows is gathered in ``Effects`` and carried out after the lock is let go, in a loop, so that a chain of
thousands of tasks does not grow the stack.  No user code runs under the lock.  What may take long or run user code at
the expense of an executor's thread (retry handlers, memoization, unpickling values for an executor in this process)
runs on the side crew; callbacks of futures run on a crew of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.dataflow import dependencies, futures
from flowlib.dataflow.crew import Crew
from flowlib.dataflow.failing import Failures
from flowlib.dataflow.futures import AppFuture, DataFuture, DependencyFailed, JoinedValues, LiftedFuture
from flowlib.dataflow.graph import (
    CANCELLED,
    DEP_FAIL,
    EXEC_DONE,
    FAIL_RETRYABLE,
    FAILED,
    JOINING,
    LAUNCHED,
    MEMO_DONE,
    Graph,
    Step,
)
from flowlib.dataflow.lanes import pick
from flowlib.dataflow.lineage import Regain, remember
from flowlib.dataflow.memoization import BatchMemoizer, Kept
from flowlib.dataflow.outcomes import Blame, Failed, Returned
from flowlib.dataflow.record import TaskRecord
from flowlib.dataflow.refusals import whole
from flowlib.dataflow.shield import SHIELD, ShieldedLock
from flowlib.dataflow.states import FINAL_STATES, States
from flowlib.dataflow.unseen import Unseen
from flowlib.errors import FlowlibError, InternalConsistencyError, JoinError, NoDataFlowKernelError, UnkeyableError
from flowlib.events import discard
from flowlib.events.schema import Code
from flowlib.store.refs import ObjectRef
from flowlib.store.stored import Stored

if TYPE_CHECKING:
    from flowlib.config import Config
    from flowlib.dataflow.lanes import Lane
    from flowlib.dataflow.memoization import Memoizer
    from flowlib.events import Emit

_logger = logging.getLogger(__name__)

_SUBMITTED = int(Code.TASK_SUBMITTED)
_LAUNCH = int(Code.TASK_LAUNCHED)
_DONE = int(Code.TASK_DONE)
_TRY = int(Code.TRY_ENDED)
_JOIN = int(Code.TASK_JOINING)

Attempt = tuple[TaskRecord, int, Any]
_TEXT = 2000
_KILLS = 3
"""Tries to end a task that fails and is tried again meanwhile."""


class Effects(Step[TaskRecord]):
    """What is left to do after the lock is let go.

    Attributes:
        ended: Records whose arguments can be dropped; that may run users' destructors.
        calls: Callbacks of futures that are done.
        aside: Calls for the side crew.
        fresh: Values that the memoizer is told of before anybody else.
        regain: Tasks that are held until lost values that they need were made again; None for none.
        failed: Tasks that failed by themselves: id, name, outcome and what is told of their tries; None for none.
    """

    __slots__ = ("aside", "calls", "ended", "failed", "fresh", "regain")

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[TaskRecord] = []
        self.calls: list[tuple[Callable[[Any], Any], Any]] = []
        self.aside: list[tuple[Any, ...]] = []
        self.fresh: list[Attempt] | None = None
        self.failed: list[tuple[int, str, Failed, str]] | None = None
        self.regain: list[Regain] | None = None


class Engine:
    """The graph of a run in motion.

    Args:
        config: Budgets, retry handler, resolver.

    Attributes:
        graph: All unfinished tasks.
        lock: Held while the graph is touched.
        closed: No task is taken any more.
        emit: Where events go.
        memoizer: What remembers values.
        counting: Whether executors' outstanding tasks are counted, because there are several.
        unseen: Failures that nobody has looked at.
        failures: Decides about failed attempts.
    """

    def __init__(self, config: Config) -> None:
        self.graph: Graph[TaskRecord] = Graph(keep=not config.garbage_collect)
        self.lock = ShieldedLock()
        self.closed = False
        self.emit: Emit = discard
        self.memoizer: Memoizer
        self.counting = False
        self.unseen = Unseen()
        self._fresh: list[Attempt] = []
        self._fresh_lock = Lock()
        self.callbacks = Crew("flowlib-callbacks", 8)
        self.side = Crew("flowlib-side", 4)
        self.failures = Failures(self, config)
        self._resolver = resolver = config.dependency_resolver
        self._look = dependencies.gather if resolver is None else resolver.traverse_to_gather
        self._look_join = dependencies.gather_shallow if resolver is None else self._look

    # ------------------------------------------------------------------------------------------------- arriving

    def find(self, record: TaskRecord) -> list[Future[Any]]:
        """The futures in a task's arguments; none once it is done."""
        look = self._look_join if record.app.kind == "join" else self._look
        return dependencies.find(record.args, record.kwargs, look)

    def waits_for(self, record: TaskRecord) -> tuple[list[TaskRecord], list[Future[Any]]]:
        """What a task needs, done or not, or what its body returned: tasks of this run, and other futures."""
        return self._sort(record, _joins(record) if record.status is JOINING else self.find(record))

    def add(self, record: TaskRecord, app: int) -> None:
        """Take a new task, and launch it if it waits for nothing.

        Args:
            record: The task.
            app: Number of its app in events.

        Raises:
            NoDataFlowKernelError: The run is over.
            TypeError: There is an asyncio future in its arguments.
        """
        parents: Sequence[TaskRecord] = ()
        others: Sequence[Future[Any]] = ()
        if record.args or record.kwargs:
            found = self.find(record)
            if found:
                record.depends = True
                parents, others = self._sort(record, found)
        effects: Effects | None = None
        try:
            with self.lock:
                if self.closed:
                    raise NoDataFlowKernelError(
                        "Cannot submit to a DFK that has been cleaned up; load a configuration again: flowlib.load(...)"
                    )
                # Told first: another thread may launch it as soon as the graph has it.
                told = (_SUBMITTED, record.submitted, record.id, app, tuple([p.id for p in parents]))
                asks = _asks(record) if record.resource_specification else None
                self.emit((*told, len(others), asks) if asks else (*told, len(others)) if others else told)
                self.graph.add(record, parents, len(others))
                status = record.status
                if status is DEP_FAIL:
                    effects = Effects()
                    effects.dead.append(record)
                    self.seal(effects)
            if status is LAUNCHED:
                outcome = self.launch(record, True)
                if outcome is not None:
                    if type(outcome) is Failed and type(outcome.error) is UnkeyableError:
                        # Told here and now: there is no call that could be remembered.
                        raise outcome.error
                    self.report([(record, 0, outcome)])
            elif effects is not None:
                self.follow(effects)
            for other in others:
                self._watch(record, other)
        except BaseException as e:
            # Ctrl-C: the caller gets no future, and nobody is to wait for what may never have left.
            self._abort(record, e)
            if type(e) is UnkeyableError:
                self.unseen.seen(record.id)
            raise

    def _sort(self, record: TaskRecord, found: Iterable[Future[Any]]) -> tuple[list[TaskRecord], list[Future[Any]]]:
        """Futures as tasks of this run, and the others."""
        parents: list[TaskRecord] = []
        others: list[Future[Any]] = []
        for future in found:
            origin: Future[Any] = future
            while isinstance(origin, DataFuture):
                origin = origin.parent
            if type(origin) is ObjectRef:
                # There from the start.
                continue
            if isinstance(origin, AppFuture) and origin._record.kernel is record.kernel:
                parents.append(origin._record)
            else:
                others.append(future)
        return parents, others

    def _watch(self, record: TaskRecord, future: Future[Any]) -> None:
        """Tell the graph when a future from elsewhere, that ``record`` waits for, is done."""

        def arrived(done: Future[Any]) -> None:
            effects = Effects()
            # Asked before the lock is taken: it may run the code of a foreign future.
            bad = futures.failed(done)
            with self.lock:
                self.graph.arrived(record, bad, effects)
                self.seal(effects)
            self.follow(effects)

        try:
            future.add_done_callback(arrived)
        except Exception as e:  # noqa: BLE001  # the code of a foreign future: the task would wait for ever
            self._abort(record, e)

    def effects(self) -> Effects:
        """Nothing yet, to be filled."""
        return Effects()

    # ------------------------------------------------------------------------------------------------- launching

    def launch(self, record: TaskRecord, here: bool) -> Any:
        """Give a task to an executor.

        Args:
            record: Counts as launched.
            here: Whether user code and long work may run in this thread; else they move to the side crew.

        Returns:
            An outcome, where the executor is not needed or did not take it; None otherwise.
        """
        func, args, kwargs, attempt = record.func, record.args, record.kwargs, record.attempt
        if func is None:
            return None
        lanes = record.lanes
        try:
            lane = lanes[0] if len(lanes) == 1 else pick(lanes)
            if record.depends:
                put = self._replacer(record, lane, here)
                if put is None:
                    self.side_put(self._launch_aside, record, attempt)
                    return None
                try:
                    args, kwargs = dependencies.fill(args, kwargs, put)
                except Exception as e:  # noqa: BLE001  # what the task depends on has no value: a part is missing ...
                    return self._unresolved(record, e)
            if record.memoize:
                if not here:
                    self.side_put(self._launch_aside, record, attempt)
                    return None
                record.args, record.kwargs, record.depends = args, kwargs, False
                known = self.memoizer.check_memo(record)
                if known is not None:
                    record.more().from_memo = True
                    if not known.done():
                        known.add_done_callback(lambda done: self._follow_known(record, attempt, done))
                        return None
                    return _Remembered(_outcome_of(known))
            now = time()
            record.launched = now
            if self.counting:
                with self.lock:
                    lane.outstanding += 1
            record.lane = lane
            self.emit((_LAUNCH, now, record.id, attempt, lane.index))
            lane.executor.launch(record, attempt, func, args, kwargs)
        except Exception as e:  # noqa: BLE001  # from resolvers, memo keys, executors: the attempt's failure
            refused = isinstance(e, FlowlibError) and not e.retryable
            outcome = Failed(e, Blame.REFUSED if refused else Blame.USER)
            kind, _, text = outcome.text().partition(": ")
            self.emit((_TRY, time(), record.id, attempt, 5 if refused else 1, 0.0, 0.0, -1, -1, kind, text[:_TEXT]))
            return outcome
        return None

    def _launch_aside(self, record: TaskRecord, attempt: int) -> None:
        if record.status is LAUNCHED and record.attempt == attempt:
            outcome = self.launch(record, True)
            if outcome is not None:
                self.report([(record, attempt, outcome)])

    def _follow_known(self, record: TaskRecord, attempt: int, known: Future[Any]) -> None:
        """An equal call that was on its way has ended: its outcome is this one's, unless it was withdrawn."""
        if known.cancelled():
            self.side_put(self._launch_aside, record, attempt)
        else:
            self.report([(record, attempt, _Remembered(_outcome_of(known)))])

    def _replacer(self, record: TaskRecord, lane: Lane, here: bool) -> Callable[[Any], Any] | None:
        """What puts values into an argument; None if that may not be done in this thread."""
        if self._resolver is not None:
            return self._resolver.traverse_to_unwrap if here else None
        if lane.executor.forwards_pickled and not record.memoize:
            of = dependencies.pickled_of
            strange: Callable[[Any], bool] = _is_lifted
        else:
            of = dependencies.value_of
            strange = dependencies.is_remote
        if not here and any(map(strange, self.find(record))):
            return None
        walk = dependencies.substitute_shallow if record.app.kind == "join" else dependencies.substitute
        return lambda value: walk(value, of)

    def _unresolved(self, record: TaskRecord, error: Exception) -> Failed:
        """The failure of a task whose dependencies ended well, but whose values cannot be had."""
        bad = [f for f in self.find(record) if futures.error_of(f) is not None]
        return DependencyFailed(record.id, bad) if bad else Failed(error, Blame.REFUSED)

    # ------------------------------------------------------------------------------------------------- reporting

    def report(self, batch: Sequence[Attempt]) -> None:
        """Take outcomes from an executor; what is out of date is dropped.

        Args:
            batch: ``(record, attempt, outcome)`` triples.
        """
        self.follow(self._take(batch, False))

    def follow(self, effects: Effects) -> None:
        """Carry out what follows from an event, and what follows from that."""
        work = [effects]
        while work:
            effects = work.pop()
            for record in effects.ended:
                record.forget()
            for callback, future in effects.calls:
                self._call_back(callback, future)
            for call in effects.aside:
                self.side_put(*call)
            if effects.fresh is not None:
                self._remember_later(effects.fresh)
            if effects.failed is not None:
                for failed in effects.failed:
                    self.unseen.tell(*failed)
            if effects.regain is not None:
                # A thread of its own: this one may be what brings the values that are waited for.
                Thread(target=self._regain, args=(effects.regain,), name="flowlib-regain", daemon=True).start()
            for record in effects.joined:
                if record.memoize or any(map(_is_lifted, _joins(record))):
                    self.side_put(self._end_join_aside, record)
                else:
                    work.append(self._end_join(record))
            outcomes: list[Attempt] = []
            for record in effects.ready:
                attempt = record.attempt
                outcome = self.launch(record, False)
                if outcome is not None:
                    outcomes.append((record, attempt, outcome))
            if outcomes:
                work.append(self._take(outcomes, False))

    def _take(self, batch: Sequence[Attempt], remembered: bool) -> Effects:
        """Tell the graph how attempts ended.

        Args:
            batch: The outcomes.
            remembered: Whether the memoizer was told.
        """
        effects = Effects()
        graph, counting, now = self.graph, self.counting, time()
        with self.lock:
            for record, attempt, outcome in batch:
                if record.status is not LAUNCHED or record.attempt != attempt:
                    continue
                lane = record.lane
                if counting and not remembered and lane is not None:
                    lane.outstanding -= 1
                    record.lane = None
                if isinstance(outcome, Failed):
                    state = self.failures.decide(record, attempt, outcome, lane, effects)
                    if state is None:
                        continue
                    outcome = whole(record, outcome)
                elif type(outcome) is _Remembered:
                    outcome = outcome.outcome
                    state = FAILED if isinstance(outcome, Failed) else MEMO_DONE
                elif record.app.kind == "join":
                    problem = self._join(record, outcome.value(), effects)
                    if problem is None:
                        continue
                    outcome, state = problem, FAILED
                elif record.memoize and not remembered:
                    if effects.fresh is None:
                        effects.fresh = []
                    effects.fresh.append((record, attempt, outcome))
                    continue
                else:
                    state = EXEC_DONE
                graph.finish(record, state, effects)
                self.settle(record, state, outcome, now, effects)
            self.seal(effects)
        return effects

    def settle(self, record: TaskRecord, state: States, outcome: Any, now: float, effects: Effects) -> None:
        """Set the future of a final record; under the lock, so that whoever sees the state finds the outcome."""
        record.ended = now
        event: tuple[Any, ...]
        if state is FAILED:
            event = (_DONE, now, record.id, int(state), _told(outcome))
            if record.rare is not None and record.rare.told:
                event += (record.rare.told,)
            if type(outcome) is not DependencyFailed:
                self._note(record, outcome, effects)
        else:
            event = (_DONE, now, record.id, int(state))
        future = record.future
        if future is not None:
            calls = futures.settle(future, outcome, state is CANCELLED)
            if calls:
                effects.calls += calls
        if type(outcome) is Stored:
            lineage = remember(record, outcome, self._resolver is None)
            if lineage is not None and record.depends:
                effects.aside.append((lineage.slim, record))
        effects.ended.append(record)
        self.emit(event)

    def _note(self, record: TaskRecord, outcome: Failed, effects: Effects) -> None:
        """Remember a failure until somebody looks at it."""
        self.unseen.add(record.id)
        if effects.failed is None:
            effects.failed = []
        tries = "" if record.rare is None else record.rare.told
        effects.failed.append((record.id, record.describe(), outcome, tries))

    def seal(self, effects: Effects) -> None:
        """Settle those that the graph found dead, with the lock still held; an exception is made when one asks."""
        for record in effects.dead:
            args, kwargs = record.args, record.kwargs
            look = self._look_join if record.app.kind == "join" else self._look

            def find(args: Any = args, kwargs: Any = kwargs, look: Any = look) -> list[Future[Any]]:
                return dependencies.find(args, kwargs, look)

            self.settle(record, DEP_FAIL, DependencyFailed(record.id, find), time(), effects)

    # ------------------------------------------------------------------------------------------------ remembering

    def _remember_later(self, batch: list[Attempt]) -> None:
        """Have the memoizer told of values, on the side crew: all that came meanwhile at once, if it takes several."""
        if not isinstance(self.memoizer, BatchMemoizer):
            for record, attempt, outcome in batch:
                self.side_put(self._remember, record, attempt, outcome)
            return
        with self._fresh_lock:
            waiting = bool(self._fresh)
            self._fresh += batch
        if not waiting:
            self.side_put(self._remember_all, batch[0][0])

    def _remember(self, record: TaskRecord, attempt: int, outcome: Any) -> None:
        """Tell the memoizer of a value before anybody else; on the side crew."""
        self.tell_memoizer(record, lambda: self.memoizer.update_memo_result(record, outcome.value()))
        self.follow(self._take([(record, attempt, outcome)], True))

    def _remember_all(self, first: TaskRecord) -> None:
        """Tell the memoizer of all values that wait for that."""
        memoizer = self.memoizer
        assert isinstance(memoizer, BatchMemoizer)
        with self._fresh_lock:
            batch, self._fresh = self._fresh, []
        try:
            told = [(record, outcome) for record, _, outcome in batch]
            self.tell_memoizer(first, lambda: memoizer.update_many(told))
        finally:
            # Also after sys.exit() in users' pickling: the values stand, and are waited for.
            self.follow(self._take(batch, True))

    def tell_memoizer(self, record: TaskRecord, tell: Callable[[], None]) -> None:
        """Do what tells the memoizer of a task's end; that it fails is logged."""
        try:
            tell()
        except Exception:
            # The boundary to a plug-in and to users' pickling. The task's own end is known and stands; what is lost
            # is that it will run again, which a person has to be told.
            _logger.warning("%s is not remembered", record.describe(), exc_info=True)

    # --------------------------------------------------------------------------------------------------- joining

    def _join(self, record: TaskRecord, value: Any, effects: Effects) -> Failed | None:
        """Take what a join app's body returned; its failure if that is no future."""
        joins = value if type(value) is list else [value]
        for item in joins:
            if not isinstance(item, Future):
                what = f"{item!r} of {type(item)}" + (" in a list" if type(value) is list else "")
                text = f"join_app body must return a Future or list of Futures, got {what} from {record.describe()}"
                if item is None:
                    text += "; is a return missing?"
                return Failed(TypeError(text), Blame.REFUSED)
        record.more().joins = value
        parents, others = self._sort(record, joins)
        self.graph.join(record, parents, len(others), effects)
        told = (_JOIN, time(), record.id, tuple([parent.id for parent in parents]))
        self.emit((*told, len(others)) if others else told)
        effects.aside.extend((self._watch, record, other) for other in others)
        return None

    def _end_join_aside(self, record: TaskRecord) -> None:
        self.follow(self._end_join(record))

    def _end_join(self, record: TaskRecord) -> Effects:
        """The futures of a join are done."""
        effects = Effects()
        joins = _joins(record)
        outcome: Any
        if record.doomed or any(_is_lifted(f) and futures.failed(f) for f in joins):
            bad = [f for f in joins if futures.failed(f)]
            state, outcome = FAILED, DependencyFailed(record.id, bad, JoinError)
            if record.memoize:
                self.tell_memoizer(record, lambda: self.memoizer.update_memo_exception(record, outcome.error))
        else:
            parts = [_outcome_of(f) for f in joins]
            state = EXEC_DONE
            outcome = JoinedValues(parts) if type(record.more().joins) is list else parts[0]
            if record.memoize:
                self.tell_memoizer(record, lambda: self.memoizer.update_memo_result(record, outcome.value()))
        with self.lock:
            if record.status is JOINING:
                self.graph.finish(record, state, effects)
                self.settle(record, state, outcome, time(), effects)
                self.seal(effects)
        return effects

    # ------------------------------------------------------------------------------------------------ withdrawing

    def cancel(self, record: TaskRecord, running: bool = False, grace: float = 5.0, by: str = "") -> bool:
        """Withdraw a task that has not started, or end it; see ``AppFuture.cancel``.

        Args:
            record: The task.
            running: Whether to end it if it runs.
            grace: Seconds between SIGTERM and SIGKILL.
            by: Who cancels it, for the text of its ``CancelledError``: "by cancel() at ...".
        """
        # Whole, or an executor has let go of a task that the graph still waits for. It takes a second at most.
        with SHIELD:
            effects = self._withdraw(record, by)
            if effects is not None:
                self.follow(effects)
            elif running and self._kill(record, grace):
                return True
        return record.status is CANCELLED

    def _kill(self, record: TaskRecord, grace: float) -> bool:
        for _ in range(_KILLS):
            with self.lock:
                status, attempt, lane = record.status, record.attempt, record.lane
            if status is not LAUNCHED or lane is None:
                return False
            if lane.executor.kill(record, attempt, grace):
                return True
            if record.attempt == attempt:
                return False
            # That try has just failed, and the next one is under way.
        return False

    def _withdraw(self, record: TaskRecord, by: str) -> Effects | None:
        with self.lock:
            status, attempt, lane = record.status, record.attempt, record.lane
        if status is LAUNCHED:
            if lane is None or not lane.executor.cancel(record, attempt):
                return None
        elif status in FINAL_STATES:
            return None
        effects = Effects()
        with self.lock:
            if record.status is not status or record.attempt != attempt:
                return None
            if status is FAIL_RETRYABLE:
                self.failures.withdrawn(record, attempt)
            if status is LAUNCHED and self.counting and lane is not None:
                lane.outstanding -= 1
            self.graph.finish(record, CANCELLED, effects)
            self.settle(record, CANCELLED, by, time(), effects)
            self.seal(effects)
        return effects

    def abandon(self) -> int:
        """Take no further tasks and cancel all that are not done; their number."""
        effects = Effects()
        now = time()
        with self.lock:
            self.closed = True
            for record in self.graph.abandon():
                self.settle(record, CANCELLED, "because the run ended", now, effects)
        self.follow(effects)
        return len(effects.ended)

    def close(self, grace: float) -> None:
        """End the crews.

        Args:
            grace: Seconds that callbacks which were called for get to end.
        """
        self.failures.close()
        self.side.drop()
        self.side.close(0)
        self.callbacks.close(grace)

    # ------------------------------------------------------------------------------------------------- the crews

    def _call_back(self, callback: Callable[[Any], Any], future: Any) -> None:
        """Run a future's callback elsewhere."""
        try:
            self.callbacks.put(_run_callback, callback, future)
        except RuntimeError:
            # The run is over and its crew gone: the thread that ends it is as good as any.
            _run_callback(callback, future)

    def side_put(self, call: Callable[..., Any], record: TaskRecord, *args: Any) -> None:
        """Run ``call(record, *args)`` elsewhere."""
        try:
            self.side.put(self._guarded, call, record, *args)
        except RuntimeError:
            # Closed: every task was cancelled before, so nothing waits for this.
            return

    def _guarded(self, call: Callable[..., Any], record: TaskRecord, *args: Any) -> None:
        try:
            call(record, *args)
        except BaseException as e:  # sys.exit() in a retry handler, say: nobody else would end the task
            _logger.exception("the decision about %s failed", record.describe())
            error = e
            if not isinstance(e, Exception):
                error = InternalConsistencyError(
                    f"the code that decides about {record.describe()} raised {type(e).__name__}: {e}"
                )
                error.__cause__ = e
            self._abort(record, error)

    def _regain(self, regains: list[Regain]) -> None:
        """Have made again what was lost."""
        for regain in regains:
            self._guarded(regain.start, regain.record)

    def _abort(self, record: TaskRecord, error: BaseException) -> None:
        """Fail a task whose way was cut off; nothing if it is done, or was never taken."""
        effects = Effects()
        with self.lock:
            if record.status in FINAL_STATES or self.graph.tasks.get(record.id) is not record:
                return
            if self.counting and record.lane is not None:
                record.lane.outstanding -= 1
                record.lane = None
            self.graph.finish(record, FAILED, effects)
            self.settle(record, FAILED, Failed(error, Blame.REFUSED), time(), effects)
            self.seal(effects)
        self.follow(effects)


class _Remembered:
    """An outcome that the memoizer had."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome


def _outcome_of(future: Future[Any]) -> Any:
    """The outcome that a future that is done stands for."""
    if isinstance(future, AppFuture) and not future.cancelled():
        return future._get_outcome()
    if type(future) is Kept:
        return Returned(future.value)
    error = futures.error_of(future)
    return Returned(future.result(0)) if error is None else Failed(error, Blame.REFUSED)


def _joins(record: TaskRecord) -> list[Future[Any]]:
    joins = record.more().joins
    return joins if type(joins) is list else [joins]


def _asks(record: TaskRecord) -> dict[str, Any]:
    """What a task asks of a node, as plain values for its event."""
    asked = record.resource_specification.items()
    return {str(k): v if type(v) in (int, float) else str(v) for k, v in asked if k != "priority"}


def _is_lifted(future: Future[Any]) -> bool:
    return isinstance(future, LiftedFuture)


def _told(outcome: Failed) -> str:
    """Why a task failed, for the event log, where no attempt has told it; "" where one has, or only its code could."""
    if type(outcome) is DependencyFailed:
        return f"JoinError: {outcome.names()} failed"
    if type(outcome) is not Failed:
        return ""
    kind = type(outcome.error)
    # The text of other exceptions is made by users' code, which must not run here.
    known = kind.__module__ == "builtins" or kind.__module__ == "flowlib.errors"
    return f"{kind.__name__}: {outcome.error}" if known else kind.__name__


def _run_callback(callback: Callable[[Any], Any], future: Any) -> None:
    try:
        callback(future)
    except Exception:
        # As the stdlib has it: a callback's failure is nobody's value, so it is logged.
        _logger.exception("exception calling callback for %r", future)
