"""Names for classes that have no importable name, so that each is one class in each process.

A class of ``__main__`` is rebuilt in every worker.  Were it rebuilt for every task, ``isinstance`` and ``except``
would fail between tasks and, worse, in the script that the results come back to.  So the process that has the
original gives it a token; a process that has rebuilt it keeps it under that token; and the way back names the token
only.
"""

from __future__ import annotations

import os
import re
import threading
from typing import Any

_LIMIT = 10_000
_PREFIX = "flowlib-class:"
_PATTERN = re.compile(rb"flowlib-class:[0-9a-f]{32}:[0-9]+")

_tokens: dict[int, tuple[Any, str]] = {}
_objects: dict[str, Any] = {}
_lock = threading.Lock()
_origin = ""
_count = 0


def _after_fork() -> None:
    """A forked child is another origin: its new classes must not share tokens with its siblings'."""
    global _origin, _count, _lock
    _origin, _count, _lock = "", 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def find_token(obj: Any) -> str | None:
    """The token of ``obj``, if it has one."""
    entry = _tokens.get(id(obj))
    return entry[1] if entry is not None else None


def token_of(obj: Any) -> str:
    """The token of ``obj``; a new one of this process if it has none."""
    global _origin, _count
    with _lock:
        entry = _tokens.get(id(obj))
        if entry is not None:
            return entry[1]
        if not _origin:
            _origin = os.urandom(16).hex()
        _count += 1
        token = f"{_PREFIX}{_origin}:{_count}"
        _keep(token, obj)
        return token


def remember(token: str, obj: Any) -> None:
    """Keep what was rebuilt here under the token that it came with."""
    with _lock:
        _keep(token, obj)


def _keep(token: str, obj: Any) -> None:
    # Strong references, so that a class cannot vanish between its task and its result; bounded, because a program
    # may make classes without end.
    _tokens[id(obj)] = (obj, token)
    _objects[token] = obj
    if len(_objects) > _LIMIT:
        oldest = next(iter(_objects))
        _tokens.pop(id(_objects.pop(oldest)), None)


def find_object(token: str) -> Any:
    """What has this token here; None if nothing has."""
    return _objects.get(token)


def is_ours(token: str) -> bool:
    """Whether this process has the original."""
    return bool(_origin) and token.startswith(_origin, len(_PREFIX))


def mentioned(payload: bytes) -> list[Any]:
    """The objects of this process whose tokens occur in pickled bytes."""
    if _PREFIX.encode() not in payload:
        return []
    tokens = {match.decode() for match in _PATTERN.findall(payload)}
    return [obj for token in sorted(tokens) if (obj := _objects.get(token)) is not None]
