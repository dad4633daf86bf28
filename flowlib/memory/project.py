"""The memoizer of a run unless another is given: it remembers across runs, in a store beside the runs' directories.

The shell that joins keys, store and journal to the kernel.  Equal calls that are on their way at the same time are one:
the first runs, the others get its future.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from time import time
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.memoization import BatchMemoizer, Kept
from flowlib.dataflow.states import FINAL_STATES
from flowlib.errors import ConfigurationError
from flowlib.memory.calls import Call, Keys
from flowlib.memory.dump import dump, load, payload_of
from flowlib.memory.journal import HIT, MISS, SHARED, Journal, Look
from flowlib.memory.store import INLINE, LARGE, OBJECT, Entry, Facts, Store
from flowlib.memory.tidy import size_of, tidy
from flowlib.memory.values import Files
from flowlib.memory.why import Made

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord

_logger = logging.getLogger(__name__)

DIRECTORY = "memory"
"""Name of the store, in the directory of the runs."""
_MANY = 64


class _Flight:
    """A call that is on its way."""

    __slots__ = ("call", "record")

    def __init__(self, record: TaskRecord) -> None:
        self.record = record
        self.call: Call | None = None


class ProjectMemoizer(BatchMemoizer):
    """Remembers values across runs.

    Failures are not remembered.  A call counts as the same if the app, all project code that it reaches, and its
    arguments are the same.

    Args:
        directory: Of the store. None for ``memory`` in the directory of the runs, so one for each project.
        files: How files among arguments count: "content", or "stat" for size and time of last change.
        max_age: After how long a value is forgotten: seconds, or text like "30d"; None for never.
        max_size: Most bytes of values, the oldest go first: a number, or text like "20GB"; None for no limit.

    Raises:
        ConfigurationError: A value that makes no sense.

    Example:
        >>> from flowlib.config import Config
        >>> config = Config(memoizer=ProjectMemoizer(files="stat", max_size="10GB"))
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        files: str = "content",
        max_age: float | str | None = None,
        max_size: int | str | None = None,
    ) -> None:
        from flowlib.units import parse_size, parse_time

        Files(files)
        try:
            self.max_age = None if max_age is None else parse_time(max_age, "max_age")
            self.max_size = None if max_size is None else parse_size(max_size, "max_size")
        except (TypeError, ValueError) as e:
            raise ConfigurationError(f"ProjectMemoizer: {e}") from e
        self.directory = None if directory is None else os.fspath(directory)
        self.files = files
        self.hits = 0
        self.reused = 0
        self._lock = threading.Lock()
        self._flights: dict[bytes, _Flight] = {}
        self._run_dir = ""
        self._keys: Keys
        self._store: Store
        self._journal: Journal

    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        """See ``Memoizer``; the store is opened when the first call is looked up."""
        self._run_dir = os.path.abspath(run_dir)
        place = self.directory if self.directory is not None else os.path.join(config_run_dir, DIRECTORY)
        self._keys = Keys(Files(self.files))
        self._store = Store(place)
        self._journal = Journal(run_dir, self._store.directory)
        self._flights = {}
        self.hits = self.reused = 0

    def check_memo(self, task: TaskRecord) -> Future[Any] | None:
        """See ``Memoizer``; the future of an equal call that is on its way is not done yet.

        Raises:
            UnkeyableError: An argument has no key.
        """
        key, marks, out = self._keys.key(task)
        more = task.more()
        more.hashsum = key.hex()
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and flight.record is not task and flight.record.status not in FINAL_STATES:
                future = flight.record.future
                if future is not None:
                    self._judge(task, SHARED, flight.record.id)
                    return future
            self._flights[key] = own = _Flight(task)
        why = ""
        if task.options.refresh:
            why = "refresh=True"
        else:
            entry = self._store.get(key)
            if entry is not None:
                why = _missing_output(entry)
                known = self._value(entry) if not why else None
                if known is not None:
                    with self._lock:
                        self._flights.pop(key, None)
                    self._judge(task, HIT, entry.facts.task, entry.facts.run)
                    self._count(entry)
                    return known
                why = why or "its value was damaged, or cannot be rebuilt"
        own.call = call = self._keys.parts(task, key, marks, out)
        identity = call.identity
        made = Made(identity.name, identity.digest, call.arguments)
        look = Look(MISS, why, made=made)
        more.look = look, identity.components, self._store
        self._journal.note(task.id, look, identity.components)
        return None

    def _judge(self, task: TaskRecord, state: int, by: int, run: str = "") -> None:
        look = Look(state, "", by, run)
        task.more().look = look, None, self._store
        self._journal.note(task.id, look, None)

    def update_memo_result(self, task: TaskRecord, r: Any) -> None:
        """See ``Memoizer``."""
        from flowlib.dataflow.outcomes import Returned

        self.update_many([(task, Returned(r))])

    def update_many(self, batch: Sequence[tuple[TaskRecord, Any]]) -> None:
        """Tasks returned; their futures are done when this returns.

        Args:
            batch: Tasks and their outcomes.
        """
        entries: list[tuple[bytes, Facts, bytes]] = []
        keys: list[bytes] = []
        now = time()
        for task, outcome in batch:
            hexadecimal = None if task.rare is None else task.rare.hashsum
            key = b"" if hexadecimal is None else bytes.fromhex(hexadecimal)
            flight = self._flights.get(key)
            if flight is None or flight.record is not task or flight.call is None:
                continue
            keys.append(key)
            identity = flight.call.identity
            try:
                payload = payload_of(outcome)
                body = dump(outcome.value(), LARGE) if payload is None or len(payload) >= LARGE else payload
            except Exception as e:  # noqa: BLE001  # the user's pickling: the value stands, it is only not kept
                _logger.warning("the value of %s is not remembered: %s", task.describe(), e)
                continue
            kind, size = INLINE, len(body)
            if isinstance(body, list):
                size = sum([len(p) if isinstance(p, bytes) else p.nbytes for p in body])
                name = self._store.put_object(body)
                if name is None:
                    continue
                kind, body = OBJECT, name
            code = self._store.put_code(identity.name, identity.digest, identity.components)
            if code is not None:
                entries.append(code)
            outputs = _outputs(task) if task.rare is not None and task.rare.outputs else []
            facts = Facts(
                *(
                    kind,
                    identity.name,
                    now,
                    size,
                    identity.digest,
                    flight.call.arguments,
                    self._run_dir,
                    task.id,
                    outputs,
                )
            )
            entries.append((key, facts, body))
        if entries:
            self._store.put(entries)
        with self._lock:
            for key in keys:
                self._flights.pop(key, None)

    def update_memo_exception(self, task: TaskRecord, e: BaseException) -> None:
        """See ``Memoizer``: nothing is remembered; equal calls that wait for this one fail with it."""
        if task.rare is not None and task.rare.hashsum is not None:
            key = bytes.fromhex(task.rare.hashsum)
            with self._lock:
                flight = self._flights.get(key)
                if flight is not None and flight.record is task:
                    del self._flights[key]

    def close(self) -> None:
        """Let everything reach the disk; tidy where that is due."""
        self._journal.flush()
        directory = self._store.directory
        self._store.close()
        self._flights.clear()
        if self.reused:
            _say(f"flowlib: {self.reused} of {self.hits} remembered results were made by earlier runs")
        try:
            logs = [name for name in os.listdir(directory) if name.endswith(".log")]
        except OSError:
            return
        big = self.max_size is not None and size_of(directory) > self.max_size
        if big or len(logs) > _MANY or self.max_age is not None:
            try:
                tidy(directory, self.max_age, self.max_size)
            except OSError as e:
                _logger.warning("the store %r could not be tidied: %s", directory, e)

    def _value(self, entry: Entry) -> Future[Any] | None:
        """The value of an entry; None if it is damaged, or what it needs is gone."""
        data = self._store.load(entry)
        if data is None:
            return None
        try:
            value = load(data)
        except Exception as e:  # noqa: BLE001  # users' code rebuilds it; what it cannot is made anew
            _logger.warning("a remembered value of %s cannot be rebuilt, it is made again: %s", entry.facts.app, e)
            return None
        return Kept(value)

    def _count(self, entry: Entry) -> None:
        self.hits += 1
        if entry.facts.run != self._run_dir:
            self.reused += 1
            if self.reused == 1:
                _say(
                    f"flowlib: using results that earlier runs left in {self._store.directory}; "
                    "Config(memoizer=BasicMemoizer()) switches that off"
                )


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")


def _outputs(task: TaskRecord) -> list[tuple[str, int]]:
    found = []
    assert task.rare is not None
    for future in task.rare.outputs:
        file = future.file_obj
        if file.scheme == "file":
            path = os.path.abspath(file.path)
            try:
                found.append((path, os.stat(path).st_size))
            except OSError:
                # On a machine of its own, perhaps.
                continue
    return found


def _missing_output(entry: Entry) -> str:
    """What is wrong with the files that a call made; "" for nothing."""
    for path, size in entry.facts.outputs:
        try:
            found = os.stat(path).st_size
        except OSError:
            return f"its output {path} is not there any more"
        if found != size:
            return f"its output {path} was changed: {found} bytes, not {size}"
    return ""
