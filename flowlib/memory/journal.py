"""What a run looked up: for each remembered call whether it was a hit, and what its key was made of.

``flowlib why`` reads it.  It is written in batches, beside the event log, and a run that cannot write it goes on.
"""

from __future__ import annotations

import os
import threading
from typing import Any, NamedTuple

import msgspec

from flowlib.memory.why import Made

NAME = "memory.log"
_BATCH = 256
_encode = msgspec.msgpack.Encoder().encode

MISS, HIT, SHARED = 0, 1, 2


class Look(NamedTuple):
    """What became of the look for a remembered value.

    Attributes:
        state: ``MISS``, ``HIT`` or ``SHARED``.
        remark: What else there is to say of a miss.
        task: The task that made the value, or makes it.
        run: Directory of its run; "" for this one.
        made: What the key of a miss was made of.
    """

    state: int
    remark: str = ""
    task: int = -1
    run: str = ""
    made: Made | None = None

    def told(self) -> str:
        """What there is to say; "" if that has to be found out."""
        if self.state == MISS:
            return self.remark
        if self.state == SHARED:
            return f"task {self.task} was the same call, and on its way"
        return f"made by task {self.task} of {self.run}"


class Journal:
    """A run's journal.

    Args:
        run_dir: The run's directory.
        store: The store's.
    """

    def __init__(self, run_dir: str, store: str) -> None:
        self._path = os.path.join(run_dir, NAME)
        self._lines: list[Any] = [["store", store]]
        self._codes: set[bytes] = set()
        self._lock = threading.Lock()
        self._works = True

    def note(self, task: int, look: Look, components: dict[str, bytes] | None) -> None:
        """Note what became of a look.

        Args:
            task: The task's number.
            look: That.
            components: What the app is made of.
        """
        lines = self._lines
        made = look.made
        if made is not None and components is not None and made.code not in self._codes:
            self._codes.add(made.code)
            lines.append(["code", made.code, components])
        lines.append((task, look))
        if len(lines) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            lines, self._lines = self._lines, []
            if not lines or not self._works or (lines == [lines[0]] and lines[0][0] == "store"):
                return
            data = b"".join([len(raw).to_bytes(4, "little") + raw for raw in map(_encode, lines)])
            try:
                with open(self._path, "ab") as file:
                    file.write(data)
            except OSError:
                # A full disk: what is lost is an explanation, and the store has told.
                self._works = False


class Looks(NamedTuple):
    """What a run looked up.

    Attributes:
        store: Directory of the store.
        tasks: The last look of each task.
        codes: What apps are made of.
    """

    store: str
    tasks: dict[int, Look]
    codes: dict[bytes, dict[str, bytes]]


def read(run_dir: str) -> Looks:
    """What a run looked up.

    Raises:
        FileNotFoundError: Nothing.
    """
    store = ""
    tasks: dict[int, Look] = {}
    codes: dict[bytes, dict[str, bytes]] = {}
    with open(os.path.join(run_dir, NAME), "rb") as file:
        data = file.read()
    at = 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data):
            break
        try:
            line = msgspec.msgpack.decode(data[at + 4 : end])
            if line[0] == "store":
                store = line[1]
            elif line[0] == "code":
                codes[line[1]] = line[2]
            else:
                tasks[line[0]] = msgspec.convert(line[1], Look)
        except (msgspec.DecodeError, msgspec.ValidationError, TypeError, ValueError, IndexError):
            # Damaged: lengths cannot be trusted any more.
            break
        at = end
    return Looks(store, tasks, codes)
