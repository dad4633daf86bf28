"""``app.map``: a call for every item, many to a task, values in order as they come.

How many items make a task and how many tasks are under way is found out by measuring: ``Pace`` does that and knows
nothing of tasks.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flowlib.app.batch import Bad, Batch, BatchCall
from flowlib.dataflow.outcomes import Blame, Failed
from flowlib.dataflow.retry import Cause, Retry, cause_of, left_after
from flowlib.errors import ConfigurationError, ExecutorError, InvalidResourceSpecification, ManagerLost, TaskLost
from flowlib.options import TaskOptions, changed

if TYPE_CHECKING:
    from flowlib.app.app import App

R = TypeVar("R")

_GOAL = 0.05
"""Seconds that a task of small items should take: much against a task's cost, little against anybody's patience."""

_PER_BYTE = _GOAL / 4_000_000
_MOST_ITEMS = 2048
_GROWTH = 4
_MOST_TASKS = 4096
_SINGLE_TASKS = 1024
_PATIENCE = 1.0

# Nothing of the items causes these, so trying the items apart would not help.
_COMMON = (ExecutorError, ConfigurationError, InvalidResourceSpecification, CancelledError)


class Pace:
    """Decides how many items make a task, and how many tasks may be under way.

    Args:
        workers: A first guess at how many tasks run at once.
    """

    def __init__(self, workers: int) -> None:
        self.items = 1
        self.tasks = max(8, 4 * workers)
        self._most = 1
        self._per_item: float | None = None
        self._busy = 0.0

    def measure(self, items: int, seconds: float, sending: float, elapsed: float, size: int = 0) -> None:
        """Learn from a task that is done.

        Args:
            items: Its items.
            seconds: How long they took.
            sending: How long it took to send them.
            elapsed: Time since the first task was sent.
            size: Bytes of the values, as far as they travelled.
        """
        self._busy += seconds
        self._most = max(self._most, items)
        # Large values count as long: they must not pile up, however quickly they are made.
        cost = max(seconds, sending, size * _PER_BYTE, 1e-9) / items
        self._per_item = cost if self._per_item is None else (self._per_item + cost) / 2
        # Not at once to what one short item promises: the next may be long.
        self.items = max(1, min(int(_GOAL / self._per_item), _GROWTH * self._most, _MOST_ITEMS))
        if elapsed > 0 and self._busy / elapsed > self.tasks / 4:
            self.tasks = min(2 * self.tasks, _MOST_TASKS)


class _Batches:
    """An app in the kernel's eyes, whose tasks are batches."""

    __slots__ = ("defaults", "func", "kind", "name", "target")

    def __init__(self, app: App[Any, Any]) -> None:
        self.name = app.name
        self.kind = "python"
        self.func = app.func
        self.target = BatchCall(app.func, app.name)
        self.defaults: dict[str, Any] = {}


class _Chunk:
    """Items under way."""

    __slots__ = ("future", "items", "parts", "retries", "sending", "settled")

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.settled = False
        self.sending = 0.0
        self.future: Future[Any]
        self.parts: list[_Chunk] | None = None
        self.retries: dict[int, Future[Any]] | None = None


