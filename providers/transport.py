"""Runs a scheduler's commands and places files where its jobs find them; here, on the machine where the script runs.

It is an object of its own so that a login node that is reached over a network can take its place: a provider uses
nothing of the machine but this.  A scheduler's command may hang for as long as its daemon does, so each has a deadline,
after which it is killed with everything it started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Protocol

from flowlib.providers.base import RemoteSide
from flowlib.providers.dialect import NOT_FOUND, Reply

OUTPUT_LIMIT = 64 * 1024 * 1024
"""Most bytes of a command's output that are read."""

_FORMATS = ("SQUEUE_", "SACCT_", "SINFO_", "BJOBS_", "LSB_BJOBS_", "FLUX_JOBS_")


class Transport(Protocol):
    """Where a scheduler's commands are run."""

    def run(self, argv: Sequence[str], *, input: str | None = None, timeout: float, query: bool = False) -> Reply:
        """Run a command.

        Args:
            argv: The command and its arguments; no shell sees them.
            input: Path of a file to be its standard input; None for an empty one.
            timeout: Seconds after which it is killed.
            query: Whether it only asks: its output is then in no language and no format of the user's.

        Returns:
            What came of it. A command that is not there has the exit code 127.
        """

    def put(self, files: Mapping[str, str], mode: int = 0o700) -> None:
        """Write new files, in directories that are made where needed.

        Args:
            files: Contents by path.
            mode: Their permissions.

        Raises:
            FileExistsError: One is there already.
            OSError: One cannot be written.
        """

    def read(self, path: str) -> str | None:
        """The start of a file, None if it is not there."""

    @property
    def tunnel(self) -> bool:
        """Whether jobs reach this machine by connections that begin here, so that nothing needs to listen outside."""

    def place(self, directory: str, ask: bool = True) -> str:
        """The directory there that stands for one of this machine.

        Args:
            directory: Of this machine; absolute.
            ask: Whether there may be a connection made to find out.
        """

    def bring(self, path: str) -> str:
        """Bring the end of a file here for people to read; where it is."""

    def deliver(self, files: Mapping[str, bytes], job_name: str) -> str | None:
        """Put private files where jobs can read them; their directory. None where a directory of this machine does."""

    def remote_side(self, home: tuple[str, int], python: str | None, directory: str) -> RemoteSide | None:
        """See ``ExecutionProvider.remote_side``; ``directory`` is one of this machine, for logs."""

    def rest(self) -> None:
        """There is no job any more: keep nothing open. May be used again."""


class LocalTransport:
    """The transport for this machine."""

    tunnel = False

    def place(self, directory: str, ask: bool = True) -> str:
        """The directory itself."""
        return directory

    def bring(self, path: str) -> str:
        """The file itself."""
        return path

    def deliver(self, files: Mapping[str, bytes], job_name: str) -> str | None:
        """None: jobs see this machine's file system."""
        return None

    def remote_side(self, home: tuple[str, int], python: str | None, directory: str) -> RemoteSide | None:
        """None: jobs have this machine's network and files."""
        return None

    def rest(self) -> None:
        """Nothing is open."""

    def run(self, argv: Sequence[str], *, input: str | None = None, timeout: float, query: bool = False) -> Reply:
        """Run a command here; see ``Transport.run``."""
        environment = dict(os.environ)
        if query:
            environment = {k: v for k, v in environment.items() if not k.startswith(_FORMATS)}
            environment["LC_ALL"] = "C.UTF-8"
        # Files, not pipes: some schedulers' commands leave helpers behind that hold what they inherited.
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            open(input or os.devnull, "rb") as source,
        ):
            try:
                process = subprocess.Popen(
                    list(argv), stdin=source, stdout=out, stderr=err, env=environment, start_new_session=True
                )
            except (FileNotFoundError, NotADirectoryError, PermissionError) as e:
                return Reply(NOT_FOUND, "", f"{argv[0]}: {e.strerror}")
            code: int | None
            try:
                code = process.wait(timeout)
            except BaseException as e:
                _kill(process)
                if not isinstance(e, subprocess.TimeoutExpired):
                    raise
                code = None
            for file in (out, err):
                file.seek(0)
            texts = [file.read(OUTPUT_LIMIT).decode(errors="replace") for file in (out, err)]
        return Reply(code if code is None or code >= 0 else 128 - code, *texts)

    def put(self, files: Mapping[str, str], mode: int = 0o700) -> None:
        """Write files here; see ``Transport.put``."""
        for path, text in files.items():
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)

    def read(self, path: str) -> str | None:
        """The first part of a file here."""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read(65536)
        except OSError:
            return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started; it was told nothing before, since it may be hung in its daemon's hands."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass  # it hangs in the kernel, in a dead file system for instance; nobody can wait for that
