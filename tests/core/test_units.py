"""Times and sizes in every spelling."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.units import format_size, format_time, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        (" 90 s ", 90),
        ("250ms", 0.25),
        ("1.5 hours", 5400),
        ("2h30m", 9000),
        ("2h 30m 5s", 9005),
        ("1 day", 86400),
        ("30:00", 1800),
        ("01:30:00", 5400),
        ("00:00:01.5", 1.5),
        ("100:00:00", 360000),
        ("2-12:00:00", 216000),
        ("1-12", 129600),
        ("1-00:30", 88200),
        ("1e3", 1000),
        (dt.timedelta(minutes=2), 120),
    ],
)
def test_times(text: Any, seconds: float) -> None:
    """Each way to write a time gives its seconds."""
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "x", "1x", "h", "1:2:3:4", "1:75", "-5", "0", "0s", "inf", "nan", "2h30", "1h -5m", 0, -1]
)
def test_no_times(text: Any) -> None:
    """What is no time, or none that can pass, is refused with what was given."""
    with pytest.raises(ValueError, match="walltime") as caught:
        parse_time(text, "walltime")
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [None, True, [], b"90"], ids=repr)
def test_wrong_types_for_times(value: Any) -> None:
    """Other types are a TypeError that shows how to write a time."""
    with pytest.raises(TypeError, match="2h30m"):
        parse_time(value)


@given(st.integers(1, 10**7))
def test_times_round_trip(seconds: int) -> None:
    """A time written as H:M:S or as days and a clock reads back exactly."""
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    assert parse_time(f"{hours}:{m:02}:{s:02}") == seconds
    days, h = divmod(hours, 24)
    assert parse_time(f"{days}-{h:02}:{m:02}:{s:02}") == seconds
    assert parse_time(f"{days}d{h}h{m}m{s}s") == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (512, 512),
        (1.5e3, 1500),
        ("512", 512),
        ("512 B", 512),
        ("1kB", 1000),
        ("1 KiB", 1024),
        ("8GB", 8 * 10**9),
        ("8GiB", 8 * 2**30),
        ("8G", 8 * 2**30),
        ("1.5T", 3 * 2**39),
        ("500 mb", 5 * 10**8),
    ],
)
def test_sizes(text: Any, size: int) -> None:
    """Each way to write a size gives its bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "8QB", "8 GBB", "-1", "0", "0.5", 0, -8])
def test_no_sizes(text: Any) -> None:
    """What is no size is refused with what was given."""
    with pytest.raises(ValueError, match="memory"):
        parse_size(text, "memory")


@pytest.mark.parametrize("value", [None, False, (1, "GB")], ids=repr)
def test_wrong_types_for_sizes(value: Any) -> None:
    """Other types are a TypeError that shows how to write a size."""
    with pytest.raises(TypeError, match="GiB"):
        parse_size(value)


@given(st.floats(0.001, 1e7))
def test_formatted_times_read_back(seconds: float) -> None:
    """A time in a message reads back to about what it was."""
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, rel=0.05)


def test_formats() -> None:
    """Messages use the units that people use."""
    assert [format_time(t) for t in (0.5, 59, 60, 3661, 90000)] == ["0.5s", "59s", "1m", "1h1m", "1d1h"]
    assert [format_size(s) for s in (1, 999, 1000, 2.5e9, 5e18)] == ["1 B", "999 B", "1 kB", "2.5 GB", "5e+03 PB"]
