"""What an SSH provider remembers of its jobs, and how it wakes those who watch it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from flowlib.jobs.states import JobState, JobStatus
from flowlib.ssh.places import Place

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """A block."""

    id: str
    name: str
    places: Sequence[Place]
    script: str | None
    output: tuple[str | None, str | None] = field(default=(None, None))

    @property
    def over(self) -> bool:
        """Whether all of its places have ended."""
        return all(place.ended.is_set() for place in self.places)

    def status(self, waits: str = "") -> JobStatus:
        """One state for all of its places."""
        states = [place.state for place in self.places]
        out, err = self.output
        if not self.over:
            running = [place for place in self.places if place.state is JobState.RUNNING]
            waiting = [p for p in self.places if p.state is JobState.PENDING]
            message = "; ".join(
                dict.fromkeys(p.message if p.host else waits or p.message for p in (*running, *waiting))
            )
            return JobStatus(JobState.RUNNING if running else JobState.PENDING, message, None, out, err, self.script)
        for state in (JobState.FAILED, JobState.CANCELLED):
            if state in states:
                place = self.places[states.index(state)]
                return JobStatus(state, place.message, place.code, out, err, self.script)
        return JobStatus(JobState.COMPLETED, self.places[0].message, self.places[0].code, out, err, self.script)

    def keep_output(self) -> None:
        """Write the last words of all places to files here, and their managers' logs to where they would be."""
        for place in self.places:
            for name, content in place.logs.items():
                path = os.path.normpath(os.path.join(place.work.logdir, name))
                if place.work.logdir and path.startswith(place.work.logdir + os.sep):
                    write(path, content)
        if self.script is None:
            return
        out, err = f"{self.script}.out", f"{self.script}.err"
        if write(out, b"".join(p.out for p in self.places)) and write(err, b"".join(p.err for p in self.places)):
            self.output = (out, err)


class Bell:
    """A pipe that wakes whoever watches the provider."""

    def __init__(self) -> None:
        self._read = self._write = -1

    def hang(self) -> None:
        """Make the pipe, if there is none."""
        if self._read < 0:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)

    def ring(self) -> None:
        """Make it readable."""
        if self._write >= 0:
            try:
                os.write(self._write, b"!")
            except BlockingIOError:
                pass  # it rings already

    def hush(self) -> None:
        """Make it unreadable."""
        if self._read >= 0:
            try:
                while len(os.read(self._read, 4096)) == 4096:
                    pass
            except BlockingIOError:
                pass

    def descriptors(self) -> list[int]:
        """What to poll; [] while there is no pipe."""
        return [self._read] if self._read >= 0 else []

    def take_down(self) -> None:
        """Close the pipe."""
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1


def write(path: str, content: bytes) -> bool:
    """Keep something for people to read; whether that worked."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    except OSError as e:
        logger.warning("%s cannot be written: %s", path, e)
        return False
    return True
