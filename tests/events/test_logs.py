"""Logs: what is attached hears what it asked for, what is detached leaves no trace."""

from __future__ import annotations

import io
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowlib.logs import (
    FileLogging,
    JSONLogging,
    LogConfig,
    NoopLogging,
    initialize_logging,
    set_file_logger,
    set_stream_logger,
)

logger = logging.getLogger("flowlib.tests.logs")


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    """Every test leaves the loggers as they were."""
    root = logging.getLogger("flowlib")
    before = root.level, list(root.handlers)
    yield
    assert (root.level, root.handlers) == before


def test_nothing_is_made_for_nobody() -> None:
    """Without handlers debug and info messages are not even built."""
    assert not logger.isEnabledFor(logging.INFO)


def test_level_follows_the_most_curious() -> None:
    """Messages are made for the lowest level that somebody listens to, and each handler gets its own."""
    loud, quiet = io.StringIO(), io.StringIO()
    stop_quiet = set_stream_logger(level=logging.WARNING, stream=quiet)
    assert not logger.isEnabledFor(logging.INFO)
    stop_loud = set_stream_logger(level=logging.DEBUG, stream=loud, format_string="%(levelname)s %(message)s")
    logger.debug("detail")
    logger.warning("trouble")
    stop_loud()
    assert not logger.isEnabledFor(logging.INFO)
    logger.warning("more")
    stop_quiet()
    stop_quiet()
    logger.warning("unheard")
    assert loud.getvalue() == "DEBUG detail\nWARNING trouble\n"
    assert [line.rsplit("] ", 1)[1] for line in quiet.getvalue().splitlines()] == ["trouble", "more"]


def test_own_level_of_the_user_is_kept() -> None:
    """A level that the user had set comes back."""
    root = logging.getLogger("flowlib")
    root.setLevel(logging.ERROR)
    try:
        stop = set_stream_logger(stream=io.StringIO())
        assert root.level == logging.DEBUG
        stop()
        assert root.level == logging.ERROR
    finally:
        root.setLevel(logging.NOTSET)


def test_stream_hears_failing_callbacks(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error is the default, and what futures log about callbacks is heard, too."""
    stop = set_stream_logger()
    logging.getLogger("concurrent.futures").error("a callback failed")
    stop()
    assert "a callback failed" in capsys.readouterr().err


def test_file(tmp_path: Path) -> None:
    """A file logger appends, any text, and closes its file at the end."""
    file = tmp_path / "x.log"
    for text in ("one", "two \udc80 é"):
        stop = set_file_logger(file, level=logging.INFO, format_string="%(message)s")
        logger.info(text)
        stop()
    assert file.read_text(encoding="utf-8") == "one\ntwo \\udc80 é\n"


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        (True, ["flowlib.log"]),
        (False, []),
        (FileLogging(level=logging.DEBUG), ["flowlib.log"]),
        (JSONLogging(), ["flowlib.jsonlog"]),
        (NoopLogging(), []),
    ],
)
def test_configurations(setting: bool | LogConfig, names: list[str], tmp_path: Path) -> None:
    """Each setting makes its file, also after a journey to another process."""
    setting = pickle.loads(pickle.dumps(setting))
    stop = initialize_logging(setting, str(tmp_path))
    logger.info("hello")
    stop()
    assert [file.name for file in tmp_path.iterdir()] == names
    for name in names:
        assert "hello" in (tmp_path / name).read_text()


def test_json(tmp_path: Path) -> None:
    """A line is an object with the message, where it came from, what went wrong and everything extra."""
    stop = initialize_logging(JSONLogging(), str(tmp_path))
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed %s", "here", extra={"flowlib.task": 7, "flowlib.where": Path("/x")})
    stop()
    line = json.loads((tmp_path / "flowlib.jsonlog").read_text())
    assert (line["message"], line["level"], line["logger"]) == ("failed here", "ERROR", "flowlib.tests.logs")
    assert (line["flowlib.task"], line["flowlib.where"]) == (7, "/x")
    assert "ValueError: bad" in line["exception"]


def test_full_disk_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A log that cannot be written says so once and disturbs nobody."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    stop = set_file_logger("/dev/full")
    logger.warning("one")
    logger.warning("two")
    stop()
    err = capsys.readouterr().err
    assert err.count("cannot write to the log /dev/full") == 1
    assert "Traceback" not in err
