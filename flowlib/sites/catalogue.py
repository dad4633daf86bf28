"""Where sites come from: the user's directory, the centre's, and ``flowlib.configs``, in that order.

A file of the same name in an earlier one replaces the later: a centre corrects the facts, a user the centre's.
Only the file that is asked for is read.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from flowlib.errors import ConfigurationError
from flowlib.sites.site import Problem, Site, read_site

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def directories() -> list[Path]:
    """Where files of sites are looked for, first come first served.

    That is ``$XDG_CONFIG_HOME/flowlib/sites`` (``~/.config`` if that is not set), the directories in ``FLOWLIB_SITES``,
    with colons between them, and ``flowlib.configs``.
    """
    import flowlib.configs

    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    centre = [Path(d) for d in os.environ.get("FLOWLIB_SITES", "").split(os.pathsep) if d]
    return [Path(config, "flowlib", "sites"), *centre, Path(flowlib.configs.__file__).parent]


def names() -> list[str]:
    """Every site that ``flowlib.load`` knows."""
    return sorted({path.stem for directory in directories() for path in directory.glob("*.toml")})


def find(name: str) -> Path | None:
    """The file of a site; None if there is none."""
    if not _NAME.fullmatch(name):
        return None
    for directory in directories():
        path = directory / f"{name}.toml"
        if path.is_file():
            return path
    return None


def get(name: str) -> Site:
    """A site's facts.

    Args:
        name: One of ``names()``.

    Raises:
        ConfigurationError: There is no such site, or its file is wrong; the text says where.
    """
    path = find(name)
    if path is None:
        from flowlib.suggest import nearest

        raise ConfigurationError(
            f"no configuration named {name!r}{nearest(name, names())}; `flowlib sites list` shows them"
        )
    return open_site(path)


def open_site(path: str | os.PathLike[str]) -> Site:
    """The facts in a file.

    Args:
        path: The file; its name, without ``.toml``, is the site's.

    Raises:
        ConfigurationError: The file is wrong; each mistake stands on a line with file and line number.
    """
    site, mistakes = check(path)
    if site is None:
        raise ConfigurationError("\n".join(f"{path}:{line}: {text}" for line, text in mistakes))
    return site


def check(path: str | os.PathLike[str]) -> tuple[Site | None, list[tuple[int, str]]]:
    """The facts in a file, and what is wrong with it.

    Args:
        path: The file.

    Returns:
        The site, None if there are mistakes; and these, each with the number of its line.

    Raises:
        OSError: The file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        return None, [(1, f"it is not in UTF-8: {e}")]
    try:
        facts = _parse(text)
    except ValueError as e:
        where = re.search(r"\(at line (\d+)", str(e))
        return None, [(int(where[1]) if where else len(text.splitlines()), f"it is not TOML: {e}")]
    site, problems = read_site(path.stem, facts)
    return site, located(text, problems)


def located(text: str, problems: list[Problem]) -> list[tuple[int, str]]:
    """Problems by line number, in the order of the file's lines.

    Args:
        text: The file's text.
        problems: Where, as names of tables and key, and what.
    """
    from flowlib.sites.lines import line_of

    return sorted(
        (line_of(text, path), f"[{'.'.join(path[:-1])}] {what}" if len(path) > 1 else what) for path, what in problems
    )


def _parse(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    facts: dict[str, Any] = tomllib.loads(text)
    return facts
