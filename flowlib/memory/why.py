"""Why a call was not remembered: what differs between it and the most alike of those that were.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Made(NamedTuple):
    """What a key was made of.

    Attributes:
        app: Module and name of what was called.
        code: Digest of the app's identity.
        arguments: Short digests of arguments, by name.
    """

    app: str
    code: bytes
    arguments: dict[str, bytes]


def nearest(call: Made, others: Iterable[Made]) -> Made | None:
    """The most alike of remembered calls: the same app, most equal arguments, the same code; the last of equals."""
    best, score = None, (-1, False)
    for other in others:
        if other.app == call.app:
            equal = sum([other.arguments.get(name) == part for name, part in call.arguments.items()])
            its = (equal, other.code == call.code)
            if its >= score:
                best, score = other, its
    return best


def differences(call: Made, other: Made | None, codes: dict[bytes, dict[str, bytes]]) -> list[str]:
    """What differs, a sentence for each thing.

    Args:
        call: The call that was not remembered.
        other: The most alike one that was; None if there is none.
        codes: What apps are made of, by the digest of their identity.

    Example:
        >>> differences(Made("m.f", b"1", {"x": b"a"}), Made("m.f", b"1", {"x": b"b"}), {})
        ['argument x differs']
    """
    if other is None:
        return [f"no call of {call.app} is remembered"]
    told: list[str] = []
    if call.code != other.code:
        now, before = codes.get(call.code), codes.get(other.code)
        if now is None or before is None:
            told.append(f"the code of {call.app} differs")
        else:
            told += _changes(now, before)
    for name, part in call.arguments.items():
        if name not in other.arguments:
            told.append(f"argument {name} is new")
        elif other.arguments[name] != part:
            told.append(f"argument {name} differs")
    told += [f"argument {name} is missing" for name in other.arguments if name not in call.arguments]
    return told


def _changes(now: dict[str, bytes], before: dict[str, bytes]) -> list[str]:
    told = [f"{_kind(name)} changed" for name in sorted(now) if name in before and before[name] != now[name]]
    told += [f"{_kind(name)} is used now" for name in sorted(now) if name not in before]
    return told + [f"{_kind(name)} is used no more" for name in sorted(before) if name not in now]


def _kind(name: str) -> str:
    if name == "version":
        return "version="
    return f"the version of {name}" if name.startswith("package ") else name
