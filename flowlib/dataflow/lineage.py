"""Values that were lost with their node are made again: what is kept for that of the task that made one.

A large result stays on the node that made it until somebody wants it, and so it may be gone when that happens.  What
the task was called with is kept as long as its value is referred to, without the large values among its arguments: of
those it is enough to know how they were made.  If a value is wanted that is nowhere, a further task (``Rerun``) does
what the first one did, after others have done the same for what it needs; what it returns takes the place of what was
lost, wherever that is referred to.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.dataflow import dependencies
from flowlib.dataflow.futures import AppFuture, JoinedValues, LiftedFuture
from flowlib.dataflow.lazy import FINISHED, LazyFuture
from flowlib.dataflow.outcomes import Failed, Returned
from flowlib.dataflow.record import TaskRecord
from flowlib.errors import FlowlibError, ObjectLost
from flowlib.store.refs import ObjectRef
from flowlib.store.stored import Stored

if TYPE_CHECKING:
    from flowlib.dataflow.engine import Engine

_logger = logging.getLogger(__name__)

DEEPEST = 64
"""Generations of tasks that are kept for one value: what is behind them must be there still."""
_LOOK = 2.0
"""Seconds after which whoever waits looks whether the run is still there."""
_HURRIED = ("flowlib-io-", "flowlib-side", "flowlib-regain")
"""Names of the threads that must not wait, because what is waited for may need them."""
_lock = threading.RLock()


class CannotRerun(Exception):
    """A value cannot be made again; the argument says why."""


class Past(LazyFuture[Any]):
    """Stands for a large value among the arguments of a task that is done, without keeping it.

    Args:
        stored: The value.
        maker: How it was made; None if no task made it, or too many would have to run for it.
    """

    __slots__ = ("maker", "stored", "what")

    def __init__(self, stored: Stored, maker: Lineage | None) -> None:
        self._waiting = None
        self.stored = weakref.ref(stored)
        self.maker = maker
        self.what = stored.entry.what()

    @property
    def _state(self) -> str:  # type: ignore[override]
        return FINISHED

    def find(self) -> Stored | None:
        """The value, if it is referred to; there may be one that was made again."""
        stored = self.stored()
        return stored if stored is not None or self.maker is None else self.maker.find()


class Lineage:
    """How a value was made.

    Args:
        record: The task, which is done and has not forgotten its arguments yet.
        stored: Its value.

    Attributes:
        record: The task.
        depth: Generations of tasks that are kept for it.
        again: The task that makes it again, while there is one.
    """

    __slots__ = ("_args", "_context", "_copies", "_func", "_kwargs", "_runs", "_why", "again", "depth", "record")

    def __init__(self, record: TaskRecord, stored: Stored) -> None:
        self.record = record
        self.depth = 1
        self.again: Rerun | None = None
        self._func, self._args, self._kwargs, self._context = record.func, record.args, record.kwargs, record.context
        self._copies = [weakref.ref(stored)]
        self._runs = 0
        self._why = ""

    # ------------------------------------------------------------------------------------------------- what is kept

    def slim(self, record: TaskRecord) -> None:
        """Let go of the large values among the arguments; may run users' code, where these are in sets."""
        try:
            args, kwargs = dependencies.fill(
                self._args, self._kwargs, lambda value: dependencies.substitute(value, self._without)
            )
        except CannotRerun as e:
            self._give_up(str(e))
        except Exception as e:  # noqa: BLE001  # whatever is among users' arguments: only the second run is given up
            self._give_up(f"its arguments cannot be kept: {type(e).__name__}")
        else:
            with _lock:
                self._args, self._kwargs = args, kwargs

    def _without(self, future: Future[Any]) -> Future[Any]:
        past = _past(future)
        if past is None:
            return future
        if past.maker is not None:
            if past.maker.depth >= DEEPEST:
                past.maker = None
            else:
                self.depth = max(self.depth, past.maker.depth + 1)
        return past

    def _give_up(self, why: str) -> None:
        """Never make it again."""
        with _lock:
            self._why = why
            self._func, self._args, self._kwargs, self._context = None, (), {}, None
            for stored in self._living():
                stored.entry.unmade = why

    def _living(self) -> list[Stored]:
        return [stored for ref in self._copies if (stored := ref()) is not None]

    def find(self) -> Stored | None:
        """A value of it that is referred to, rather one that is not lost; None if none is."""
        living = self._living()
        return next((stored for stored in living if not stored.entry.lost), living[0] if living else None)

    # -------------------------------------------------------------------------------------------------- once more

    def regain(self, stored: Stored) -> None:
        """Have a lost value made again, and wait for that.

        Raises:
            ObjectLost: That is impossible, or failed.
        """
        while stored.entry.lost:
            if threading.current_thread().name.startswith(_HURRIED):
                # The task that this is done for is held instead, until the value is there.
                raise stored.entry.error()
            try:
                again = self.start()
            except CannotRerun as e:
                stored.entry.unmade = str(e)
                raise stored.entry.error() from None
            while not again.over.wait(_LOOK):
                if self.record.kernel.cleaned_up:
                    raise stored.entry.error()

    def start(self) -> Rerun:
        """Have the value made again, unless that is under way.

        Returns:
            The task that does it.

        Raises:
            CannotRerun: It cannot be.
        """
        fresh: list[Rerun] = []
        with _lock:
            if self.again is None:
                fresh = self._plan()
            again = self.again
            assert again is not None
        for rerun in fresh:
            rerun.submit()
        return again

    def _plan(self) -> list[Rerun]:
        """Further tasks for this value, and for those that it needs and that are nowhere."""
        needed: dict[Lineage, None] = {}
        stack: list[Lineage] = [self]
        while stack:
            one = stack.pop()
            if one in needed or one.again is not None:
                continue
            one._check()
            needed[one] = None
            for past in filter(None, map(_past, one._futures())):
                stored = past.find()
                if stored is None or stored.entry.lost:
                    if past.maker is None:
                        raise CannotRerun(
                            f"{one.record.describe()} cannot run again without {past.what}, which is gone"
                        )
                    stack.append(past.maker)
        fresh = [Rerun(one) for one in needed]
        for rerun in fresh:
            rerun.lineage.again = rerun
        try:
            for rerun in fresh:
                rerun.fill()
        except BaseException:
            for rerun in fresh:
                rerun.lineage.again = None
            raise
        return fresh

    def _futures(self) -> list[Future[Any]]:
        return dependencies.find(self._args, self._kwargs, dependencies.gather)

    def _check(self) -> None:
        """Whether the task may run again.

        Raises:
            CannotRerun: It may not.
        """
        record = self.record
        if self._why:
            raise CannotRerun(self._why)
        if record.kernel.cleaned_up:
            raise CannotRerun("the run is over, so it cannot be made again")
        if record.kernel.owner != os.getpid():
            raise CannotRerun("this is a forked copy of the process that could make it again")
        allowed = record.kernel.engine.failures.losses_allowed(record)
        if self._runs >= allowed:
            times = f"was run again {self._runs} times and may not be" if self._runs else "may not be run again"
            raise CannotRerun(f"{record.describe()} {times}: lost_retries is {allowed:g}")

    def ended(self, rerun: Rerun, outcome: Any) -> None:
        """The further task is done.

        Args:
            rerun: That task.
            outcome: What it came to; a text if it was cancelled.
        """
        try:
            value = _stored(outcome)
        except CannotRerun as e:
            with _lock:
                self.again = None
                self._give_up(f"{self.record.describe()} ran again as task {rerun.id}, and {e}")
            return
        with _lock:
            self.again = None
            value.entry.made = f"task {self.record.id}"
            value.maker = self
            living = self._living()
            for stored in living:
                if stored.entry.lost:
                    stored.become(value)
            self._copies = [weakref.ref(stored) for stored in (*living, value)]


