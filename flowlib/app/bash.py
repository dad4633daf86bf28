"""What executors run for a bash app: the body makes a command line, bash runs it, failures say what a person needs.

It runs on workers, so it imports little; ``flowlib.app.command`` starts and ends the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from time import monotonic, time
from types import CoroutineType
from typing import Any, NoReturn

from flowlib.app import command as commands
from flowlib.app.signature import SPECIAL, Signature, signature_of
from flowlib.app.streams import HEADER, Target, parse_stream
from flowlib.errors import (
    AppBadFormatting,
    AppTimeout,
    BadStdStreamFile,
    BashAppNoReturn,
    BashExitFailure,
    MissingOutputs,
)

_LINES = 20
_TAIL = 16 * 1024
_FLAGS = {
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "r+": os.O_WRONLY,
}


class BashCall:
    """A callable with the arguments of a bash app's body that runs the command line the body returns.

    Args:
        func: The body.
        name: The app's name.
        workdir: "block" to run in the current directory, "task" for a new one below it.

    Example:
        >>> BashCall(lambda word: f"test {word} = yes", "check")("yes")
        0
    """

    __slots__ = ("_signature", "func", "name", "workdir")

    def __init__(self, func: Callable[..., Any], name: str, workdir: str = "block") -> None:
        self.func = func
        self.name = name
        self.workdir = workdir
        self._signature: Signature | None = None

    def __getstate__(self) -> tuple[Callable[..., Any], str, str]:
        return self.func, self.name, self.workdir

    def __setstate__(self, state: tuple[Callable[..., Any], str, str]) -> None:
        self.func, self.name, self.workdir = state
        self._signature = None

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        """Run the app.

        Args:
            *args: For the body.
            **kwargs: For the body, and ``stdout``, ``stderr``, ``walltime`` (seconds) and ``outputs`` for us; the body
                gets those that it takes.

        Returns:
            0.

        Raises:
            BashAppNoReturn: The body returned nothing.
            AppBadFormatting: The body could not make its command line.
            ValueError: The body returned something else than a string.
            BadStdStreamFile: A stream's file cannot be opened.
            BashExitFailure: The command ended with another code than 0.
            AppTimeout: The walltime was over; the command was stopped with everything it started.
            MissingOutputs: The command ended well, but did not make its outputs.
        """
        began = monotonic()
        walltime = kwargs.get("walltime")
        stdout, stderr = (parse_stream(kwargs.get(name), name) for name in ("stdout", "stderr"))
        if self.workdir == "task":
            args = tuple(_absolute(a) for a in args)
            kwargs = {name: _absolute(value) for name, value in kwargs.items()}
        command = self._command(args, kwargs)
        directory = self._directory() if self.workdir == "task" else None
        opened: list[int] = []
        try:
            out, err, start = _open(stdout, stderr, command, opened)
            deadline = None if walltime is None else began + walltime
            variables = None if walltime is None else _deadline(time() + walltime - (monotonic() - began))
            ended = commands.run(
                command, stdout=out, stderr=err, directory=directory, deadline=deadline, variables=variables
            )
        finally:
            for fd in opened:
                os.close(fd)
        if ended.timeout is not None:
            tail = ended.stderr if stderr is None else _end_of_file(stderr.path, start)
            self._timed_out(command, walltime, stdout, stderr, directory, tail, ended.timeout)
        if ended.code != 0:
            tail = ended.stderr if stderr is None else _end_of_file(stderr.path, start)
            raise BashExitFailure(
                self.name,
                ended.code,
                command,
                "\n".join(tail.decode("utf-8", "replace").splitlines()[-_LINES:]),
                None if stdout is None else stdout.path,
                None if stderr is None else stderr.path,
                os.uname().nodename,
                directory or os.getcwd(),
            )
        self._check_outputs(kwargs.get("outputs") or (), directory)
        return 0

    def _command(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The command line, by the user's body."""
        signature = self._signature
        if signature is None:
            signature = self._signature = signature_of(self.func)
        kwargs = {k: v for k, v in kwargs.items() if signature.takes(k) or k not in SPECIAL}
        try:
            command = self.func(*args, **kwargs)
            if type(command) is CoroutineType:
                from flowlib.calling import run_call

                command = run_call(lambda: command, (), {})
        except (AttributeError, IndexError) as e:
            # What format strings and attribute look-ups in a body raise; anything else is the user's own.
            raise AppBadFormatting(
                f"bash app {self.name} could not make its command line: {type(e).__name__}: {e}"
            ) from e
        if command is None:
            raise BashAppNoReturn(
                f"bash app {self.name} returned nothing; its body must return the command line as a string"
            )
        if not isinstance(command, str):
            raise ValueError(
                f"Expected a str for bash_app commandline, got {type(command).__name__}: "
                f"{self.name} returned {command!r}"
            )
        if "\0" in command:
            raise ValueError(f"bash app {self.name} returned a command line with a null character: {command!r}")
        return command

    def _directory(self) -> str:
        """A new directory for one attempt; it stays when the task has ended."""
        import tempfile

        from flowlib.context import find_current

        task = find_current()
        label = self.name if task is None else f"{task.task_id:04}_{self.name}"
        label = "".join(c if c.isalnum() or c in "-_." else "_" for c in label)
        parent = os.path.abspath("task_dirs")
        os.makedirs(parent, exist_ok=True)
        return tempfile.mkdtemp(prefix=f"task_{label}_", dir=parent)

    def _timed_out(
        self,
        command: str,
        walltime: float | None,
        stdout: Target | None,
        stderr: Target | None,
        directory: str | None,
        tail: bytes,
        cause: BaseException,
    ) -> NoReturn:
        limit = "its walltime" if walltime is None else f"its walltime of {walltime:g} s"
        lines = [
            f"bash app {self.name} was stopped after {limit}, with everything it started",
            f"  command: {command}",
            f"  host: {os.uname().nodename}",
            f"  directory: {directory or os.getcwd()}",
        ]
        lines += [f"  {n}: {t.path}" for n, t in (("stdout", stdout), ("stderr", stderr)) if t is not None]
        errors = tail.decode("utf-8", "replace").splitlines()[-_LINES:]
        lines += ["  last lines of stderr:", *(f"    {line}" for line in errors)] if errors else []
        raise AppTimeout("\n".join(lines)) from (cause if isinstance(cause, AppTimeout) else None)

    def _check_outputs(self, outputs: Iterable[Any], directory: str | None) -> None:
        missing = [file for file in outputs if not os.path.exists(file)]
        if missing:
            where = directory or os.getcwd()
            raise MissingOutputs(f"bash app {self.name} ended well but did not make them, in {where}", missing)

    def __repr__(self) -> str:
        return f"BashCall({self.func!r}, {self.name!r}, {self.workdir!r})"


