"""The part of a batch scheduler that is only text: what its scripts, commands and answers look like.

A dialect makes argument lists and reads what commands printed; it runs nothing and knows no time.  So each scheduler is
one small file, tested on recorded answers, and everything that is hard (deadlines, lost answers, vanished jobs) is
written once, in ``flowlib.providers.batch``.
"""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowlib.errors import ConfigurationError
from flowlib.jobs.states import JobState

NOT_FOUND = 127
"""Exit code of a command that is not installed, as shells have it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a command.

    Attributes:
        code: Its exit code; None if it did not end within its time and was killed.
        stdout: What it printed.
        stderr: What it printed as errors.
    """

    code: int | None
    stdout: str = ""
    stderr: str = ""

    @property
    def said(self) -> str:
        """Everything it printed, errors first, on few lines: for messages and for looking for words."""
        return "\n".join(t for t in (self.stderr.strip(), self.stdout.strip()) if t)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A job that was not accepted, or perhaps was.

    Attributes:
        why: One line.
        retryable: Whether the same order may be accepted later.
        unsure: Whether the job may exist all the same: the scheduler's answer was lost, not its work.
    """

    why: str
    retryable: bool
    unsure: bool = False


class QueryFailed(Exception):
    """A question was not answered. That says nothing of any job."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a scheduler says of one job.

    Attributes:
        state: Its state.
        reason: The scheduler's words, if any.
        exit_code: Once it ended, if told; 128 + n for signal n.
        remove: Whether it ended or never will run, but stays in the queue until somebody removes it.
    """

    state: JobState
    reason: str = ""
    exit_code: int | None = None
    remove: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be written down.

    Attributes:
        name: Unique name.
        nodes: Nodes.
        tasks_per_node: Managers on each.
        walltime_s: Seconds until the scheduler ends it.
        script: Path of the job's script, as the job sees it.
    """

    name: str
    nodes: int
    tasks_per_node: int
    walltime_s: float
    script: str

    @property
    def stdout(self) -> str:
        """Path of the job's standard output."""
        return f"{self.script}.out"

    @property
    def stderr(self) -> str:
        """Path of the job's standard error."""
        return f"{self.script}.err"

    @property
    def exit_file(self) -> str:
        """Path of the file in which the script leaves its exit code."""
        return f"{self.script}.ec"


