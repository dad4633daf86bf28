"""The record of a run: what happened, written beside the run's other files and read by everything that shows it.

Whoever has something to tell calls an ``Emit`` with a tuple (see ``flowlib.events.schema``); ``flowlib.events.log``
writes it, ``flowlib.events.reader`` reads it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Emit = Callable[[tuple[Any, ...]], None]
"""Takes one record. Costs less than 100 ns, never raises, never blocks, may be called from any thread."""


def discard(record: tuple[Any, ...]) -> None:
    """The ``Emit`` of a run without an event log."""