def _absolute(value: Any) -> Any:
    """``value`` with its relative Files made absolute: they mean the block's directory, not the task's."""
    if type(value) in (list, tuple):
        return type(value)(_absolute(item) for item in value)
    if not hasattr(value, "cleancopy") or os.path.isabs(value):
        return value
    # A copy: in an executor of this process the file is the caller's own.
    path, value = os.path.abspath(value), value.cleancopy()
    value.local_path = path
    return value


# ---------------------------------------------------------------------------------------------------------- streams


def _open(
    stdout: Target | None, stderr: Target | None, command: str, opened: list[int]
) -> tuple[int | None, int | None, int]:
    """Open the files of the streams.

    Returns:
        Their descriptors, and where the command's own errors start in the second file.
    """
    out = err = None
    start = 0
    if stdout is not None:
        out = _open_file(stdout)
        opened.append(out)
    if stderr is not None:
        if stdout is not None and out is not None and os.path.abspath(stdout.path) == os.path.abspath(stderr.path):
            # One file for both: two descriptors with positions of their own would overwrite each other's text.
            err = out
        else:
            err = _open_file(stderr)
            opened.append(err)
        try:
            _write_all(err, HEADER.format(command=command).encode("utf-8", "surrogateescape"))
            start = os.lseek(err, 0, os.SEEK_CUR)
        except OSError as e:
            raise BadStdStreamFile(f"{stderr.path} cannot be written: {e}") from e
    return out, err, start


def _open_file(target: Target) -> int:
    flags = _FLAGS[target.mode] | os.O_CLOEXEC
    try:
        try:
            fd = os.open(target.path, flags, 0o666)
        except FileNotFoundError:
            parent = os.path.dirname(target.path)
            if not parent:
                raise
            os.makedirs(parent, exist_ok=True)
            fd = os.open(target.path, flags, 0o666)
    except OSError as e:
        raise BadStdStreamFile(f"{target.path} cannot be opened on {os.uname().nodename}: {e}") from e
    return commands.high(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _end_of_file(path: str, start: int) -> bytes:
    """The last of a file, nothing from before ``start``; b"" if it cannot be read any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            return os.pread(fd, _TAIL, max(start, size - _TAIL))
        finally:
            os.close(fd)
    except OSError:
        # The message goes without; it names the path.
        return b""


def _deadline(own: float) -> dict[str, str]:
    """The variable that tells a command when its time is over: at its own walltime, or earlier with its batch job."""
    try:
        own = min(own, float(os.environ["FLOWLIB_DEADLINE"]))
    except (KeyError, ValueError):
        pass  # No job that ends: or something that is not ours.
    return {"FLOWLIB_DEADLINE": f"{own:.3f}"}
