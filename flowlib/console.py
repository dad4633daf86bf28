"""The few lines that flowlib itself says to the person at the terminal, where there is one."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print ``flowlib: text`` as a line on standard error; does nothing where that is closed or missing.

    Args:
        text: What to say.
    """
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(f"flowlib: {text}\n")
        stream.flush()
    except (OSError, ValueError):
        # Closed, or nobody at the other end: there is nobody to tell.
        return
