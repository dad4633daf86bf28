"""Where in a TOML file something stands, so that a mistake in a site's file is reported with its line.

The standard reader tells nothing of places; a look at headers and keys is enough to find them again.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def line_of(text: str, path: tuple[str, ...]) -> int:
    """The line on which ``path`` is set, or else the nearest table around it.

    Args:
        text: The file's text.
        path: Names of tables, then of the key.

    Returns:
        The line's number, from 1; 1 if nothing of the path is in the file.

    Example:
        >>> line_of('name = "x"\\n[partition.batch]\\nnodes = 3', ("partition", "batch", "nodes"))
        3
    """
    best, best_line = 0, 1
    table: tuple[str, ...] = ()
    quoted = False
    for number, line in enumerate(text.splitlines(), 1):
        inside, quoted = quoted, quoted ^ bool((line.count('"""') + line.count("'''")) % 2)
        if inside:
            continue
        header = _HEADER.match(line)
        key = _KEY.match(line)
        if header:
            found = table = _names(header[1])
        elif key:
            found = (*table, *_names(key[1]))
        else:
            continue
        if path[: len(found)] == found and len(found) > best:
            best, best_line = len(found), number
    return best_line


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
