"""Stored objects on a node: fetched once, kept for all its workers, and handed to them by the place where they are.

A task waits here until the objects that it uses are there, and pins them until it is answered.  Results that are large
stay here; the memory for them is reserved before the worker writes, so that a full node is an answer and not a signal.
All calls come from the manager's one thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flowlib.errors import NoRoom
from flowlib.executors.high_throughput import messages as m
from flowlib.serialize.envelope import Failure, encode_failure
from flowlib.store.ledger import Id
from flowlib.store.pulls import Pulls
from flowlib.store.segments import LINUX, Segment
from flowlib.store.vault import Vault

log = logging.getLogger("flowlib.manager")

AGAIN = 2.0
"""Seconds without a piece after which it is asked for again."""
STAY = 30.0
"""Seconds for which a manager that could end waits for the driver to go on fetching what is only here."""

Key = tuple[int, int]

_STORED = int(m.Status.STORED)


class NodeObjects:
    """The objects of one manager.

    Args:
        send: Sends frames to the interchange.
        manager: The manager's name.
        host: Its machine's.
        limit: Bytes that they may take of memory.
        directory: Where more than that goes.

    Attributes:
        ready: Tasks whose objects are here now.
        failed: Answers for tasks whose objects cannot be had.
        pins: What tasks that are not answered use.
    """

    def __init__(
        self, send: Callable[[Sequence[Any]], None], manager: str, host: str, limit: int, directory: str
    ) -> None:
        self._send = send
        self._manager = manager
        self._host = host
        self._vault = Vault(limit, directory)
        self._pulls = Pulls()
        self._arriving: set[Id] = set()
        self._sizes: dict[Id, int] = {}
        self._parked: dict[Key, m.Task] = {}
        self._waiting: dict[Id, dict[Key, None]] = {}
        self._reserved: dict[Id, int] = {}
        self._again_at: float | None = None
        self._stay_until: float | None = None
        self.ready: list[m.Task] = []
        self.failed: list[m.Result] = []
        self.pins: dict[Key, list[Id]] = {}

    # --------------------------------------------------------------------------------------------------------- tasks

    def take(self, tasks: Iterable[m.Task], now: float) -> None:
        """Tasks came that use objects; they are in ``ready`` when these are here."""
        for task in tasks:
            key = (task.task, task.attempt)
            if key in self.pins or key in self._parked:
                continue
            missing = False
            for wanted in task.needs.objects:  # type: ignore[union-attr]
                if not self._has(wanted.key):
                    missing = True
                    self._waiting.setdefault(wanted.key, {})[key] = None
                    if wanted.key not in self._pulls:
                        self._sizes[wanted.key] = wanted.size
                        self._pulls.begin(wanted.key, wanted.size, now)
            if missing:
                self._parked[key] = task
            else:
                self._start(key, task)
        self._ask(now)

    def _has(self, key: Id) -> bool:
        return key not in self._arriving and self._vault.get(key) is not None

    def _start(self, key: Key, task: m.Task) -> None:
        pins = self.pins[key] = [wanted.key for wanted in task.needs.objects]  # type: ignore[union-attr]
        for pin in pins:
            self._vault.pin(pin)
        self.ready.append(task)

    def places(self, tasks: Iterable[m.Task]) -> list[tuple[bytes, str, int]]:
        """Where a worker finds what these tasks use."""
        places: dict[Id, tuple[bytes, str, int]] = {}
        for task in tasks:
            if task.needs is not None and task.needs.objects:
                for used in task.needs.objects:
                    segment = self._vault.get(used.key)
                    if segment is not None:
                        places[used.key] = (used.key, segment.path, used.size)
        return [*places.values()]

    def waiting(self) -> list[Key]:
        """Tasks that wait for objects."""
        return [*self._parked]

    def withdraw(self, keys: Iterable[Key]) -> list[Key]:
        """Let go of those of these tasks that wait here; which those are."""
        gone = [key for key in keys if key in self._parked]
        for key in gone:
            self._forget_parked(key)
        return gone

    def _forget_parked(self, key: Key) -> m.Task:
        task = self._parked.pop(key)
        for wanted in task.needs.objects:  # type: ignore[union-attr]
            waiting = self._waiting.get(wanted.key)
            if waiting is not None:
                waiting.pop(key, None)
                if not waiting:
                    del self._waiting[wanted.key]
                    self._stop(wanted.key)
        return task

    def _stop(self, key: Id) -> None:
        """Fetch an object no more."""
        self._pulls.drop(key)
        self._sizes.pop(key, None)
        if key in self._arriving:
            self._arriving.discard(key)
            self._vault.free(key)
            self._vault.unpin(key)

    def answered(self, results: Iterable[m.Result]) -> None:
        """Tasks are answered: what they use may go, what they made stays."""
        for result in results:
            pins = self.pins.pop((result.task, result.attempt), None)
            if pins is not None:
                for pin in pins:
                    self._vault.unpin(pin)
            if result.status == _STORED:
                key = m.decode_stored(result.payload).key  # type: ignore[arg-type]
                if self._reserved.pop(key, None) is not None:
                    self._vault.unpin(key)

    @property
    def busy(self) -> bool:
        """Whether ``answered`` has anything to do."""
        return bool(self.pins or self._reserved)

    # ------------------------------------------------------------------------------------------------------- workers

    def reserve(self, rank: int, size: int) -> m.Reserved:
        """A worker asks for memory for a result."""
        key = os.urandom(16)
        try:
            segment = self._vault.create(key, size, original=True)
        except NoRoom as e:
            log.warning("worker %d sends its result as a message: %s", rank, e)
            return m.Reserved()
        self._vault.pin(key)
        self._reserved[key] = rank
        return m.Reserved(key, segment.path)

    def worker_gone(self, rank: int) -> None:
        """A worker is dead, and everything that it has finished was ``answered``."""
        for key in [key for key, owner in self._reserved.items() if owner == rank]:
            del self._reserved[key]
            self._vault.free(key)
            self._vault.unpin(key)

    # ---------------------------------------------------------------------------------------------- the interchange

    def connected(self, now: float) -> None:
        """There is a new connection: nothing that was asked for on the old one will come."""
        keys = [key for key in self._vault.ledger.ids() if key not in self._arriving and key not in self._reserved]
        if keys:
            self._tell(m.Holding(keys))
        self._want(self._pulls.again(now, now))

    def hear(self, message: Any, frames: Sequence[Any], now: float) -> None:
        """The driver says something about objects."""
        kind = type(message)
        if kind is m.Piece:
            self._on_piece(message, frames[1], now)
        elif kind is m.Found:
            self._on_found(message, now)
        elif kind is m.Gone:
            for key in message.keys:
                self._fail(key, message.reason)
        elif kind is m.Free:
            for key in message.keys:
                if key in self._arriving or key in self._pulls:
                    # Equal content was wanted again before this arrived.
                    continue
                self._vault.free(key)
        elif kind is m.Want:
            if self._stay_until is not None:
                self._stay_until = now + STAY
            self._on_want(message)

    def _on_piece(self, piece: m.Piece, data: Any, now: float) -> None:
        key = piece.key
        if not self._pulls.expects(key, piece.offset, len(data)):
            return
        try:
            segment = self._vault.get(key)
            if segment is None:
                segment = self._vault.create(key, self._sizes[key], original=False)
                self._vault.pin(key)
                self._arriving.add(key)
            segment.write([data], piece.offset)
        except (OSError, NoRoom) as e:
            self._fail(key, str(e))
            return
        if self._pulls.took(key, piece.offset, len(data), now):
            self._arriving.discard(key)
            self._arrived(key)
            self._vault.unpin(key)
        self._ask(now)

    def _on_found(self, found: m.Found, now: float) -> None:
        key = found.key
        if key not in self._pulls:
            return
        try:
            segment = Segment.open(found.path, key, self._sizes[key])
        except OSError:
            # The driver's machine has the same name, or this is a container on it: the pieces will do.
            self._want(self._pulls.again(now, now), copy=True)
            return
        waiting = self._waiting.get(key, {})
        self._waiting[key] = {}
        self._stop(key)
        self._waiting[key] = waiting
        self._vault.adopt(key, segment)
        self._arrived(key)
        self._ask(now)

    def _arrived(self, key: Id) -> None:
        self._sizes.pop(key, None)
        for task_key in self._waiting.pop(key, {}):
            task = self._parked[task_key]
            if all(self._has(wanted.key) for wanted in task.needs.objects):  # type: ignore[union-attr]
                del self._parked[task_key]
                self._start(task_key, task)

    def _fail(self, key: Id, reason: str) -> None:
        """An object cannot be had: so these tasks cannot be run here."""
        for task_key in list(self._waiting.get(key, {})):
            self._forget_parked(task_key)
            text = f"what the task uses cannot be had on host {self._host}: {reason}"
            failure = Failure("flowlib.errors.TaskLost", text, host=self._host, arguments=[text])
            self.failed.append(m.Result(*task_key, m.Status.LOST, encode_failure(failure)))
        self._stop(key)

    def _on_want(self, want: m.Want) -> None:
        found: set[Id] = set()
        for key, offset, length in want.pieces:
            segment = self._vault.get(key) if self._has(key) else None
            if segment is None:
                self._tell(m.Gone([key], f"manager {self._manager} does not have it"))
            elif LINUX and want.host == self._host and not want.copy:
                if key not in found:
                    found.add(key)
                    self._tell(m.Found(key, segment.path))
            else:
                self._send([m.encode(m.Piece(key, offset)), segment.view(offset, length)])

    def _ask(self, now: float) -> None:
        self._want(self._pulls.asks())
        if self._again_at is None and len(self._pulls):
            self._again_at = now + AGAIN

    def _want(self, pieces: Sequence[tuple[Id, int, int]], copy: bool = False) -> None:
        if pieces:
            self._tell(m.Want([*pieces], "", self._host, copy))

    def _tell(self, message: m.Message) -> None:
        self._send([m.encode(message)])

    # ---------------------------------------------------------------------------------------------------------- time

    def wake_at(self) -> float | None:
        """When ``tick`` is due; None for not before something happens."""
        if self._again_at is None or self._stay_until is None:
            return self._stay_until if self._again_at is None else self._again_at
        return min(self._again_at, self._stay_until)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = now + AGAIN if len(self._pulls) else None
            self._want(self._pulls.again(now - AGAIN, now))

    def may_end(self, now: float) -> bool:
        """Whether a manager that has no tasks may end, as far as objects go: nothing is only here, or time is up."""
        if not self._vault.ledger.originals():
            return True
        if self._stay_until is None:
            self._stay_until = now + STAY
        return now >= self._stay_until

    def close(self) -> None:
        """Let go of everything."""
        self._vault.close()
