"""What to ask for next: objects come in pieces, of which only so many are on their way at a time.

Pieces keep heartbeats and other messages from waiting behind a gigabyte, and a window keeps whoever passes them on from
holding more of them than a few.  Whoever wants an object asks for it, and asks again after a pause: so it does not
matter who on the way died and forgot.  Pure: the time is told.
"""

from __future__ import annotations

from typing import NamedTuple

PIECE = 4 * 1024 * 1024
"""Bytes in a piece."""
WINDOW = 8
"""Pieces that are on their way at a time."""

Id = bytes


class Ask(NamedTuple):
    """A piece to ask for.

    Attributes:
        object: Of which object.
        offset: Where it begins.
        length: Its bytes.
    """

    object: Id
    offset: int
    length: int


class _Pull:
    __slots__ = ("left", "moved", "next", "out", "size")

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self.left = size
        self.next = 0
        self.out: dict[int, int] = {}
        self.moved = now


class Pulls:
    """The objects that are being fetched from one place.

    Args:
        piece: Bytes in a piece.
        window: Pieces on their way at a time.

    Example:
        >>> pulls = Pulls(piece=10, window=2)
        >>> pulls.begin(b"a", 25, now=0.0)
        >>> [(ask.offset, ask.length) for ask in pulls.asks()]
        [(0, 10), (10, 10)]
        >>> pulls.took(b"a", 10, 10, now=1.0)
        False
        >>> [(ask.offset, ask.length) for ask in pulls.asks()]
        [(20, 5)]
    """

    def __init__(self, piece: int = PIECE, window: int = WINDOW) -> None:
        self._piece = piece
        self._window = window
        self._out = 0
        self._pulls: dict[Id, _Pull] = {}

    def __contains__(self, key: Id) -> bool:
        return key in self._pulls

    def __len__(self) -> int:
        return len(self._pulls)

    def ids(self) -> list[Id]:
        """What is being fetched."""
        return list(self._pulls)

    def begin(self, key: Id, size: int, now: float) -> None:
        """Fetch an object; nothing if that is under way."""
        if key not in self._pulls:
            self._pulls[key] = _Pull(size, now)

    def drop(self, key: Id) -> None:
        """Fetch it no more."""
        pull = self._pulls.pop(key, None)
        if pull is not None:
            self._out -= len(pull.out)

    def asks(self) -> list[Ask]:
        """What is to be asked for now; it counts as asked for."""
        asked: list[Ask] = []
        for key, pull in self._pulls.items():
            while self._out < self._window and pull.next < pull.size:
                length = min(self._piece, pull.size - pull.next)
                pull.out[pull.next] = length
                asked.append(Ask(key, pull.next, length))
                pull.next += length
                self._out += 1
            if self._out >= self._window:
                break
        return asked

    def expects(self, key: Id, offset: int, length: int) -> bool:
        """Whether this piece was asked for and has not come."""
        pull = self._pulls.get(key)
        return pull is not None and pull.out.get(offset) == length

    def took(self, key: Id, offset: int, length: int, now: float) -> bool:
        """A piece that was expected is here; whether its object is whole, and its fetching over."""
        pull = self._pulls[key]
        del pull.out[offset]
        self._out -= 1
        pull.left -= length
        pull.moved = now
        if pull.left:
            return False
        del self._pulls[key]
        return True

    def again(self, since: float, now: float) -> list[Ask]:
        """What is to be asked for once more, because nothing of its object has come since then."""
        asked: list[Ask] = []
        for key, pull in self._pulls.items():
            if pull.out and pull.moved <= since:
                pull.moved = now
                asked.extend(Ask(key, offset, length) for offset, length in pull.out.items())
        return asked

    def check_invariants(self) -> None:
        """Raise AssertionError where the state contradicts itself; for tests."""
        assert self._out == sum(len(pull.out) for pull in self._pulls.values())
        assert self._out <= self._window
        for pull in self._pulls.values():
            assert 0 < pull.left == pull.size - pull.next + sum(pull.out.values())
