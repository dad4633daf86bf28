"""A large value that is somewhere: here, or still on the node where a task made it.

One object of this class stands for one stored object in the driver; whoever needs the value holds it, and when nobody
does, Python's own reference count says so, and the memory is freed everywhere.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from flowlib.errors import DeserializationError

if TYPE_CHECKING:
    from flowlib.store.home import Entry, Home


class Stored:
    """A stored object: the ``Success`` of a task with a large result, and what an ``ObjectRef`` refers to.

    Args:
        home: The driver's table.
        entry: Its entry there.

    Attributes:
        entry: As given.
    """

    __slots__ = ("__weakref__", "_done", "_home", "_lock", "_reason", "_value", "entry")

    def __init__(self, home: Home, entry: Entry) -> None:
        self._home = home
        self.entry = entry
        self._lock = threading.RLock()
        self._done = False
        self._value: Any = None
        self._reason: tuple[str, BaseException | None] | None = None

    def value(self) -> Any:
        """The value; fetched and rebuilt on first use, the same object ever after.

        Raises:
            ObjectLost: The node that had it is gone.
            DeserializationError: It cannot be rebuilt in this process.
        """
        with self._lock:
            if not self._done:
                from flowlib.serialize.values import load_packed

                segment = self._home.need(self.entry)
                try:
                    self._value = load_packed(segment.private())
                except DeserializationError as e:
                    self._reason = (e.reason, e.__cause__)
                self._done = True
        if self._reason is not None:
            raise DeserializationError(self._reason[0]) from self._reason[1]
        return self._value
