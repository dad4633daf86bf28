"""Where a bash app's standard output and error go: every way to say it, read by one function.

Specifications are looked at twice: at the call, so that nonsense is refused where it was written, and on the worker,
where the file is opened.  Nothing here touches a file.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowlib.errors import BadStdStreamFile

if TYPE_CHECKING:
    from os import PathLike
    from typing import TypeAlias


class _AutoLogname(Enum):
    AUTO_LOGNAME = "AUTO_LOGNAME"

    def __repr__(self) -> str:
        return "AUTO_LOGNAME"


AUTO_LOGNAME: Final = _AutoLogname.AUTO_LOGNAME
"""As ``stdout`` or ``stderr``: a file whose name flowlib chooses, below the run directory."""

Stream: TypeAlias = "str | PathLike[str] | tuple[str | PathLike[str], str] | _AutoLogname | None"
"""What may be given as ``stdout`` or ``stderr``; a ``File`` is an ``os.PathLike``."""

HEADER = "--> executable follows <--\n{command}\n--> end executable <--\n"
"""What a redirected standard error starts with. Scripts read the command back from it."""

STREAMS: Final = ("stdout", "stderr")

DEFAULT_MODE: Final = "a+"
_MODES = frozenset({"w", "a", "x", "r+"})


class Target(NamedTuple):
    """A file for a stream.

    Attributes:
        path: Its path.
        mode: "w" (emptied first), "a" (appended to), "x" (must not exist) or "r+" (written over from its start).
    """

    path: str
    mode: str


def parse_stream(given: Any, name: str = "stdout") -> Target | None:
    """Read a specification of a standard stream.

    Args:
        given: None; a path as ``str`` or ``os.PathLike``, which is appended to; a pair ``(path, mode)`` with a mode of
            ``open``; or a ``File``, which is written anew.
        name: "stdout" or "stderr", for messages.

    Returns:
        The file; None for no redirection.

    Raises:
        TypeError: It is nothing of that, or a tuple of another length.
        BadStdStreamFile: It has an unknown mode, or an empty path.

    Example:
        >>> parse_stream(("out.txt", "w"))
        Target(path='out.txt', mode='w')
    """
    if given is None:
        return None
    mode = DEFAULT_MODE
    if isinstance(given, tuple):
        if len(given) != 2:
            raise _wrong_type(f"{name} is {given!r}, of length {len(given)}; give a pair (path, mode)")
        given, mode = given
        if not isinstance(mode, str):
            raise _wrong_type(f"{name} has the mode {mode!r}; give a mode of open(), like 'w' or 'a'")
    elif hasattr(given, "cleancopy"):
        # A File: also its retries start it anew.
        mode = "w"
    return Target(_path(given, name), _mode(mode, name))


def _path(given: Any, name: str) -> str:
    if hasattr(given, "__fspath__"):
        given = given.__fspath__()
    if isinstance(given, bytes):
        raise _wrong_type(f"{name} is {given!r}; give a path as str or os.PathLike, not bytes")
    if not isinstance(given, str):
        raise _wrong_type(f"{name} is {given!r}; give a path, a pair (path, mode), a File, AUTO_LOGNAME or None")
    if not given or "\0" in given:
        raise BadStdStreamFile(f"{name} is {given!r}, which names no file")
    return given


def _wrong_type(message: str) -> TypeError:
    """An error that is caught as the interpreter's and as the type checker's of constructors."""
    from flowlib.checks import ArgumentTypeError

    return ArgumentTypeError(message)


def _mode(mode: str, name: str) -> str:
    plain = mode.replace("b", "").replace("t", "")
    plain = plain if plain == "r+" else plain.replace("+", "")
    if plain not in _MODES:
        raise BadStdStreamFile(f"{name} has the mode {mode!r}; it must write: 'w', 'a' or 'x', or 'r+'")
    return plain


def check_stream(given: Any, name: str) -> None:
    """Refuse, at the call, a specification that can never work; one that other machines must see passes.

    Raises:
        TypeError: As for ``parse_stream``.
        BadStdStreamFile: As for ``parse_stream``.
    """
    if given is None or given is AUTO_LOGNAME or hasattr(given, "cleancopy"):
        return
    parse_stream(given, name)