class Rerun(TaskRecord):
    """A task that makes a lost value again: a task of its own, with a number of its own.

    Args:
        lineage: How the value was made.

    Attributes:
        lineage: As given.
        over: Set when it is done, and what it made is in its place.
    """

    __slots__ = ("_waiters", "lineage", "over")

    def __init__(self, lineage: Lineage) -> None:
        old = lineage.record
        assert lineage._func is not None
        super().__init__(
            *(old.kernel, old.app, old.options, lineage._func, (), {}, old.lanes, old.counts, time()),
        )
        self.resource_specification = old.resource_specification
        self.walltime = old.walltime
        self.context = lineage._context
        self.lineage = lineage
        self.over = threading.Event()
        self.future = AppFuture(self)
        self._waiters: list[Callable[[], None]] = []

    def fill(self) -> None:
        """Give it its arguments: the values that are there, and the futures of those that are made again."""
        lineage = self.lineage
        self.args, self.kwargs = dependencies.fill(
            lineage._args, lineage._kwargs, lambda value: dependencies.substitute(value, _present)
        )
        lineage._runs += 1

    def submit(self) -> None:
        """Give it to the run."""
        old = self.lineage.record
        self.kernel.submit_again(self, old)
        _logger.info("the result of %s is lost and wanted: it runs again as task %s", old.describe(), self.id)

    def call_when_over(self, call: Callable[[], None]) -> None:
        """Call this when it is over; at once if it is."""
        with _lock:
            if not self.over.is_set():
                self._waiters.append(call)
                return
        call()

    def end(self, outcome: Any) -> None:
        """It is done.

        Args:
            outcome: What it came to.
        """
        try:
            self.lineage.ended(self, outcome)
        finally:
            with _lock:
                self.over.set()
                waiters, self._waiters = self._waiters, []
            for call in waiters:
                call()

    def forget(self) -> None:
        """It is done, and lets go of what it needs no more."""
        future = self.future
        super().forget()
        if future is not None:
            self.kernel.engine.unseen.seen(self.id)
            self.end(future._outcome)


