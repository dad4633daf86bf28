"""Writes the event log: takes records from any thread for the price of an append, and never makes a task wait.

``emit`` is the ``append`` of a deque.  One thread turns what has gathered there into frames, ten times a second while
there is something; another writes them, so that a disk that is full, slow or hangs holds up neither the tasks nor the
account of what had to be given up (see ``Backlog``).  What was written survives the death of the process.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any

from flowlib.console import say
from flowlib.events import framing
from flowlib.events.backlog import LIMIT, Backlog, Lost
from flowlib.events.schema import FIRST_SAMPLE, FORMAT, Code
from flowlib.version import VERSION

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from flowlib.events import Emit

_CHUNK = 1024
_RETRY = 1.0
_IDLE = 30.0
_logger = logging.getLogger(__name__)


class EventLog:
    """An event log that is being written.

    Args:
        path: The file; made with mode 0600, or continued.
        period: Seconds between looks at what was emitted; up to five times as long while nothing is.
        limit: Most bytes to keep while the disk takes nothing.
        write: What writes, for tests.

    Attributes:
        emit: Takes one record; see ``flowlib.events.Emit``.
        path: The file.

    Raises:
        OSError: The file cannot be opened. Later errors are counted and shown, not raised.

    Example:
        >>> import tempfile
        >>> with EventLog(tempfile.mkdtemp() + "/events.log") as log:
        ...     log.emit((Code.TASK_DONE, 1700000000.0, 7, 3))
        ...     log.flush()
        True
    """

    emit: Emit

    def __init__(
        self,
        path: str,
        *,
        period: float = 0.1,
        limit: int = LIMIT,
        write: Callable[[int, memoryview], int] = os.write,
    ) -> None:
        self.path = path
        self._period = period
        self._write = write
        self._queue: deque[tuple[Any, ...]] = deque()
        self.emit = self._queue.append
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._backlog = Backlog(limit)
        if os.fstat(self._fd).st_size == 0:
            self._backlog.add(framing.MAGIC, 0)
        self._wake = threading.Event()
        self._changed = threading.Condition()
        # A forked child has neither the threads nor a lock it could trust.
        self._pid = os.getpid()
        self._asked = 0
        self._encoded = 0
        self._closing = False
        self._all_encoded = False
        self._error: OSError | None = None
        self._told = False
        self._reason = ""
        self._encoder = threading.Thread(target=self._encode, name="flowlib-events", daemon=True)
        self._writer = threading.Thread(target=self._write_out, name="flowlib-events-file", daemon=True)
        self._encoder.start()
        self._writer.start()

    @property
    def lost(self) -> Lost:
        """How many records were given up because the disk did not take them."""
        return self._backlog.lost

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until everything emitted before is in the file.

        Args:
            timeout: Most seconds to wait.

        Returns:
            Whether it is.
        """
        if os.getpid() != self._pid:
            return False
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._wake.set()
            return self._changed.wait_for(
                lambda: self._encoded >= ticket and not self._backlog and self._error is None, timeout
            )

    def close(self, timeout: float = 1.0) -> bool:
        """Write what there is and end; records emitted from now on go nowhere.

        Args:
            timeout: Most seconds to wait for the disk; one that works takes a millisecond.

        Returns:
            Whether everything is in the file. If not, that is printed. In a process forked from the one that made the
            log this does nothing: the log is not its own.
        """
        if os.getpid() != self._pid:
            return False
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closing = True
            self._wake.set()
        self._encoder.join(max(0.0, deadline - time.monotonic()))
        self._writer.join(max(0.0, deadline - time.monotonic()))
        complete = not self._writer.is_alive() and not self._backlog and self.lost == (0, 0)
        if not complete and not self._told:
            self._tell()
        return complete

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------ thread "flowlib-events"

    def _encode(self) -> None:
        pause = self._period
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            ticket, closing = self._asked, self._closing
            pause = self._period if self._drain() else min(2 * pause, 5 * self._period)
            with self._changed:
                self._encoded = ticket
                self._all_encoded = closing
                self._changed.notify_all()
            if closing:
                return

    def _drain(self) -> bool:
        """Move what was emitted so far to the backlog; whether there was anything."""
        popleft, waiting = self._queue.popleft, len(self._queue)
        for start in range(0, waiting, _CHUNK):
            records = list(starmap(popleft, repeat((), min(_CHUNK, waiting - start))))
            events, samples = _sort(records)
            frames = framing.encode(events)
            sampled = framing.encode(samples)
            with self._changed:
                self._wait_for_room()
                for frame, count in frames:
                    self._backlog.add(frame, count)
                for frame, count in sampled:
                    self._backlog.add(frame, count, samples=True)
                if self._backlog.lost != (0, 0) and not self._told:
                    self._tell()
        return waiting > 0

    def _wait_for_room(self) -> None:
        """Let a disk that works catch up before anything is given up; call with the lock held."""
        while self._backlog.size > self._backlog.limit // 2 and self._error is None:
            before = self._backlog.size
            self._changed.notify_all()
            self._changed.wait(_RETRY)
            if self._backlog.size >= before:
                return

    # ------------------------------------------------------------------------------- thread "flowlib-events-file"

    def _write_out(self) -> None:
        try:
            while self._write_head():
                pass
        finally:
            os.close(self._fd)

    def _write_head(self) -> bool:
        """Write a piece, or wait for one; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._backlog) or self._all_encoded, _IDLE)
            head = self._backlog.head()
            if not head:
                return not self._all_encoded
        error: OSError | None = None
        try:
            count = self._write(self._fd, head)
        except OSError as e:
            count, error = 0, e
        else:
            if count == 0:
                error = OSError(errno.EIO, "nothing was written")
        with self._changed:
            if error is not None and self._error is None:
                _logger.warning("cannot write to the event log %s, trying again every second: %s", self.path, error)
            self._error = error
            if error is None:
                self._backlog.written(count)
                gap = self._backlog.unreported()
                if gap is not None:
                    for frame, records in framing.encode([(Code.DROPPED, time.time(), *gap, self._reason)]):
                        self._backlog.add(frame, records)
            else:
                self._reason = str(error)
            self._changed.notify_all()
            if error is not None:
                if self._all_encoded:
                    return False
                self._changed.wait_for(lambda: self._all_encoded, _RETRY)
        return True

    def _tell(self) -> None:
        """Show, once, that the log is not complete; the log file of the run may well be on the same disk."""
        self._told = True
        lost, error = self._backlog.lost, self._error
        if lost == (0, 0):
            what = f"{self._backlog.size} bytes are not written"
        else:
            what = f"{lost.events} events and {lost.samples} samples are missing so far"
        say(
            f"the event log {self.path} is incomplete, {what} "
            f"({error or 'the disk does not keep up'}); tasks are not affected"
        )


def _sort(records: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Events and samples; what is no record at all becomes a message about it."""
    try:
        samples = [record for record in records if record[0] >= FIRST_SAMPLE]
    except (TypeError, IndexError, KeyError):
        return _sort([record if _is_record(record) else _complaint(record) for record in records])
    if not samples:
        return records, samples
    return [record for record in records if record[0] < FIRST_SAMPLE], samples


def _is_record(record: Any) -> bool:
    return isinstance(record, tuple) and len(record) > 0 and isinstance(record[0], int)


def _complaint(record: Any) -> tuple[Any, ...]:
    return (Code.MESSAGE, time.time(), "error", "events", f"something that is no record was emitted: {record!r:.200}")


def run_started(run_id: str, run_dir: str, *, script: str = "", name: str = "", config: str = "") -> tuple[Any, ...]:
    """The first record of a run, with the facts about this process filled in.

    Args:
        run_id: The run's id.
        run_dir: Its directory.
        script: The user's script; "" for what Python was started with.
        name: The run's name, if it has one.
        config: Its Config as text.

    Returns:
        A record to emit.
    """
    import platform
    import socket

    return (
        *(Code.RUN_STARTED, time.time(), FORMAT, run_id, run_dir, script or sys.argv[0], os.getcwd(), _user()),
        *(socket.gethostname(), os.getpid(), platform.python_version(), VERSION, name, config),
    )


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # No entry for this user in the system's list, as in some containers.
        return str(os.getuid())
