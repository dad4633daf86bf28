"""Many calls of a function as one task: what ``app.map`` sends to workers, and what comes back.

A failing call is a value among others here, so that it takes no neighbour with it.  That goes as far as pickling: if
the values of a batch cannot be pickled together, each is pickled alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from flowlib.calling import run_call
from flowlib.errors import AppAborted, AppTimeout

_LIVE = frozenset({GeneratorType, AsyncGeneratorType, CoroutineType})


class Bad:
    """Stands for the value of a call that failed.

    Attributes:
        error: What it raised.
    """

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class BatchCall:
    """Calls a function for each of a list of items.

    Args:
        func: The function.
        name: The app's name.

    Example:
        >>> BatchCall(abs, "abs")([-1, -2], False).values()
        [1, 2]
    """

    __slots__ = ("func", "name")

    def __init__(self, func: Callable[..., Any], name: str) -> None:
        self.func = func
        self.name = name

    def __call__(self, items: Sequence[Any], star: bool) -> Batch:
        """Call the function.

        Args:
            items: Its arguments: one each, or a tuple each.
            star: Whether they are tuples.

        Raises:
            AppTimeout: The walltime of the whole batch is over.
        """
        began = perf_counter()
        func = self.func
        values: list[Any] = []
        failed: list[int] = []
        append = values.append
        # The loop goes on after the item that raised.
        left = iter(items)
        while True:
            try:
                if star:
                    for item in left:
                        append(func(*item))
                else:
                    for item in left:
                        append(func(item))
                break
            except AppTimeout:
                # Raised by whoever runs the batch, into whichever item was being called.
                raise
            except BaseException as e:  # noqa: BLE001  # the boundary around user code: the item fails, not its batch
                failed.append(len(values))
                append(Bad(_ordinary(e)))
        if not _LIVE.isdisjoint(map(type, values)):
            self._finish(values, failed)
        return Batch(values, tuple(failed), perf_counter() - began)

    def _finish(self, values: list[Any], failed: list[int]) -> None:
        """Run coroutines to their end; refuse generators."""
        for index, value in enumerate(values):
            if type(value) in _LIVE:
                try:
                    values[index] = run_call(_named(self.name, value), (), {})
                except Exception as e:  # noqa: BLE001  # the boundary around user code, as above
                    values[index] = Bad(e)
                    failed.append(index)

    def __repr__(self) -> str:
        return f"BatchCall({self.func!r}, {self.name!r})"


def _named(name: str, value: Any) -> Callable[[], Any]:
    def call() -> Any:
        return value

    call.__name__ = name
    return call


def _ordinary(error: BaseException) -> BaseException:
    """The error, as an ``Exception``; without our own frame in its traceback."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    if isinstance(error, Exception):
        return error
    aborted = AppAborted(f"the app raised {type(error).__name__}: {error}, which ends a program; only this item failed")
    aborted.__cause__ = error
    return aborted


class Batch:
    """What a batch of calls came to.

    Args:
        values: Values of the calls, ``Bad`` for those that failed.
        failed: Positions of those that failed.
        seconds: How long the batch took.

    Attributes:
        count: Number of calls.
        size: Bytes of the values in pickled form; 0 if they were not pickled.
    """

    __slots__ = ("_each", "_payload", "_values", "count", "failed", "seconds", "size")

    def __init__(self, values: list[Any], failed: tuple[int, ...], seconds: float) -> None:
        self._values: list[Any] | None = values
        self._payload: bytes | None = None
        self._each: list[tuple[bool, bytes]] | None = None
        self.count = len(values)
        self.size = 0
        self.failed = failed
        self.seconds = seconds

    def values(self) -> list[Any]:
        """Values of the calls; rebuilt from their pickled form when first asked for.

        Raises:
            DeserializationError: They cannot be rebuilt in this process.
        """
        values = self._values
        if values is None:
            from flowlib.serialize.values import load_value

            if self._each is not None:
                values = [_load_one(good, body) for good, body in self._each]
            else:
                assert self._payload is not None
                values, bad = load_value(self._payload)
                for index, body in bad:
                    values[index] = _load_one(False, body)
            self._values = values
            self._payload = self._each = None
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        from flowlib.errors import DeserializationError, SerializationError
        from flowlib.serialize.values import dump_value

        values = self.values()
        failed = set(self.failed)
        plain = [None if index in failed else value for index, value in enumerate(values)] if failed else values
        try:
            payload = dump_value((plain, [(index, _dump_bad(values[index].error)) for index in failed]))
        except (SerializationError, DeserializationError):
            each = [_dump_one(value) for value in values]
            positions = tuple(index for index, (good, _) in enumerate(each) if not good)
            return _from_each, (each, positions, self.seconds)
        return _from_payload, (payload, self.count, self.failed, self.seconds)


def _from_payload(payload: bytes, count: int, failed: tuple[int, ...], seconds: float) -> Batch:
    batch = Batch([], failed, seconds)
    batch._values, batch._payload, batch.count, batch.size = None, payload, count, len(payload)
    return batch


def _from_each(each: list[tuple[bool, bytes]], failed: tuple[int, ...], seconds: float) -> Batch:
    batch = Batch([], failed, seconds)
    batch._values, batch._each, batch.count, batch.size = None, each, len(each), sum(len(body) for _, body in each)
    return batch


def _dump_one(value: Any) -> tuple[bool, bytes]:
    from flowlib.errors import FlowlibError
    from flowlib.serialize.values import dump_value

    if type(value) is Bad:
        return False, _dump_bad(value.error)
    try:
        return True, dump_value(value)
    except FlowlibError as e:
        return False, _dump_bad(e)


def _dump_bad(error: BaseException) -> bytes:
    from flowlib.serialize import execute

    return execute.report(error)


def _load_one(good: bool, body: bytes) -> Any:
    from flowlib.errors import DeserializationError
    from flowlib.serialize.values import load_value

    if not good:
        from flowlib.serialize.envelope import decode_failure, rebuild

        return Bad(rebuild(decode_failure(body)))
    try:
        return load_value(body)
    except DeserializationError as e:
        return Bad(e)
