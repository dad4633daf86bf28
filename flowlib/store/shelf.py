"""The objects that a worker's tasks use: where each is on this machine, and how it becomes a value.

Every use maps the object anew, privately: a task may write into its array, and neither the next task nor another
process sees it.  Mapping costs microseconds, whatever the size; pages are copied when they are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flowlib.errors import ObjectLost

if TYPE_CHECKING:
    from flowlib.store.segments import Segment

_places: dict[bytes, tuple[str, int]] = {}


def learn(places: Iterable[tuple[bytes, str, int]]) -> None:
    """Objects are at these places, ``(id, path, size)``, as long as a task that uses them runs."""
    for key, path, size in places:
        _places[key] = (path, size)


def forget() -> None:
    """Forget all places: the tasks that they were told for have ended."""
    _places.clear()


def _open(key: bytes) -> Segment:
    from flowlib.store.segments import Segment

    place = _places.get(key)
    if place is None:
        raise ObjectLost(f"object {key.hex()[:12]} is not known in this process; please report this")
    try:
        return Segment.open(place[0], key, place[1])
    except OSError as e:
        raise ObjectLost(f"object {key.hex()[:12]} cannot be opened at {place[0]}: {e.strerror or e}") from e


def load_buffer(key: bytes) -> memoryview:
    """The bytes of an object that is a single buffer.

    Raises:
        ObjectLost: It is not here.
    """
    return _open(key).private()


def load_object(key: bytes) -> Any:
    """The value of an object; whatever user code raises while it is unpickled comes through.

    Raises:
        ObjectLost: It is not here.
    """
    from flowlib.serialize.values import load_packed

    return load_packed(_open(key).private())
