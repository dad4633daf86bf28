"""The kinds of facts that a site's file holds: what each may look like, and what to say if it does not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowlib.sites.schedulers import LAUNCHERS, SCHEDULERS
from flowlib.suggest import nearest
from flowlib.units import parse_time


@dataclass(frozen=True)
class Launch:
    """How a manager is started on each node: ``launcher = { kind = ..., overrides = ... }``.

    Attributes:
        kind: One of ``LAUNCHERS``.
        arguments: Arguments of the launcher.
    """

    kind: str
    arguments: Mapping[str, Any]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("write text in quotes")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise TypeError('write text, or a list of texts: ["...", "..."]')
    return tuple(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("write a whole number, 1 or more; leave it out if it is not known")
    return value


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError("write a number above 0; leave it out if it is not known")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("write true or false")
    return value


def _time(value: object) -> str:
    text = _text(value)
    try:
        parse_time(text)
    except ValueError:
        raise ValueError("write a time as '02:00:00', '90m', '2h30m' or '1-12:00:00'") from None
    return text


def _date(value: object) -> str:
    if isinstance(value, dt.date):
        return value.isoformat()
    text = _text(value)
    parts = text.removeprefix("by ").split("-")
    if not 1 <= len(parts) <= 3 or not all(p.isdecimal() for p in parts) or len(parts[0]) != 4:
        raise ValueError("write a day as 2026-01-31, or less if less is known: '2026-01', '2026', 'by 2026'")
    return text


def _address(value: object) -> str:
    text = _text(value)
    if not text.startswith(("https://", "http://")):
        raise ValueError("write the whole address, with https://")
    return text


def _scheduler(value: object) -> str:
    text = _text(value)
    if text not in SCHEDULERS:
        raise ValueError(nearest(text, SCHEDULERS)[2:])
    return text


def _bins(value: object) -> tuple[tuple[int, str], ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, list) and len(v) == 2 for v in value):
        raise TypeError("write pairs of nodes and time: [[91, '2h'], [183, '6h']]")
    bins = tuple((_count(most), _time(longest)) for most, longest in value)
    if [most for most, _ in bins] != sorted({most for most, _ in bins}):
        raise ValueError("write the pairs in the order of their nodes")
    return bins


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("write a table: { name = value }")
    return value


def _launcher(value: object) -> Launch:
    table = {"kind": value} if isinstance(value, str) else _table(value)
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in LAUNCHERS:
        raise ValueError(f"its kind is {kind!r}{nearest(str(kind), LAUNCHERS)}")
    arguments = {name: argument for name, argument in table.items() if name != "kind"}
    allowed = LAUNCHERS[kind][1]
    for name in arguments:
        if name not in allowed:
            raise ValueError(f"{kind} takes no {name!r}{nearest(name, allowed)}")
    return Launch(kind, arguments)


def _plain(value: object) -> object:
    if not isinstance(value, (str, int, float)):
        raise TypeError("write text, a number, true or false")
    return value


KINDS: dict[str, Callable[[object], Any]] = {
    "text": _text,
    "texts": _texts,
    "count": _count,
    "amount": _amount,
    "flag": _flag,
    "time": _time,
    "date": _date,
    "address": _address,
    "scheduler": _scheduler,
    "bins": _bins,
    "table": _table,
    "launcher": _launcher,
    "plain": _plain,
}
"""By name: makes a fact of what the file says. Raises TypeError or ValueError with what to write instead."""
