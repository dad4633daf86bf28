"""Files: what their names mean."""

from __future__ import annotations

import os
import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.data_provider.files import File

LOCAL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda s: "://" not in s and not s.startswith(("file:", "zip:"))
)


@pytest.mark.parametrize(
    ("url", "scheme", "netloc", "path", "filename"),
    [
        ("a.txt", "file", "", "a.txt", "a.txt"),
        ("/x/a.txt", "file", "", "/x/a.txt", "a.txt"),
        ("run #3; final?.txt", "file", "", "run #3; final?.txt", "run #3; final?.txt"),
        ("a:b", "file", "", "a:b", "a:b"),
        ("dir/", "file", "", "dir/", "dir"),
        ("file:///x/a#b.txt", "file", "", "/x/a#b.txt", "a#b.txt"),
        ("file:a.txt", "file", "", "a.txt", "a.txt"),
        ("file://host/x", "file", "host", "/x", "x"),
        ("https://host:80/d/a.txt?q=1#f", "https", "host:80", "/d/a.txt", "a.txt"),
        ("HTTP://host/a", "http", "host", "/a", "a"),
        ("globus://endpoint/p/a", "globus", "endpoint", "/p/a", "a"),
        ("zip:/a/b.zip/in.txt", "zip", "", "/a/b.zip/in.txt", "in.txt"),
        (PurePosixPath("x/y"), "file", "", "x/y", "y"),
    ],
)
def test_parts(url: Any, scheme: str, netloc: str, path: str, filename: str) -> None:
    """A URL or path is cut as people mean it."""
    file = File(url)
    assert (file.scheme, file.netloc, file.path, file.filename) == (scheme, netloc, path, filename)


@given(LOCAL)
def test_local_names_are_kept(name: str) -> None:
    """Any local name is the path, whatever characters it has."""
    file = File(name)
    assert (file.scheme, file.path, file.filepath, str(file), os.fspath(file)) == ("file", name, name, name, name)
    assert pickle.loads(pickle.dumps(file)) == file


@pytest.mark.parametrize("url", ["a.txt", "file:///a", "file://h/a", "https://h/a?b#c", Path("p/q"), "zip:a.zip/b"])
@pytest.mark.parametrize("local_path", [None, "/staged/a"])
def test_pickles_as_it_is(url: Any, local_path: str | None) -> None:
    """Pickling keeps every attribute, the local copy included."""
    file = File(url)
    file.local_path = local_path
    again = pickle.loads(pickle.dumps(file))
    for name in ("url", "scheme", "netloc", "path", "filename", "local_path"):
        assert getattr(again, name) == getattr(file, name)


def test_small() -> None:
    """A file costs a message little more than its name."""
    assert len(pickle.dumps(File("/data/input.txt"), 5)) < 90


def test_equal_by_what_they_name() -> None:
    """Files are equal if they name the same; local copies make no difference."""
    staged = File("https://h/a")
    staged.local_path = "/tmp/a"
    assert File("/a") == File("file:///a") == File(Path("/a"))
    assert staged == File("https://h/a")
    assert len({File("/a"), File("file:///a"), staged, File("https://h/a")}) == 2
    assert File("https://h/a") != File("https://h/b")
    assert File("file://h/a") != File("/a")
    assert File("a") != "a"


def test_remote_file_needs_staging() -> None:
    """A remote file has no path until it is staged, but can be printed."""
    file = File("https://host/x")
    with pytest.raises(ValueError, match="staged"):
        _ = file.filepath
    assert str(file) == "https://host/x"
    file.local_path = "/tmp/x"
    assert (file.filepath, str(file), os.fspath(file)) == ("/tmp/x",) * 3
    assert file.cleancopy().local_path is None
    assert File(file).url == file.url


@pytest.mark.parametrize(
    ("bad", "error"),
    [("", ValueError), ("a\0b", ValueError), (b"a", TypeError), (5, TypeError), (None, TypeError)],
    ids=repr,
)
def test_no_files(bad: Any, error: type[Exception]) -> None:
    """What names no file is refused."""
    with pytest.raises(error):
        File(bad)