class MapResults(Iterator[R], Generic[R]):
    """The values of ``app.map`` in order; made by that.

    ``next()`` raises an item's exception when its turn comes; iteration may go on afterwards. The exception carries a
    note with the item's number.

    Args:
        app: The app.
        iterables: Its arguments.
        chunksize: Items per task, or "auto".
    """

    def __init__(self, app: App[..., R], iterables: tuple[Iterable[Any], ...], chunksize: Any) -> None:
        if chunksize != "auto" and (isinstance(chunksize, bool) or not isinstance(chunksize, int)):
            raise TypeError(f"{app.name}.map: chunksize is {chunksize!r}; give a number of items, or 'auto'")
        if chunksize != "auto" and chunksize < 1:
            raise ValueError(f"{app.name}.map: chunksize is {chunksize}; give at least 1, or 'auto'")
        self._app = app
        self._kernel, self._options = app.resolved()
        self._star = len(iterables) > 1
        self._source: Iterator[Any] = zip(*iterables) if self._star else iter(iterables[0])  # noqa: B905  # as map()
        self._fixed: int | None = None if chunksize == "auto" else chunksize
        # What failures of an item may cost.
        self._budget = self._kernel.config.retries if self._options.retries is None else self._options.retries
        # A remembered value, a walltime, a command, a join, and more than numbers of retries belong to one call each.
        alone = (
            app.kind != "python"
            or self._options.cache
            or (self._options.walltime is not None and self._fixed is None)
            or not _is_plain(self._budget)
        )
        self._batches: Any = None if alone else _batches_of(app)
        self._pace = Pace(os.cpu_count() or 1)
        self._began = monotonic()
        self._broken: Exception | None = None
        self._running = 0
        self._more = True
        self._chunks: deque[_Chunk] = deque()
        self._done: SimpleQueue[_Chunk] = SimpleQueue()
        self._values: Iterator[Any] = iter(())
        self._index = -1
        self._fill()

    def __iter__(self) -> MapResults[R]:
        return self

    def __next__(self) -> R:
        while True:
            for value in self._values:
                self._index += 1
                if type(value) is Bad or type(value) is _Retried:
                    value = self._other(value)
                return value  # type: ignore[no-any-return]
            if not self._chunks:
                broken, self._broken = self._broken, None
                if broken is not None:
                    raise broken
                raise StopIteration
            self._values = iter(self._take())

    def close(self) -> None:
        """Take no more items, withdraw what has not started, and end the iteration."""
        self._more = False
        self._values = iter(())
        while self._chunks:
            chunk = self._chunks.popleft()
            self._chunks.extendleft(reversed(chunk.parts or ()))
            for future in (chunk.future, *(chunk.retries or {}).values()):
                future.cancel()

    # ---------------------------------------------------------------------------------------------------- sending

    def _fill(self) -> None:
        """Send as many tasks as should be under way."""
        pace = self._pace
        while self._more:
            most = pace.tasks if self._batches is not None else _SINGLE_TASKS
            # The second bound is for what is done and waits behind a long item.
            if self._running >= most or len(self._chunks) >= 4 * most:
                return
            size = 1 if self._batches is None else self._fixed or pace.items
            items: list[Any] = []
            try:
                items.extend(islice(self._source, size))
            except Exception as e:  # noqa: BLE001  # the user's iterable; raised when all before it is delivered
                self._broken = e
            if len(items) < size:
                self._more = False
            if items:
                chunk = _Chunk(items)
                self._send(chunk)
                self._chunks.append(chunk)

    def _send(self, chunk: _Chunk) -> None:
        began = monotonic()
        if self._batches is None:
            chunk.future = self._call(chunk.items[0], self._options)
        else:
            # Items are tried again one by one, so the task itself is not.
            options = changed(self._options, retries=0)
            if isinstance(self._budget, Retry) and self._budget.lost is not None:
                options = changed(options, lost_retries=self._budget.lost)
            if options.walltime is not None:
                options = changed(options, walltime=options.walltime * len(chunk.items))
            chunk.future = self._kernel.submit_app(self._batches, options, (chunk.items, self._star), {})
        chunk.sending = monotonic() - began
        self._running += 1
        chunk.future.add_done_callback(_Teller(self._done, chunk))

    def _call(self, item: Any, options: TaskOptions) -> Future[Any]:
        """One item as a task of its own."""
        return self._kernel.submit_app(self._app, options, tuple(item) if self._star else (item,), {})

    # -------------------------------------------------------------------------------------------------- receiving

    def _take(self) -> list[Any]:
        """The values of the next chunk, when it is there; meanwhile others are sent."""
        while True:
            self._collect()
            self._fill()
            chunk = self._chunks[0]
            if chunk.parts is not None:
                self._chunks.popleft()
                self._chunks.extendleft(reversed(chunk.parts))
            elif chunk.settled:
                self._chunks.popleft()
                return self._values_of(chunk)
            else:
                self._wait(chunk)

    def _wait(self, chunk: _Chunk) -> None:
        try:
            self._settle(self._done.get(timeout=_PATIENCE))
        except Empty:
            # Nothing relies on callbacks alone.
            if chunk.future.done():
                self._settle(chunk)

    def _collect(self) -> None:
        """Deal with every task that has ended."""
        while True:
            try:
                chunk = self._done.get_nowait()
            except Empty:
                return
            self._settle(chunk)

    def _settle(self, chunk: _Chunk) -> None:
        """Learn from a task that ended; try again what may be tried again."""
        if chunk.settled:
            return
        chunk.settled = True
        self._running -= 1
        if self._batches is None:
            return
        error = _error_of(chunk.future)
        if error is None:
            batch: Batch = chunk.future.result()
            self._pace.measure(batch.count, batch.seconds, chunk.sending, monotonic() - self._began, batch.size)
            left = left_after(self._budget, Cause.ERROR)
            if batch.failed and left is not None:
                options = changed(self._options, retries=left)
                chunk.retries = {i: self._call(chunk.items[i], options) for i in batch.failed}
        elif not isinstance(error, _COMMON):
            self._part(chunk, error)

    def _part(self, chunk: _Chunk, error: BaseException) -> None:
        """Send a failed task's items again in two halves: the item that it fails of must not take others with it."""
        count = len(chunk.items)
        if count > 1:
            half = count // 2
            chunk.parts = [_Chunk(chunk.items[:half]), _Chunk(chunk.items[half:])]
            for part in chunk.parts:
                self._send(part)
            return
        left = left_after(self._budget, _cause_of(error))
        if left is not None:
            chunk.retries = {0: self._call(chunk.items[0], changed(self._options, retries=left))}

    def _values_of(self, chunk: _Chunk) -> list[Any]:
        error = _error_of(chunk.future)
        values: list[Any]
        if error is not None:
            values = [Bad(error)] * len(chunk.items)
        elif self._batches is None:
            values = [chunk.future.result()]
        else:
            values = self._open(chunk)
        for index, future in (chunk.retries or {}).items():
            values[index] = _Retried(future)
        return values

    def _open(self, chunk: _Chunk) -> list[Any]:
        batch: Batch = chunk.future.result()
        try:
            return batch.values()
        except Exception as e:  # noqa: BLE001  # rebuilding values runs user code; whatever it raises is the items'
            return [Bad(e)] * len(chunk.items)

    def _other(self, value: Any) -> Any:
        """The value of an item that was tried again, or its exception."""
        if type(value) is _Retried:
            error = _error_of(value.future)
            if error is None:
                return value.future.result()
        else:
            error = value.error
        if not isinstance(error, _COMMON):
            _note(error, f"item {self._index} of {self._app.name}.map")
        raise error


