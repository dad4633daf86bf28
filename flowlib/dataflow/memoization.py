"""Remembering values of tasks: the interface of memoizers, the basic one, and the keys of calls.

``BasicMemoizer`` keeps a table for the run and, if told to, a checkpoint file that later runs read.  The file is a
sequence of pickled records that is only ever appended to, each by one write; a torn record at its end, as a killed
process leaves, ends the reading and loses nothing before it.
"""

from __future__ import annotations

import glob
import io
import logging
import os
import pickle
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from flowlib.dataflow.memokeys import id_for_memo as id_for_memo
from flowlib.dataflow.memokeys import key_of
from flowlib.errors import BadCheckpoint, ConfigurationError

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord

_logger = logging.getLogger(__name__)

CheckpointMode = Literal["task_exit", "periodic", "dfk_exit", "manual"]
MODES = ("task_exit", "periodic", "dfk_exit", "manual")
_FILE = "tasks.pkl"


class Memoizer(ABC):
    """Remembers what tasks of apps with ``cache=True`` returned: a plug-in.

    Its methods are called from several threads.
    """

    @abstractmethod
    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        """A run begins.

        Args:
            run_dir: The run's directory.
            config_run_dir: The directory of all runs.
        """

    @abstractmethod
    def check_memo(self, task: TaskRecord) -> Future[Any] | None:
        """What is remembered of a task, as a future that is done; None for nothing.

        Args:
            task: About to be launched; its ``args`` and ``kwargs`` hold values in place of futures.
        """

    @abstractmethod
    def update_memo_result(self, task: TaskRecord, r: Any) -> None:
        """A task returned ``r``; its future is done when this returns."""

    @abstractmethod
    def update_memo_exception(self, task: TaskRecord, e: BaseException) -> None:
        """A task failed for good with ``e``; its future is done when this returns."""

    @abstractmethod
    def close(self) -> None:
        """The run ends."""


