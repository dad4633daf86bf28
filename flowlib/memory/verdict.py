"""What became of the look for a remembered value, as ``future.record.cache`` tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowlib.memory.journal import HIT, MISS, SHARED, Look
from flowlib.memory.store import CODE
from flowlib.memory.why import Made, differences, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowlib.memory.store import Store

STATES = {MISS: "miss", HIT: "hit", SHARED: "shared"}


class Verdict:
    """Hit or miss, and why.

    Args:
        look: What became of the look.
        components: What the app is made of.
        store: Where remembered calls are.

    Attributes:
        state: "hit", "miss", or "shared" with an equal call that was on its way.
    """

    __slots__ = ("_components", "_look", "_store", "state")

    def __init__(self, look: Look, components: dict[str, bytes] | None, store: Store) -> None:
        self.state = STATES[look.state]
        self._look = look
        self._components = components
        self._store = store

    @property
    def hit(self) -> bool:
        """Whether the call did not run."""
        return self._look.state != MISS

    def why(self) -> list[str]:
        """Why it was a hit, or what differs from the most alike call that is remembered; reads the whole store."""
        made, told = self._look.made, self._look.told()
        if told or made is None:
            return [told]
        codes = {} if self._components is None else {made.code: self._components}
        return explain(made, self._store, codes)

    def __repr__(self) -> str:
        told = self._look.told()
        return f"<{self.state}{': ' + told if told else ''}>"


def explain(made: Made, store: Store, codes: dict[bytes, dict[str, bytes]]) -> list[str]:
    """What differs between a call and the most alike other that is remembered."""
    codes = dict(codes)
    told = differences(made, nearest(made, _others(made, store, codes)), codes)
    return told or ["nothing is different: what was remembered was damaged, or written meanwhile"]


def _others(made: Made, store: Store, codes: dict[bytes, dict[str, bytes]]) -> Iterator[Made]:
    for entry in store.entries():
        facts = entry.facts
        if facts.kind == CODE:
            codes.setdefault(facts.code, facts.parts)
        elif facts.app == made.app and (facts.code, facts.parts) != (made.code, made.arguments):
            yield Made(facts.app, facts.code, facts.parts)
