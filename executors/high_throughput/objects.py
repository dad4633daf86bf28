"""Stored objects as one run of an executor sees them: the road between the driver's table and the nodes.

What a task uses is held here while the task is out, so that it cannot be freed under it, whatever becomes of the
script's own references.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.hooks import Ended
from flowlib.serialize.arguments import ApartCall, Keeper
from flowlib.store.home import HOME, Id
from flowlib.store.stored import Stored

Key = tuple[int, int]

NEVER = 1 << 62


class Objects:
    """The objects of one run.

    Args:
        send: Queues a message, or its frames, for the interchange; may be called from anywhere.
        threshold: Bytes from which on an argument is stored; None for never.
        limit: Bytes that objects may take of the driver's memory.
        directory: Where more than that goes; None for the usual temporary directory.

    Attributes:
        keeper: Where large arguments go.
        held: What the attempts that are out use.
    """

    def __init__(self, send: Callable[[Any], None], threshold: int | None, limit: int, directory: str | None) -> None:
        self._send = send
        self._limit = limit
        self._directory = directory
        self.keeper = Keeper(NEVER if threshold is None else threshold, HOME.keep)
        self.held: dict[Key, Sequence[Stored]] = {}

    def start(self) -> None:
        """The run begins."""
        HOME.attach(self, self._limit, self._directory)

    def bring_home(self, patience: float) -> None:
        """Fetch what is still referred to, before the nodes end."""
        HOME.bring_home(self, patience)

    def close(self) -> None:
        """The run is over, and its nodes are gone."""
        self.held.clear()
        HOME.detach(self)

    # --------------------------------------------------------------------------------------------------------- tasks

    def hold(self, key: Key, call: ApartCall, needs: m.Needs | None) -> m.Needs:
        """An attempt goes out that uses objects.

        Args:
            key: The attempt.
            call: Its arguments.
            needs: What it needs beside.

        Returns:
            What it needs with them.

        Raises:
            ObjectLost: One of them is gone.
        """
        objects: dict[Id, m.Object] = {}
        near, largest = "", 0
        for stored in call.objects:
            entry = stored.entry
            if entry.lost:
                raise entry.error()
            objects[entry.key] = m.Object(entry.key, entry.size)
            # What was put is for everybody; the result of a task is where it was made.
            if entry.made and entry.size > largest:
                for link, node in [entry.holder] if entry.holder is not None else list(entry.at):
                    if link is self:
                        near, largest = node, entry.size
        self.held[key] = call.objects
        return msgspec.structs.replace(needs or m.Needs(), objects=[*objects.values()], near=near)

    def release(self, batch: Iterable[Ended], task_of: Callable[[Any], int]) -> None:
        """Attempts have ended."""
        for owner, attempt, _ in batch:
            self.held.pop((task_of(owner), attempt), None)

    # ---------------------------------------------------------------------------------------- what the client tells

    def adopt(self, result: m.Result) -> Stored:
        """A task's value is an object on a node; the outcome that stands for it."""
        stored = m.decode_stored(result.payload)  # type: ignore[arg-type]
        return HOME.adopt((self, stored.manager), stored.key, stored.size, f"task {result.task}", stored.host)

    def unwanted(self, result: m.Result) -> None:
        """The same of a task that nobody waits for."""
        stored = m.decode_stored(result.payload)  # type: ignore[arg-type]
        # Should it have come twice, then it is known, and stays.
        HOME.holding((self, stored.manager), [stored.key])

    def hear(self, message: Any, frames: Sequence[Any]) -> None:
        """A manager says something about objects."""
        place = (self, message.manager)
        kind = type(message)
        if kind is m.Want:
            HOME.wanted(place, message.host, message.pieces, message.copy)
        elif kind is m.Piece:
            HOME.took(place, message.key, message.offset, frames[1])
        elif kind is m.Found:
            HOME.pointed(place, message.key, message.path)
        elif kind is m.Gone:
            HOME.refused(place, message.keys, message.reason)
        elif kind is m.Holding:
            HOME.holding(place, message.keys)

    def manager_changed(self, change: m.ManagerChanged) -> None:
        """A manager came, wants to leave, or is gone."""
        place = (self, change.manager)
        if change.change == "draining":
            HOME.leaving(place)
        elif change.change in ("lost", "drained"):
            HOME.lost(place, f"its manager is gone ({change.reason})" if change.reason else "its manager has ended")

    # ------------------------------------------------------------------------------------------ what the table wants

    def want(self, node: str, pieces: Sequence[tuple[Id, int, int]], copy: bool) -> None:
        """Ask a node for pieces."""
        self._send(m.Want([*pieces], node, HOME.host, copy))

    def give(self, node: str, key: Id, offset: int, data: memoryview) -> None:
        """Send a piece to a node."""
        self._send([m.encode(m.Piece(key, offset, node)), data])

    def point(self, node: str, key: Id, path: str) -> None:
        """Tell a node where it may find an object on its own machine."""
        self._send(m.Found(key, path, node))

    def refuse(self, node: str, keys: list[Id], reason: str) -> None:
        """Tell a node that it cannot have objects."""
        self._send(m.Gone(keys, reason, node))

    def free(self, nodes: list[str], keys: list[Id]) -> None:
        """Tell nodes that objects are not needed any more."""
        self._send(m.Free(keys, nodes))