class Kept(Future[Any]):
    """A remembered value as a future that is done: without what waiting needs, which nobody does.

    Args:
        value: The value.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def done(self) -> bool:
        """True."""
        return True

    def cancelled(self) -> bool:
        """False."""
        return False

    def result(self, timeout: float | None = None) -> Any:
        """The value."""
        return self.value

    def exception(self, timeout: float | None = None) -> None:
        """None."""


class BatchMemoizer(Memoizer):
    """A memoizer that is told of many values at a time."""

    @abstractmethod
    def update_many(self, batch: Sequence[tuple[TaskRecord, Any]]) -> None:
        """Tasks returned; their futures are done when this returns.

        Args:
            batch: Tasks, and outcomes with a ``value()``.
        """


class BasicMemoizer(Memoizer):
    """Remembers within a run, and across runs by checkpoint files.

    Args:
        checkpoint_files: Directories named ``checkpoint`` of earlier runs to read. None reads those of all runs if
            there is a mode, and none otherwise.
        checkpoint_period: "HH:MM:SS" between writes in mode "periodic"; None for half an hour.
        checkpoint_mode: When values are written: "task_exit" each before its future is done, "periodic", "dfk_exit"
            at the end of the run, "manual" by ``checkpoint()``; None for never.
        memoize: False remembers nothing.

    Raises:
        ConfigurationError: An unknown mode, or a period that is none.

    Example:
        >>> BasicMemoizer(checkpoint_mode="task_exit").checkpoint_mode
        'task_exit'
    """

    def __init__(
        self,
        *,
        checkpoint_files: Sequence[str] | None = None,
        checkpoint_period: str | None = None,
        checkpoint_mode: CheckpointMode | None = None,
        memoize: bool = True,
    ) -> None:
        if checkpoint_mode is not None and checkpoint_mode not in MODES:
            from flowlib.suggest import nearest

            raise ConfigurationError(f"no checkpoint_mode {checkpoint_mode!r}{nearest(str(checkpoint_mode), MODES)}")
        self.checkpoint_files = None if checkpoint_files is None else list(checkpoint_files)
        self.checkpoint_mode = checkpoint_mode
        self.checkpoint_period = checkpoint_period
        self.memoize = memoize
        self._period = 1800.0 if checkpoint_period is None else _seconds(checkpoint_period)
        self._lock = threading.Lock()
        self._table: dict[str, tuple[bool, Any]] = {}
        self._unwritten: list[tuple[str, Any]] = []
        self._directory = ""
        self._stopping = threading.Event()
        self._timer: threading.Thread | None = None

    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        """Read the checkpoint files.

        Raises:
            BadCheckpoint: One cannot be read.
        """
        self._directory = os.path.join(run_dir, "checkpoint")
        self._table = {}
        self._unwritten = []
        self._stopping.clear()
        directories = self.checkpoint_files
        if directories is None:
            directories = get_all_checkpoints(config_run_dir) if self.checkpoint_mode is not None else []
        for directory in directories:
            if _is_without_values(directory):
                continue
            for record in _read(os.path.join(directory, _FILE)):
                self._table[record["hash"]] = (True, record["result"])
        if self.checkpoint_mode == "periodic":
            self._timer = threading.Thread(target=self._run, name="flowlib-checkpoint", daemon=True)
            self._timer.start()

    def check_memo(self, task: TaskRecord) -> Future[Any] | None:
        """See ``Memoizer``.

        Raises:
            ValueError: An argument has a type that has no key; register one with ``id_for_memo``.
        """
        if not self.memoize:
            return None
        key = key_of(task)
        task.more().hashsum = key
        known = self._table.get(key)
        if known is None:
            return None
        future: Future[Any] = Future()
        good, value = known
        if good:
            future.set_result(value)
        else:
            future.set_exception(value)
        return future

    def update_memo_result(self, task: TaskRecord, r: Any) -> None:
        """See ``Memoizer``."""
        key = self._key(task)
        if key is None:
            return
        self._table[key] = (True, r)
        if self.checkpoint_mode == "task_exit":
            self._write([(key, r)])
        elif self.checkpoint_mode is not None:
            with self._lock:
                self._unwritten.append((key, r))

    def update_memo_exception(self, task: TaskRecord, e: BaseException) -> None:
        """See ``Memoizer``. Exceptions are remembered within the run only."""
        key = self._key(task)
        if key is not None:
            self._table[key] = (False, e)

    def checkpoint(self) -> str:
        """Write what is not written yet.

        Returns:
            The directory of the file, for ``checkpoint_files``.
        """
        with self._lock:
            records, self._unwritten = self._unwritten, []
        self._write(records)
        return self._directory

    def close(self) -> None:
        """Write what is not written yet, and stop the timer."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.join(5)
            self._timer = None
        if self.checkpoint_mode is not None:
            self.checkpoint()

    def _key(self, task: TaskRecord) -> str | None:
        return task.rare.hashsum if self.memoize and task.rare is not None else None

    def _run(self) -> None:
        while not self._stopping.wait(self._period):
            self.checkpoint()

    def _write(self, records: Sequence[tuple[str, Any]]) -> None:
        """Append records, those that can be pickled."""
        chunks: list[bytes] = []
        for key, value in records:
            try:
                chunks.append(pickle.dumps({"hash": key, "exception": None, "result": value}, 4))
            except Exception as e:  # noqa: BLE001  # the user's pickling: this value lives in this run only
                _logger.warning("a value of type %s is not checkpointed: %s", type(value).__name__, e)
        if not chunks:
            return
        os.makedirs(self._directory, exist_ok=True)
        data = memoryview(b"".join(chunks))
        with self._lock:
            fd = os.open(
                os.path.join(self._directory, _FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)


def get_all_checkpoints(rundir: str = "runinfo") -> list[str]:
    """Directories of the checkpoints of all runs, the oldest first.

    Args:
        rundir: Directory of the runs.
    """
    found = glob.glob(os.path.join(glob.escape(rundir), "[0-9]*", "checkpoint"))
    return [os.path.abspath(path) for path in sorted(found, key=_run_number)]


def get_last_checkpoint(rundir: str = "runinfo") -> list[str]:
    """Directory of the newest run's checkpoint, as a list of one; [] if there is none.

    Args:
        rundir: Directory of the runs.
    """
    return get_all_checkpoints(rundir)[-1:]


def _run_number(path: str) -> tuple[int, str]:
    name = os.path.basename(os.path.dirname(path))
    return (int(name) if name.isdecimal() else -1, path)


def _seconds(period: str) -> float:
    from flowlib.units import parse_time

    try:
        return parse_time(period, "checkpoint_period")
    except (TypeError, ValueError) as e:
        raise ConfigurationError(f"checkpoint_period is {period!r}, it must be HH:MM:SS: {e}") from e


def _is_without_values(directory: str) -> bool:
    """Whether this is where the checkpoint of a run would be which had nothing to write."""
    run = os.path.dirname(os.path.abspath(directory))
    return os.path.basename(directory) == "checkpoint" and not os.path.exists(directory) and os.path.isdir(run)


def _read(path: str) -> Iterator[dict[str, Any]]:
    """The records of a checkpoint file.

    Raises:
        BadCheckpoint: It is not there, or no checkpoint.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as e:
        raise BadCheckpoint(f"cannot read checkpoint {path!r}: {e}") from e
    stream = io.BytesIO(data)
    count = 0
    while (position := stream.tell()) < len(data):
        try:
            record = pickle.load(stream)  # noqa: S301  # a file that the user's own run wrote and names
            key, result = record["hash"], record["result"]
        except Exception as e:
            # Unpickling runs what the file says. At the file's start this is no checkpoint; later it is a torn tail.
            if count == 0:
                raise BadCheckpoint(f"{path!r} is no checkpoint, or of values that cannot be rebuilt: {e}") from e
            warnings.warn(
                f"checkpoint {path!r} ends in the middle of a record at byte {position}: {count} values were read",
                stacklevel=2,
            )
            return
        count += 1
        yield {"hash": key, "result": result}
