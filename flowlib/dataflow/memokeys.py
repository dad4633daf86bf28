"""Keys of calls under the names of the field: ``id_for_memo`` with its registry of users' types, and ``key_of``.

What does the work is in ``flowlib.memory``; it asks this registry about types that it does not know.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord
    from flowlib.memory.calls import Keys


@functools.cache
def _keys() -> Keys:
    from flowlib.memory.calls import Keys

    return Keys()


def key_of(task: TaskRecord) -> str:
    """The key of a call: hexadecimal digits.

    Args:
        task: Its ``args`` and ``kwargs`` hold values.

    Raises:
        UnkeyableError: An argument has a type that has no key.
    """
    return _keys().key(task)[0].hex()


@functools.singledispatch
def id_for_memo(obj: object, output_ref: bool = False) -> bytes:
    """The key of a value: equal bytes for equal values.

    Register a function for each type of your own: ``@id_for_memo.register(MyType)``.

    Args:
        obj: The value.
        output_ref: Whether it names an output: a file counts by where it is, then.

    Raises:
        ValueError: Its type has no key.

    Example:
        >>> id_for_memo([1, "a"]) == id_for_memo([1, "a"])
        True
        >>> id_for_memo(1) == id_for_memo(1.0)
        False
    """
    return _keys().digest(obj, output_ref)
