"""Runs one task in one block, on the path that all tasks take, and compares the two sides."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from concurrent.futures import TimeoutError as FuturesTimeout
from typing import TYPE_CHECKING, Any

from flowlib.doctor.collect import limits, shm_free
from flowlib.doctor.facts import BlockFacts
from flowlib.errors import FlowlibError
from flowlib.version import VERSION

if TYPE_CHECKING:
    from flowlib.config import Config


def probe(directory: str, token: str) -> dict[str, Any]:
    """What a worker sees; it runs there.

    Args:
        directory: Where the driver left a file.
        token: Its name.
    """
    seen = os.path.exists(os.path.join(directory, f"{token}.here"))
    if os.path.isdir(directory):
        try:
            with open(os.path.join(directory, f"{token}.there"), "w", encoding="utf-8") as file:
                file.write("flowlib")
        except OSError:
            seen = False
    return {
        "host": socket.gethostname(),
        "python": tuple(sys.version_info[:3]),
        "executable": sys.executable,
        "flowlib": VERSION,
        "time": time.time(),
        "reads": seen,
        "files": limits()[0],
        "shm_free": shm_free(),
    }


def examine(config: Config, wait: float) -> BlockFacts:
    """Start a block as a run does, let a task look around, and end it.

    Args:
        config: Whose first executor is tried; it is changed to have one block.
        wait: Seconds until it is given up.
    """
    import flowlib

    executor: Any = config.executors[0]
    provider = getattr(executor, "provider", None)
    if provider is not None:
        provider.init_blocks, provider.min_blocks, provider.max_blocks = 1, 0, 1
    config.progress = False
    directory, token = os.getcwd(), f".flowlib-doctor-{secrets.token_hex(6)}"
    here, there = (os.path.join(directory, f"{token}.{side}") for side in ("here", "there"))
    began = time.monotonic()
    try:
        with open(here, "w", encoding="utf-8") as file:
            file.write("flowlib")
        with flowlib.load(config) as kernel:
            future = flowlib.python_app(probe, executors=[executor.label])(directory, token)
            sent = time.time()
            try:
                told = future.result(wait)
            except FuturesTimeout:
                statuses = list(executor.status().values()) if hasattr(executor, "status") else []
                words = [f"{s.state.name.lower()} {s.message or ''}".strip() for s in statuses] or ["nothing"]
                kernel.cancel_all(running=True)
                return BlockFacts(time.monotonic() - began, pending=words[-1])
        got = time.time()
    except (FlowlibError, OSError) as e:
        return BlockFacts(time.monotonic() - began, error=str(e))
    else:
        half = (got - sent) / 2
        when = told.pop("time")
        return BlockFacts(
            seconds=got - sent, clock_ahead=when - (sent + half), doubt=half, wrote=os.path.exists(there), **told
        )
    finally:
        for path in (here, there):
            if os.path.exists(path):
                os.unlink(path)
