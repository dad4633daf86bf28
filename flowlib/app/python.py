"""A time limit around a plain function, under the name that the field's scripts import from here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    P = ParamSpec("P")
    R = TypeVar("R")


def timeout(function: Callable[P, R], seconds: float) -> Callable[P, R]:
    """``function``, stopped by ``AppTimeout`` when it runs longer than ``seconds`` in its thread.

    Raises:
        AppTimeout: From the returned function, when its time is over.

    Example:
        >>> timeout(max, 5)(1, 2)
        2
    """

    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        from flowlib.executors.walltime import call_within

        value: R = call_within(seconds, functools.partial(function, *args, **kwargs))
        return value

    return limited
