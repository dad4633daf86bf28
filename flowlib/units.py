"""Times and sizes as people write them, made into seconds and bytes in one place.

Schedulers, users and sites each write them in a way of their own; every option that takes one takes them all.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d{1,2}))?(?::(\d{1,2}(?:\.\d*)?))?")
_TERM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)")
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)")

_SECONDS = {
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_POWERS = "kmgtpe"


def parse_time(value: object, name: str = "time") -> float:
    """Seconds, from a number or from text.

    Args:
        value: Seconds as a number; a ``timedelta``; or text: "90", "90s", "2h30m", "1.5 hours", "01:30:00",
            "30:00" (minutes and seconds), "2-12:00:00" (days first) or "1-12" (days and hours).
        name: What it is, for messages.

    Raises:
        TypeError: It is nothing of that.
        ValueError: The text is no time, or the time is not positive.

    Example:
        >>> [parse_time(t) for t in (90, "90s", "2h30m", "1:30:00", "2-12:00:00")]
        [90.0, 90.0, 9000.0, 5400.0, 216000.0]
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _time_of_text(value, name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise TypeError(f"{name} is {value!r}; give seconds as a number, or text like '90s', '2h30m' or '1:30:00'")
    if not seconds > 0 or math.isinf(seconds):
        raise ValueError(f"{name} is {value!r}; it must be more than 0 seconds, and finite")
    return seconds


def _time_of_text(text: str, name: str) -> float:
    plain = text.strip().lower()
    clock = _CLOCK.fullmatch(plain)
    if clock is not None:
        return _time_of_clock(clock, text, name)
    total, position = 0.0, 0
    while position < len(plain):
        term = _TERM.match(plain, position)
        if term is None or term[2] not in _SECONDS:
            break
        total += float(term[1]) * _SECONDS[term[2]]
        position = term.end()
    else:
        if plain:
            return total
    try:
        return float(plain)
    except ValueError:
        raise ValueError(
            f"{name} is {text!r}, which is no time; write seconds or '90s', '2h30m', '1:30:00', '2-12:00:00'"
        ) from None


def _time_of_clock(match: re.Match[str], text: str, name: str) -> float:
    days, first, second, third = match.groups()
    parts = [float(p) for p in (first, second, third) if p is not None]
    if days is not None:
        # As Slurm has it: days-hours, days-hours:minutes, days-hours:minutes:seconds.
        units = (3600.0, 60.0, 1.0)
    elif len(parts) == 3:
        units = (3600.0, 60.0, 1.0)
    elif len(parts) == 2:
        units = (60.0, 1.0, 0.0)
    else:
        units = (1.0, 0.0, 0.0)
    if any(p >= 60 for p in parts[1:]):
        raise ValueError(f"{name} is {text!r}: minutes and seconds behind a colon must be below 60")
    return float(days or 0) * 86400 + sum(p * u for p, u in zip(parts, units, strict=False))


def parse_size(value: object, name: str = "size") -> int:
    """Bytes, from a number or from text.

    Args:
        value: Bytes as a number, or text like "512", "8GB", "8 GiB", "1.5G", "500MB". K, M, G, T, P, E count in
            thousands where a B follows ("GB") and in 1024s otherwise ("GiB" and, as schedulers have it, "G").
        name: What it is, for messages.

    Raises:
        TypeError: It is nothing of that.
        ValueError: The text is no size, or it is not positive.

    Example:
        >>> [parse_size(s) for s in (512, "8GB", "1KiB", "1.5G")]
        [512, 8000000000, 1024, 1610612736]
    """
    if isinstance(value, str):
        size = _size_of_text(value, name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        size = float(value)
    else:
        raise TypeError(f"{name} is {value!r}; give bytes as a number, or text like '500MB' or '8GiB'")
    if not size >= 1 or math.isinf(size):
        raise ValueError(f"{name} is {value!r}; it must be at least one byte, and finite")
    return int(size)


def _size_of_text(text: str, name: str) -> float:
    match = _SIZE.fullmatch(text.strip().lower())
    if match is not None:
        number, unit = float(match[1]), match[2]
        if unit in ("", "b", "byte", "bytes"):
            return number
        power = _POWERS.find(unit[0]) + 1
        if power and unit[1:] in ("", "i", "ib"):
            return number * 1024.0**power
        if power and unit[1:] == "b":
            return number * 1000.0**power
    raise ValueError(f"{name} is {text!r}, which is no size; write bytes or '500MB', '8GB', '8GiB'")


def specification_in_bytes(specification: dict[str, Any]) -> dict[str, Any]:
    """A resource specification of Parsl's with ``memory`` and ``disk`` in bytes; there they are numbers of megabytes.

    Text says its unit itself.  What is neither is left for the executor to refuse.

    Example:
        >>> specification_in_bytes({"cores": 2, "memory": 500, "disk": "2GB"})
        {'cores': 2, 'memory': 500000000, 'disk': 2000000000}
    """
    changed: dict[str, Any] = {}
    for name in ("memory", "disk"):
        amount = specification.get(name)
        if isinstance(amount, str):
            changed[name] = parse_size(amount, name)
        elif isinstance(amount, (int, float)) and not isinstance(amount, bool) and math.isfinite(amount):
            changed[name] = int(amount * 1_000_000)
    return {**specification, **changed} if changed else specification


def format_time(seconds: float) -> str:
    """A time for messages: short, in the units that people use.

    Example:
        >>> [format_time(s) for s in (0.25, 90, 9000, 216000)]
        ['0.25s', '1m30s', '2h30m', '2d12h']
    """
    if seconds < 60:
        return f"{seconds:.3g}s"
    whole = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def format_size(size: float) -> str:
    """A size for messages, in powers of 1000.

    Example:
        >>> [format_size(s) for s in (512, 8_000_000_000)]
        ['512 B', '8 GB']
    """
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000 or unit == "PB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"