class Regain:
    """A task that found values lost: it is held until they were made again.

    Args:
        engine: Whose task it is.
        record: The task, which is held.
        attempt: The try that failed.

    Attributes:
        record: As given.
    """

    __slots__ = ("_attempt", "_engine", "_left", "record")

    def __init__(self, engine: Engine, record: TaskRecord, attempt: int) -> None:
        self._engine = engine
        self.record = record
        self._attempt = attempt
        self._left = 1

    def start(self, record: TaskRecord) -> None:
        """Have made again what is lost; the task is launched again after that, or fails if that is impossible."""
        for stored in dict.fromkeys(objects_of(record)):
            if not stored.entry.lost:
                continue
            try:
                if stored.maker is None:
                    raise CannotRerun(stored.entry.unmade)
                again = stored.maker.start()
            except CannotRerun as e:
                stored.entry.unmade = str(e)
                self._engine.failures.give_up(record, self._attempt, stored.entry.error())
                return
            with _lock:
                self._left += 1
            again.call_when_over(self._count)
        self._count()

    def _count(self) -> None:
        with _lock:
            self._left -= 1
            if self._left:
                return
        self._engine.failures.resume(self.record, self._attempt)


def remember(record: TaskRecord, stored: Stored, plain: bool) -> Lineage | None:
    """Keep how a value was made, if that is not too much.

    Args:
        record: The task that made it.
        stored: Its value.
        plain: Whether its arguments are searched for futures as usual.
    """
    if stored.maker is not None or stored.entry.unmade or record.app.kind == "join" or isinstance(record, Rerun):
        return None
    if record.rare is not None and record.rare.heavy:
        stored.entry.unmade = (
            f"{record.describe()} is not run again, because its arguments were too large to be kept; "
            "give large ones by flowlib.put"
        )
    elif not plain:
        stored.entry.unmade = (
            f"{record.describe()} is not run again, because the run has a dependency_resolver of its own"
        )
    else:
        stored.maker = lineage = Lineage(record, stored)
        return lineage
    return None


def objects_of(record: TaskRecord) -> list[Stored]:
    """The large values among a task's arguments."""
    found: list[Stored] = []
    for future in dependencies.find(record.args, record.kwargs, dependencies.gather):
        while isinstance(future, LiftedFuture):
            future = future._root
        if isinstance(future, (AppFuture, ObjectRef)):
            outcomes = [future._get_outcome()]
            while outcomes:
                outcome = outcomes.pop()
                if type(outcome) is Stored:
                    found.append(outcome)
                elif type(outcome) is JoinedValues:
                    outcomes += outcome.parts
    return found


def lost_among(record: TaskRecord, outcome: Failed) -> bool:
    """Whether an attempt failed for want of a value that may be made again."""
    if not record.depends or _LOST not in outcome.kinds():
        return False
    return any(stored.maker is not None for stored in objects_of(record))


def _stored(outcome: Any) -> Stored:
    """What a further task has made, as a stored object.

    Raises:
        CannotRerun: It has made nothing.
    """
    if type(outcome) is Stored:
        return outcome
    # Late: runs without processes need neither.
    from flowlib.serialize.values import Pickled
    from flowlib.store.home import HOME

    if isinstance(outcome, Failed):
        raise CannotRerun(f"failed: {outcome.text()}")
    try:
        # A value that is small this time, or had no room on the node; or one that was never pickled.
        parts = outcome.parts() if isinstance(outcome, Pickled) else None
        if parts is not None:
            return HOME.put_parts(parts)
        if isinstance(outcome, Returned):
            return HOME.put(outcome.value())
    except FlowlibError as e:
        raise CannotRerun(f"its value cannot be stored: {e}") from e
    raise CannotRerun("was cancelled" if outcome is None or isinstance(outcome, str) else "gave no value of its own")


def _past(future: Future[Any]) -> Past | None:
    """What stands for a large value among arguments; None for any other future."""
    if isinstance(future, Past):
        return future
    if isinstance(future, LiftedFuture):
        if type(future._root._get_outcome()) is Stored:
            raise CannotRerun("it was made from a part of another large result")
        return None
    if not isinstance(future, (AppFuture, ObjectRef)):
        return None
    outcome = future._get_outcome()
    if type(outcome) is Stored:
        maker = outcome.maker
        assert maker is None or isinstance(maker, Lineage)
        return Past(outcome, maker)
    if type(outcome) is JoinedValues and any(type(part) is Stored for part in outcome.parts):
        raise CannotRerun("it was made from a list of large results")
    return None


def _present(future: Future[Any]) -> Future[Any]:
    """What a further task gets as its argument in place of what the first one got."""
    past = _past(future)
    if past is None:
        return future
    stored = past.find()
    if stored is not None and not stored.entry.lost:
        return ObjectRef(stored)
    maker = past.maker
    if maker is not None and maker.again is not None and maker.again.future is not None:
        return maker.again.future
    # Lost in this moment: the task will find that out by itself.
    if stored is None:
        raise CannotRerun(f"{past.what} is gone")
    return ObjectRef(stored)


_LOST = f"{ObjectLost.__module__}.{ObjectLost.__qualname__}"