class Dialect(ABC):
    """One scheduler's commands and answers.

    Attributes:
        label: Name of the scheduler, as in provider labels.
        directive: What the lines of a script that are meant for the scheduler start with.
        name_limit: Most characters of a job name.
        transient: What refusals say that may be no more in a minute.
        unsure: What failures say after which the job may exist all the same.
        permanent: What refusals say that will be the same next time, tried before ``transient``.
    """

    label: str
    directive: str
    name_limit = 60
    transient: re.Pattern[str]
    unsure: re.Pattern[str]
    permanent: re.Pattern[str]

    # ------------------------------------------------------------------------------------------------- submit

    @abstractmethod
    def header(self, order: Order) -> list[str]:
        """Options of the job, one for each directive."""

    def environment(self, order: Order) -> list[str]:
        """Shell lines before the launcher's text."""
        return []

    def job_name(self, name: str, token: str) -> str:
        """A name that the scheduler takes, is unique by ``token``, and begins like ``name``."""
        start = name if name[:1].isalpha() else f"j{name}"
        return f"{start[: self.name_limit - len(token) - 1].rstrip('.-_')}.{token}"

    def files(self, order: Order, body: Sequence[str]) -> dict[str, str]:
        """The files of a job by path; its script has the path that the order says.

        Raises:
            ConfigurationError: The path holds a line break, which ends directives.
        """
        if any(c in order.script for c in "\n\r"):
            raise ConfigurationError(f"script_dir {order.script!r} holds a line break, which no directive can")
        lines = ["#!/bin/bash", *(f"{self.directive} {option}" for option in self.header(order)), *body]
        return {order.script: "\n".join(lines) + "\n"}

    @abstractmethod
    def submit(self, order: Order) -> list[str]:
        """The command that submits the job."""

    def submit_input(self, order: Order) -> str | None:
        """Path of a file that the submit command reads as its standard input."""
        return None

    @abstractmethod
    def read_id(self, reply: Reply) -> str | None:
        """The new job's id in the answer of a submit command that succeeded; None if there is none."""

    def read_submit(self, reply: Reply) -> str | Refusal:
        """The new job's id, or why there is none."""
        command = f"the {self.label} submit command"
        if reply.code is None:
            return Refusal(f"{command} did not end in time", retryable=True, unsure=True)
        if reply.code == 0:
            found = self.read_id(reply)
            if found is not None:
                return found
            return Refusal(f"{command} printed no job id that can be read", retryable=True, unsure=True)
        if reply.code == NOT_FOUND and not reply.stdout:
            return Refusal(f"{command} is not there: is this a login node?", retryable=False)
        said = reply.said
        if self.unsure.search(said):
            return Refusal(f"the answer of {self.label} was lost", retryable=True, unsure=True)
        if self.permanent.search(said):
            return Refusal(f"{self.label} refused it", retryable=False)
        if self.transient.search(said):
            return Refusal(f"{self.label} does not take it now", retryable=True)
        return Refusal(f"{self.label} refused it", retryable=False)

    # ------------------------------------------------------------------------------------------------- queries

    @abstractmethod
    def status(self, ids: Sequence[str]) -> list[str]:
        """The command that tells the state of jobs."""

    @abstractmethod
    def read_status(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """The states of jobs; those that the scheduler said it does not know are left out.

        Raises:
            QueryFailed: The question was not answered.
        """

    def history(self, ids: Sequence[str]) -> list[list[str]]:
        """The commands that tell what became of jobs that left the queue; [] if there are none."""
        return []

    def read_history(self, reply: Reply, ids: Sequence[str]) -> dict[str, Seen]:
        """What became of jobs; those that the accounting does not know are left out.

        Raises:
            QueryFailed: The question was not answered.
        """
        raise QueryFailed(f"{self.label} has no accounting")

    @abstractmethod
    def find(self, name: str) -> list[str]:
        """The command that tells the ids of jobs of this name."""

    @abstractmethod
    def read_find(self, reply: Reply, name: str) -> list[str]:
        """Ids of the jobs of this name.

        Raises:
            QueryFailed: The question was not answered.
        """

    # -------------------------------------------------------------------------------------------------- cancel

    @abstractmethod
    def cancel(self, ids: Sequence[str]) -> list[str]:
        """The command that ends jobs, running or not."""

    def read_cancel(self, reply: Reply, ids: Sequence[str]) -> list[bool]:
        """For each job whether it will end, or has ended before."""
        return [reply.code == 0] * len(ids)


def failed(reply: Reply, command: str) -> QueryFailed:
    """The error for an answer that is none."""
    if reply.code is None:
        return QueryFailed(f"{command} did not answer in time")
    return QueryFailed(f"{command} failed with exit code {reply.code}: {reply.said or 'it said nothing'}")


def option_lines(text: str, directive: str) -> list[str]:
    """A user's ``scheduler_options`` as options, whether or not they wrote the directive in front.

    Args:
        text: One option a line.
        directive: As in ``Dialect``.

    Example:
        >>> option_lines("#SBATCH --mail-type=END\\n--reservation=tutorial\\n", "#SBATCH")
        ['--mail-type=END', '--reservation=tutorial']
    """
    stripped = (line.strip() for line in text.splitlines())
    return [line.removeprefix(directive).strip() for line in stripped if line]


def quoted(value: str) -> str:
    """A value in a directive: as it is, or in double quotes, which all schedulers' own parsers take."""
    if re.fullmatch(r"[\w@%+=:,./\[\]-]+", value, re.ASCII):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, rounded up to seconds.

    Example:
        >>> clock(90061.5)
        '25:01:02'
    """
    whole = -int(-seconds // 1)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def minutes(seconds: float) -> int:
    """Minutes, rounded up."""
    return max(1, -int(-seconds // 60))


def exports(values: Mapping[str, object]) -> list[str]:
    """Shell lines that set variables; those that are None are left out."""
    return [f"export {name}={shlex.quote(str(value))}" for name, value in values.items() if value is not None]
