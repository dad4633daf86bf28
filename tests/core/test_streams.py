"""Specifications of standard streams."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from flowlib.app.streams import AUTO_LOGNAME, Target, check_stream, parse_stream
from flowlib.data_provider.files import File
from flowlib.errors import BadStdStreamFile


@pytest.mark.parametrize(
    ("given", "target"),
    [
        (None, None),
        ("out.txt", Target("out.txt", "a")),
        (Path("a/out.txt"), Target("a/out.txt", "a")),
        (("out.txt", "w"), Target("out.txt", "w")),
        (("out.txt", "a+"), Target("out.txt", "a")),
        ((Path("out.txt"), "wb"), Target("out.txt", "w")),
        (("out.txt", "x"), Target("out.txt", "x")),
        (("out.txt", "r+"), Target("out.txt", "r+")),
        (File("out.txt"), Target("out.txt", "w")),
        (File("file:///x/out.txt"), Target("/x/out.txt", "w")),
        ((File("out.txt"), "a"), Target("out.txt", "a")),
    ],
    ids=repr,
)
def test_spellings(given: Any, target: Target | None) -> None:
    """Every way to name a file gives its path and mode; Files are written anew, names appended to."""
    assert parse_stream(given) == target


@pytest.mark.parametrize("given", [("a", "r"), ("a", "q"), ("a", ""), "", "a\0b", ("", "w")], ids=repr)
def test_nonsense(given: Any) -> None:
    """Modes that do not write and names that are none are refused with what was given."""
    with pytest.raises(BadStdStreamFile, match="stderr"):
        check_stream(given, "stderr")


@pytest.mark.parametrize(
    "given", [(), ("a",), ("a", "b", "c"), ["a", "w"], 5, b"out", ("x", 7), (5, "w"), {"a": 1}, True], ids=repr
)
def test_wrong_types(given: Any) -> None:
    """Other types, pairs of another length among them, are a TypeError."""
    with pytest.raises(TypeError, match="stdout"):
        check_stream(given, "stdout")


def test_what_is_looked_at_later() -> None:
    """AUTO_LOGNAME and files that must be staged first pass the look at the call."""
    for given in (None, AUTO_LOGNAME, File("https://host/x")):
        check_stream(given, "stdout")


def test_auto_logname_is_one() -> None:
    """AUTO_LOGNAME stays the same object through pickling, and shows its name."""
    assert pickle.loads(pickle.dumps(AUTO_LOGNAME)) is AUTO_LOGNAME
    assert repr(AUTO_LOGNAME) == "AUTO_LOGNAME"