class _Teller:
    """Tells whoever iterates that a task has ended."""

    __slots__ = ("chunk", "done")

    def __init__(self, done: SimpleQueue[_Chunk], chunk: _Chunk) -> None:
        self.done = done
        self.chunk = chunk

    def __call__(self, future: Future[Any]) -> None:
        self.done.put(self.chunk)


class _Retried:
    """Stands for the value of an item that is tried again."""

    __slots__ = ("future",)

    def __init__(self, future: Future[Any]) -> None:
        self.future = future


def _batches_of(app: App[..., Any]) -> _Batches:
    """Made once per function: its body is sent to workers once."""
    batches: _Batches | None = app.__dict__.get("_batches")
    if batches is None:
        batches = app.__dict__["_batches"] = _Batches(app)
    return batches


def _is_plain(retries: int | Retry) -> bool:
    """Whether items may be tried together first, and again one by one: all that counts is how often."""
    if isinstance(retries, int):
        return True
    return isinstance(retries.error, int) and not retries.backoff and retries.memory is None


def _cause_of(error: BaseException) -> Cause:
    blame = Blame.INFRASTRUCTURE if isinstance(error, (ManagerLost, TaskLost)) else Blame.USER
    return cause_of(blame, Failed(error).kinds())


def _error_of(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as e:
        return e


def _note(error: BaseException, text: str) -> None:
    add: Callable[[str], None] | None = getattr(error, "add_note", None)
    notes = getattr(error, "__notes__", None) or []
    if text in notes:
        return
    if add is not None:
        add(text)
    else:
        # Python 3.10 shows no notes, but keeps them.
        error.__notes__ = [*notes, text]  # type: ignore[attr-defined]
