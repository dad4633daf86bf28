"""Keeping the current directory off the path of flowlib's own processes: the user may have a ``queue.py`` there.

``python -m`` looks there first.  Python 3.11 can be told not to; older ones cannot, and read what they find.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

VARIABLE = "PYTHONSAFEPATH"
OURS = "flowlib"
"""Its value where flowlib has set it: it is not meant for what tasks start."""


def options() -> list[str]:
    """What to give to this Python before ``-m``."""
    import flowlib

    home = os.path.dirname(os.path.dirname(os.path.abspath(flowlib.__file__)))
    # Whoever is in a checkout may have found flowlib there.
    return ["-P"] if sys.version_info >= (3, 11) and home != os.getcwd() else []


def forget(environ: MutableMapping[str, str]) -> None:
    """Take the variable away again.

    Example:
        >>> environ = {VARIABLE: OURS}
        >>> forget(environ)
        >>> environ
        {}
    """
    if environ.get(VARIABLE) == OURS:
        del environ[VARIABLE]
