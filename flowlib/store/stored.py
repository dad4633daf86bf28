"""A large value that is somewhere: here, or still on the node where a task made it.

One object of this class stands for one stored object in the driver; whoever needs the value holds it, and when nobody
does, Python's own reference count says so, and the memory is freed everywhere.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from flowlib.errors import DeserializationError, ObjectLost

if TYPE_CHECKING:
    from flowlib.store.home import Entry, Home
    from flowlib.store.segments import Segment


class Maker(Protocol):
    """Who can make a lost value again."""

    def regain(self, stored: Stored) -> None:
        """Have it made again, and wait for that.

        Raises:
            ObjectLost: That is impossible, or failed.
        """

    def start(self) -> Any:
        """Have it made again, without waiting."""


class Stored:
    """A stored object: the ``Success`` of a task with a large result, and what an ``ObjectRef`` refers to.

    Args:
        home: The driver's table.
        entry: Its entry there.

    Attributes:
        entry: As given, or that of the value that took the place of a lost one.
        maker: Who can make it again; None for nobody.
    """

    __slots__ = ("__weakref__", "_again", "_done", "_home", "_lock", "_reason", "_value", "entry", "maker")

    def __init__(self, home: Home, entry: Entry) -> None:
        self._home = home
        self.entry = entry
        self.maker: Maker | None = None
        self._again: Stored | None = None
        self._lock = threading.RLock()
        self._done = False
        self._value: Any = None
        self._reason: tuple[str, BaseException | None] | None = None

    def value(self) -> Any:
        """The value; fetched and rebuilt on first use, the same object ever after.

        Raises:
            ObjectLost: The node that had it is gone, and it cannot be made again.
            DeserializationError: It cannot be rebuilt in this process.
        """
        with self._lock:
            if not self._done:
                from flowlib.serialize.values import load_packed

                segment = self._segment()
                try:
                    self._value = load_packed(segment.private())
                except DeserializationError as e:
                    self._reason = (e.reason, e.__cause__)
                self._done = True
        if self._reason is not None:
            raise DeserializationError(self._reason[0]) from self._reason[1]
        return self._value

    def _segment(self) -> Segment:
        while True:
            entry = self.entry
            try:
                return self._home.need(entry)
            except ObjectLost:
                if self.entry is entry:
                    if self.maker is None or not entry.lost:
                        raise
                    self.maker.regain(self)

    def become(self, other: Stored) -> None:
        """Stand for another object from now on: the same value, made again.

        Args:
            other: It lives as long as this.
        """
        self._again = other
        self._home.replace(self, other.entry)
