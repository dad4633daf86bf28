"""A kernel that only takes notes, for tests of what apps hand to it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

from flowlib.dataflow import loader
from flowlib.options import TaskOptions


class Call(NamedTuple):
    """What a kernel was given."""

    app: Any
    options: TaskOptions
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class FakeKernel:
    """Stands for a kernel."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def submit_app(self, app: Any, options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Note a call."""
        self.calls.append(Call(app, options, args, kwargs))
        return Future()

    @property
    def last(self) -> Call:
        """The last call."""
        return self.calls[-1]


@contextmanager
def loaded(kernel: Any) -> Iterator[Any]:
    """A kernel is the current one."""
    before, loader.current = loader.current, kernel
    try:
        yield kernel
    finally:
        loader.current = before
