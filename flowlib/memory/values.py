"""What values of flowlib's own and of the user's types, files and functions count as in keys.

The shell of ``canonical``: this looks at files and at the registry of the user's types.
"""

from __future__ import annotations

import hashlib
import os
import types
from collections.abc import Callable
from pathlib import PurePath
from stat import S_ISDIR, S_ISREG
from time import time_ns
from typing import Any

from flowlib.data_provider.files import File
from flowlib.errors import ConfigurationError
from flowlib.memory.canonical import Canon
from flowlib.memory.code import combined, components_of

MODES = ("content", "stat")
_CHUNK = 1 << 20
_FRESH = 2_000_000_000
_REMEMBERED = 100_000


class Files:
    """Files among arguments.

    A local file counts by its name and content, or by name, size and time of last change; a remote one, a directory
    and what does not exist by name.

    Args:
        mode: "content" or "stat".

    Raises:
        ConfigurationError: Another mode.
    """

    def __init__(self, mode: str = "content") -> None:
        if mode not in MODES:
            raise ConfigurationError(f"files={mode!r} is no way for files to count; give 'content' or 'stat'")
        self.mode = mode
        self._digests: dict[tuple[int, ...], bytes] = {}

    def place(self, value: Any) -> bytes | None:
        """What an output counts as: its name."""
        if isinstance(value, File):
            return b"file " + value.url.encode("utf-8", "surrogatepass")
        if isinstance(value, PurePath):
            return b"path " + os.fsencode(value)
        return None

    def content(self, value: Any) -> bytes | None:
        """What an input counts as."""
        name = self.place(value)
        if name is None or (isinstance(value, File) and value.scheme != "file"):
            return name
        path = value.path if isinstance(value, File) else os.fspath(value)
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return name + b"\0missing"
        if S_ISDIR(found.st_mode) or not S_ISREG(found.st_mode):
            return name + b"\0no file"
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self.mode == "stat":
            return name + b"\0%d %d" % (found.st_size, found.st_mtime_ns)
        digest = self._digests.get(identity)
        if digest is None:
            digest = _digest(path)
            # A file that was changed just now may change once more without a sign of it in its time.
            if time_ns() - found.st_mtime_ns > _FRESH:
                if len(self._digests) >= _REMEMBERED:
                    self._digests.clear()
                self._digests[identity] = digest
        return name + b"\0" + digest


def _digest(path: str) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()


def registered(value: Any) -> bytes | None:
    """The bytes that the user's own function makes, for a type registered with ``id_for_memo``."""
    from flowlib.dataflow.memokeys import id_for_memo

    make: Callable[[Any], Any] = id_for_memo.dispatch(type(value))
    if getattr(make, "__module__", None) == id_for_memo.__module__:
        return None
    made = make(value)
    return made if isinstance(made, bytes) else str(made).encode("utf-8", "surrogatepass")


def function(value: Any) -> bytes | None:
    """What a function among arguments does."""
    if isinstance(value, types.FunctionType) or (
        type(value).__module__.startswith("flowlib.app") and hasattr(value, "func") and hasattr(value, "target")
    ):
        return b"function " + combined(components_of(value, _PLAIN))
    if isinstance(value, types.ModuleType):
        return b"module " + value.__name__.encode()
    return None


HOOKS = (registered, function)
_PLAIN = Canon((registered, function))
