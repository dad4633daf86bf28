"""The names of arguments that executors and ``Config`` take, asked of them."""

from __future__ import annotations

import inspect
from functools import cache


@cache
def executor_parameters(scheduler: str) -> frozenset[str]:
    """What the executor of a site takes, its provider left out.

    Args:
        scheduler: Of the site.
    """
    from flowlib.executors import HighThroughputExecutor, ThreadPoolExecutor

    kind = ThreadPoolExecutor if scheduler == "threads" else HighThroughputExecutor
    return frozenset(inspect.signature(kind).parameters) - {"provider"}


@cache
def config_parameters() -> frozenset[str]:
    """What ``Config`` takes, its executors left out."""
    from flowlib.config import Config

    return frozenset(inspect.signature(Config).parameters) - {"executors"}
