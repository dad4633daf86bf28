"""How stored objects pass an interchange: each message goes on as it came, and nothing is remembered.

The driver knows where objects are; managers and driver ask again when no answer comes.  So an interchange that dies
takes nothing along, and its successor need be told nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowlib.executors.high_throughput import messages as m

KINDS = frozenset({m.Want, m.Piece, m.Found, m.Gone, m.Free, m.Holding})

SendTo = Callable[[str, Sequence[Any]], bool]


def from_driver(message: Any, frames: Sequence[Any], send: SendTo) -> None:
    """Pass on what the driver says to a manager.

    Should that be away, nothing is said: it may come back. The driver asks again until it is told that it is lost.

    Args:
        message: The decoded header.
        frames: As it came.
        send: Sends frames to a manager; False if its connection is gone.
    """
    for name in message.managers if type(message) is m.Free else (message.manager,):
        send(name, frames)


def from_manager(name: str, message: Any, attachments: Sequence[Any]) -> list[Any]:
    """What the driver is sent of what a manager says: the manager's name is put in."""
    message.manager = name
    return [m.encode(message), *attachments]


def unwanted(results: Sequence[m.Result], accepted: Sequence[m.Result]) -> list[bytes]:
    """Objects that came with results nobody waited for."""
    taken = set(map(id, accepted))
    return [
        m.decode_stored(result.payload).key  # type: ignore[arg-type]
        for result in results
        if result.status == m.Status.STORED and id(result) not in taken
    ]
