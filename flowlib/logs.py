"""Where flowlib's log messages go: a file per run by default, and whatever the user switches on.

Messages are for people who look into a run; nothing is logged per task (the event log has that), so they cost a
task nothing.  All loggers are below ``flowlib``, and their level follows the most curious handler: with nothing
attached, messages are not even made.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from json import dumps
from typing import TextIO

from flowlib.console import say

DEFAULT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s [%(process)d %(threadName)s] %(message)s"

Unregister = Callable[[], None]
"""Detaches what was attached; calling it again does nothing."""

_lock = threading.Lock()
_attached: dict[str, list[logging.Handler]] = {}
_own_level: dict[str, int] = {}


class LogConfig(ABC):
    """How the processes of a run keep their logs, for ``Config(initialize_logging=...)``.

    A configuration is pickled and used in every process, so it holds values, no open files.
    """

    @abstractmethod
    def initialize_logging(self, *, log_dir: str, log_name: str) -> Unregister:
        """Start the log of this process.

        Args:
            log_dir: Existing directory for it.
            log_name: Name for it, without ending: "flowlib", "interchange", "manager" ...

        Returns:
            What ends the log.

        Raises:
            OSError: The log cannot be opened.
        """


class FileLogging(LogConfig):
    """Lines of text in ``<log_name>.log``; what ``initialize_logging=True`` stands for.

    Args:
        format_string: Format as for ``logging.Formatter``; None for time, level, logger, process and thread.
        level: Lowest level that is kept.
    """

    def __init__(self, format_string: str | None = None, level: int = logging.INFO) -> None:
        self.format_string = format_string
        self.level = level

    def initialize_logging(self, *, log_dir: str, log_name: str) -> Unregister:
        """Start the log of this process; see ``LogConfig``."""
        return set_file_logger(os.path.join(log_dir, f"{log_name}.log"), "flowlib", self.level, self.format_string)

    def __repr__(self) -> str:
        return f"FileLogging(format_string={self.format_string!r}, level={self.level!r})"


class JSONLogging(LogConfig):
    """One JSON object per line in ``<log_name>.jsonlog``.

    Each has ``time`` (Unix seconds), ``level``, ``logger``, ``message``, ``process``, ``thread``, ``file``, ``line``,
    ``exception`` where there is one, and everything given as ``extra`` under its own name.

    Args:
        level: Lowest level that is kept.
    """

    def __init__(self, level: int = logging.INFO) -> None:
        self.level = level

    def initialize_logging(self, *, log_dir: str, log_name: str) -> Unregister:
        """Start the log of this process; see ``LogConfig``."""
        handler = _FileHandler(os.path.join(log_dir, f"{log_name}.jsonlog"))
        handler.setFormatter(_JSONFormatter())
        return _attach(handler, ["flowlib"], self.level)

    def __repr__(self) -> str:
        return f"JSONLogging(level={self.level!r})"


class NoopLogging(LogConfig):
    """No logs."""

    def initialize_logging(self, *, log_dir: str, log_name: str) -> Unregister:
        """Do nothing; see ``LogConfig``."""
        return lambda: None

    def __repr__(self) -> str:
        return "NoopLogging()"


def initialize_logging(setting: bool | LogConfig, log_dir: str, log_name: str = "flowlib") -> Unregister:
    """Start the log that a Config's ``initialize_logging`` asks for.

    Args:
        setting: True for ``FileLogging()``, False for none, or a ``LogConfig``.
        log_dir: Directory for it.
        log_name: Name for it, without ending.

    Returns:
        What ends the log.

    Raises:
        OSError: The log cannot be opened.
    """
    if setting is True:
        setting = FileLogging()
    if setting is False:
        return lambda: None
    return setting.initialize_logging(log_dir=log_dir, log_name=log_name)


def set_stream_logger(
    name: str = "flowlib", level: int = logging.DEBUG, format_string: str | None = None, stream: TextIO | None = None
) -> Unregister:
    """Print log messages.

    Args:
        name: Logger to listen to.
        level: Lowest level that is printed.
        format_string: Format as for ``logging.Formatter``; None for time, level, logger, process and thread.
        stream: Where to; None for standard error.

    Returns:
        A function that ends it.

    Example:
        >>> stop = set_stream_logger(level=logging.WARNING)
        >>> stop()
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(logging.Formatter(format_string or DEFAULT_FORMAT))
    return _attach(handler, [name, "concurrent.futures"], level)


def set_file_logger(
    filename: str | os.PathLike[str],
    name: str = "flowlib",
    level: int = logging.DEBUG,
    format_string: str | None = None,
) -> Unregister:
    """Append log messages to a file.

    Args:
        filename: The file.
        name: Logger to listen to.
        level: Lowest level that is written.
        format_string: Format as for ``logging.Formatter``; None for time, level, logger, process and thread.

    Returns:
        A function that ends it and closes the file.

    Raises:
        OSError: The file cannot be opened.
    """
    handler = _FileHandler(filename)
    handler.setFormatter(logging.Formatter(format_string or DEFAULT_FORMAT))
    return _attach(handler, [name, "concurrent.futures"], level)


def _attach(handler: logging.Handler, names: list[str], level: int) -> Unregister:
    handler.setLevel(level)
    with _lock:
        for name in names:
            logger = logging.getLogger(name)
            if not _attached.get(name):
                _own_level[name] = logger.level
            _attached.setdefault(name, []).append(handler)
            logger.addHandler(handler)
            _follow(name)

    def unregister() -> None:
        with _lock:
            for name in names:
                if handler in _attached[name]:
                    _attached[name].remove(handler)
                    logging.getLogger(name).removeHandler(handler)
                    _follow(name)
        handler.close()

    return unregister


def _follow(name: str) -> None:
    """Let the logger make the messages that some handler keeps, and no others; call with the lock held."""
    logger, handlers = logging.getLogger(name), _attached[name]
    if not handlers:
        logger.setLevel(_own_level[name])
        return
    curious = min(handler.level for handler in handlers)
    own = _own_level[name]
    logger.setLevel(min(curious, own) if own else curious)


class _FileHandler(logging.FileHandler):
    """A file log that says once that it cannot write, instead of a traceback per message."""

    def __init__(self, filename: str | os.PathLike[str]) -> None:
        super().__init__(filename, encoding="utf-8", errors="backslashreplace")
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        else:
            self._tell(error)

    def close(self) -> None:
        try:
            super().close()
        except OSError as e:
            self._tell(e)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            say(f"cannot write to the log {self.baseFilename}: {error}")


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            "thread": record.threadName,
            "file": record.pathname,
            "line": record.lineno,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        return dumps(line, default=str)
