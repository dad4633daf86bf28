"""Reads event logs: of runs that ended, of runs that live, and what is left of damaged ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flowlib.errors import ConfigurationError
from flowlib.events.framing import Damage, Parser, decode
from flowlib.events.schema import FORMAT

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_READ = 1024 * 1024


class EventReader:
    """An event log that is being read; each ``read`` goes on where the one before ended, so a live run can be followed.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be opened.

    Example:
        >>> import os, tempfile
        >>> from flowlib.events.log import EventLog
        >>> from flowlib.events.schema import Code
        >>> path = os.path.join(tempfile.mkdtemp(), "events.log")
        >>> with EventLog(path) as log:
        ...     log.emit((Code.TASK_DONE, 1700000000.0, 7, 3))
        >>> with EventReader(path) as reader:
        ...     list(reader.read())
        [[13, 1700000000.0, 7, 3]]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._parser = Parser()
        self._found = False

    @property
    def damage(self) -> list[Damage]:
        """What had to be skipped so far, in order."""
        return self._parser.damage

    @property
    def unfinished(self) -> int:
        """Bytes at the end that are no whole frame: being written, or torn if the writer is gone."""
        return self._parser.unfinished

    def read(self) -> Iterator[list[Any]]:
        """The records since the last call, as lists ``[code, time, ...]`` in the order of the file.

        Yields:
            Each record.

        Raises:
            ConfigurationError: The file is no event log, or a newer flowlib wrote it.
        """
        while True:
            data = self._file.read(_READ)
            payloads = self._parser.feed(data) if data else self._parser.at_end()
            if self._parser.format > FORMAT:
                raise ConfigurationError(
                    f"{self.path!r} has format {self._parser.format}, this flowlib reads up to {FORMAT}: "
                    "use the flowlib that wrote it, or a newer one"
                )
            for payload in payloads:
                self._found = True
                yield from decode(payload)
            if not data:
                if not self._found and self.damage and self._parser.format == 0:
                    raise ConfigurationError(
                        f"{self.path!r} is no event log; give a run's directory or its events.log, "
                        "for example runinfo/000"
                    )
                return

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
