"""Numbers for functions, so that a body crosses each connection once however often the function is called.

Equal bodies have equal numbers, so a lambda that is made anew for each call still travels once.  A function that is
gone is forgotten everywhere, after a while: a script may make one per task.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from flowlib.dataflow.shield import SHIELD
from flowlib.executors.high_throughput.messages import Forget, Function
from flowlib.serialize.functions import encode_function

_SPARE = 256
"""Bodies whose functions are gone that are kept in case they come back."""


class _Body:
    """A function body that was sent, and how many live functions have it."""

    __slots__ = ("digest", "message", "users")

    def __init__(self, message: Function, digest: bytes) -> None:
        self.message = message
        self.digest = digest
        self.users = 0


class Functions:
    """The functions of one interchange.

    Args:
        send: Takes a ``Function`` when a body has to be sent, and a ``Forget``. What it takes must arrive before any
            task that uses the number, which is not known to anybody before.
    """

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._known: dict[int, tuple[Callable[[], Any], _Body]] = {}
        self._bodies: dict[bytes, _Body] = {}
        self._unused: dict[_Body, None] = {}
        self._dead: deque[tuple[int, Any]] = deque()
        self._next = 0

    def number(self, func: Callable[..., Any], name: str) -> int:
        """The number of a function; its body is sent if need be.

        Args:
            func: Any callable.
            name: The app's name, for messages.

        Raises:
            SerializationError: It cannot be sent.
        """
        known = self._known.get(id(func))
        if known is not None and known[0]() is func:
            return known[1].message.function
        return self._add(func, name)

    def _add(self, func: Callable[..., Any], name: str) -> int:
        encoded = encode_function(func, name)
        digest = blake2b(encoded, digest_size=20).digest()
        with SHIELD, self._lock:
            self._bury()
            known = self._known.get(id(func))
            if known is not None and known[0]() is func:
                return known[1].message.function
            body = self._bodies.get(digest)
            if body is None:
                self._next += 1
                body = self._bodies[digest] = _Body(Function(self._next, name, encoded), digest)
                self._send(body.message)
            body.users += 1
            self._unused.pop(body, None)
            self._known[id(func)] = (self._reference(func), body)
            return body.message.function

    def all(self) -> list[Function]:
        """Every body that tasks may refer to."""
        with SHIELD, self._lock:
            return [body.message for body in self._bodies.values()]

    def _reference(self, func: Callable[..., Any]) -> Callable[[], Any]:
        key = id(func)
        try:
            # The callback may run anywhere, even while this thread holds the lock: it only leaves a note.
            return weakref.ref(func, lambda reference: self._dead.append((key, reference)))
        except TypeError:
            return lambda: func

    def _bury(self) -> None:
        """Take note of functions that are gone; call with the lock held."""
        while self._dead:
            key, reference = self._dead.popleft()
            known = self._known.get(key)
            if known is None or known[0] is not reference:
                # Another function has taken the place, and its own body's count; this one's is found by search.
                continue
            del self._known[key]
            self._release(known[1])

    def _release(self, body: _Body) -> None:
        body.users -= 1
        if body.users:
            return
        self._unused[body] = None
        if len(self._unused) > 2 * _SPARE:
            oldest = list(self._unused)[:_SPARE]
            for gone in oldest:
                del self._unused[gone]
                del self._bodies[gone.digest]
            self._send(Forget([gone.message.function for gone in oldest]))
