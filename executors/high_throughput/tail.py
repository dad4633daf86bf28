"""The last lines of a log, for the error that points to it."""

from __future__ import annotations

import os

_BYTES = 4096


def tail_of(path: str, lines: int = 5) -> str:
    """The last lines of a file, indented, each after a line break; "" if there are none.

    Args:
        path: The file.
        lines: At most that many.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _BYTES))
            text = file.read(_BYTES).decode(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in text.splitlines()[-lines:])
