"""Which block gets which host, and what becomes of blocks when hosts turn out bad: a pure core.

A *place* is one host's share of a block.  Places wait in order of arrival; a host has one place at a time.  A host on
which a place could not be started is set aside, for a while or for good, and the place waits for another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(slots=True)
class _Host(Generic[P]):
    place: P | None = None
    problem: str = ""
    until: float | None = None


class Roster(Generic[P]):
    """Hosts and the places that want one.

    Args:
        hosts: Their names, in order of preference.

    Example:
        >>> roster = Roster[str](["a", "b"])
        >>> roster.add("block 0")
        >>> roster.assign(0.0)
        [('block 0', 'a')]
        >>> roster.set_aside("a", "no Python", None)
        >>> roster.assign(0.0)
        [('block 0', 'b')]
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts: dict[str, _Host[P]] = {host: _Host() for host in hosts}
        self._waiting: list[P] = []

    def add(self, place: P) -> None:
        """A place wants a host."""
        self._waiting.append(place)

    def leave(self, place: P) -> None:
        """A place ended, or is not wanted any more."""
        if place in self._waiting:
            self._waiting.remove(place)
        for host in self._hosts.values():
            if host.place == place:
                host.place = None

    def set_aside(self, name: str, problem: str, until: float | None) -> None:
        """A host cannot be used; the place that it had waits again, before all others.

        Args:
            name: The host.
            problem: What is wrong.
            until: When to try it again; None for not in this run.
        """
        host = self._hosts[name]
        host.problem, host.until = problem, until
        if host.place is not None:
            self._waiting.insert(0, host.place)
            host.place = None
        if not problem:
            raise ValueError("a host is set aside for a reason")

    def usable(self, name: str) -> None:
        """A host works, so that what was wrong with it is forgotten."""
        self._hosts[name].problem, self._hosts[name].until = "", None

    def assign(self, now: float) -> list[tuple[P, str]]:
        """Give waiting places to free hosts."""
        given: list[tuple[P, str]] = []
        for name, host in self._hosts.items():
            if not self._waiting:
                break
            if host.place is None and self._may_be_tried(host, now):
                host.place = self._waiting.pop(0)
                given.append((host.place, name))
        return given

    def stranded(self, now: float) -> list[P]:
        """Places that wait while every host is set aside."""
        if any(self._may_be_tried(host, now) for host in self._hosts.values()):
            return []
        return list(self._waiting)

    def waiting(self) -> list[P]:
        """Places without a host."""
        return list(self._waiting)

    def problems(self) -> dict[str, str]:
        """What is wrong with the hosts that are set aside, by name."""
        return {name: host.problem for name, host in self._hosts.items() if host.problem}

    def idle(self) -> Iterable[str]:
        """Hosts without a place."""
        return [name for name, host in self._hosts.items() if host.place is None]

    @staticmethod
    def _may_be_tried(host: _Host[P], now: float) -> bool:
        # One that is being tried again has a place and counts as usable until that fails.
        return not host.problem or host.place is not None or (host.until is not None and host.until <= now)

    def check_invariants(self) -> None:
        """For tests: no place is in two places."""
        placed = [host.place for host in self._hosts.values() if host.place is not None]
        everywhere = placed + self._waiting
        assert len(everywhere) == len(set(everywhere)), everywhere
        assert all(not host.until or host.problem for host in self._hosts.values())
