"""Running one command line in bash: started fast, waited for with a deadline, ended with everything it started.

``posix_spawn`` does not copy the process, so a large driver or worker starts commands as fast as a small one.  Each
command leads a session of its own: a signal to its group reaches its children and never us.  Nothing here depends on
signal handlers or on the main thread, and only our own child is ever waited for.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import threading
from collections.abc import Mapping
from time import monotonic
from typing import NamedTuple

from flowlib.errors import AppException, AppTimeout

GRACE = 1.0
"""Seconds between asking a command to end and killing it."""

_TAIL = 16 * 1024
_READ = 64 * 1024
_LONGEST = 100_000
_KILLED = 10.0
_SCRIPT = 9

_RESET = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}

_running: set[int] = set()
_registered = False


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: Exit code as bash reports it: 128 + n after signal n.
        stderr: The end of its standard error, where that was not redirected.
        timeout: What stopped it, if its time was over.
    """

    code: int
    stderr: bytes
    timeout: BaseException | None


def run(
    command: str,
    *,
    stdout: int | None = None,
    stderr: int | None = None,
    directory: str | None = None,
    deadline: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> Ended:
    """Run ``bash -c command`` to its end.

    When it fails, is stopped, or an exception arrives here, what is left of its process group is killed; what a
    successful command left in the background goes on.

    Args:
        command: The command line.
        stdout: File descriptor for its output; None for this process's own.
        stderr: File descriptor for its errors; None for this process's own, with the last of it kept.
        directory: Where it runs; None for the current directory.
        deadline: When it is stopped, on the clock of ``time.monotonic()``; None for never.
        variables: Environment variables to set for it.

    Raises:
        AppException: Bash cannot be started, or its exit code cannot be had.
    """
    read = write = None
    if stderr is None:
        read, write = _pipe()
    tail = _Tail(read)
    try:
        try:
            pid = _spawn(command, stdout, write if stderr is None else stderr, directory, variables)
        finally:
            if write is not None:
                os.close(write)
    except BaseException:
        tail.close()
        raise
    _running.add(pid)
    try:
        return _wait(pid, tail, deadline)
    finally:
        _running.discard(pid)


# --------------------------------------------------------------------------------------------------------- starting


def _spawn(
    command: str,
    stdout: int | None,
    stderr: int | None,
    directory: str | None,
    variables: Mapping[str, str] | None = None,
) -> int:
    global _registered
    if not _registered:
        _registered = True
        atexit.register(_kill_running)
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    ]
    actions += [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in ((stdout, 1), (stderr, 2)) if fd is not None]
    script = None
    text = command.encode("utf-8", "surrogateescape")
    try:
        if len(text) > _LONGEST:
            # One argument may have 128 KiB on Linux.
            script = _script_file(text)
            actions.append((os.POSIX_SPAWN_DUP2, script, _SCRIPT))
            text = b". /dev/fd/%d" % _SCRIPT
        arguments: list[str | bytes] = ["bash", "-c", text]
        if directory is not None:
            arguments = ["bash", "-c", 'cd -- "$0" && exec "$BASH" -c "$1"', directory, text]
        return _start(arguments, actions, {**os.environ, **variables} if variables else os.environ)
    except FileNotFoundError as e:
        raise AppException(f"there is no /bin/bash, nor a bash on PATH, on {os.uname().nodename}") from e
    except OSError as e:
        raise AppException(f"bash could not be started on {os.uname().nodename}: {e}") from e
    finally:
        if script is not None:
            os.close(script)


def _start(
    arguments: list[str | bytes],
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]],
    environment: Mapping[str, str],
) -> int:
    bash = "/bin/bash"
    if not os.path.exists(bash):
        import shutil

        bash = shutil.which("bash") or bash
    try:
        return os.posix_spawn(
            bash, arguments, environment, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_RESET
        )
    except NotImplementedError:
        # An old C library: a group of its own in our session has to do.
        return os.posix_spawn(
            bash, arguments, environment, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=_RESET
        )


def _script_file(text: bytes) -> int:
    """A descriptor of a nameless file that holds a command too long for an argument."""
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as file:
        # Bash has read all of it when it starts with the first line.
        file.write(b"exec %d<&-; " % _SCRIPT + text)
        file.seek(0)
        return high(os.dup(file.fileno()))


def high(fd: int) -> int:
    """``fd``, or a copy in its place, above the standard streams: redirecting those must not close it."""
    if fd > _SCRIPT:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SCRIPT + 1)
    finally:
        os.close(fd)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    return high(read), high(write)


# ---------------------------------------------------------------------------------------------------------- waiting


class _Tail:
    """Passes a command's standard error on to ours, and keeps the end of it."""

    def __init__(self, fd: int | None) -> None:
        self.fd = fd
        self.kept = b""

    def read(self) -> bool:
        """Take what is there now; whether there was anything."""
        fd = self.fd
        if fd is None:
            return False
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self.kept = (self.kept + data)[-_TAIL:]
        try:
            os.write(2, data)
        except OSError:
            # Our own standard error is closed or broken; the tail is kept all the same.
            pass
        return True

    def close(self) -> None:
        """No more."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def finish(self) -> bytes:
        """What was kept. If background processes hold the stream still, a thread goes on passing it on."""
        for _ in range(1024):
            if not self.read():
                break
        fd, self.fd = self.fd, None
        if fd is not None:
            os.set_blocking(fd, True)
            threading.Thread(target=_pass_on, args=(fd,), name="flowlib-stderr", daemon=True).start()
        return self.kept


def _pass_on(fd: int) -> None:
    tail = _Tail(fd)
    while tail.read():
        tail.kept = b""
    tail.close()


def _wait(pid: int, tail: _Tail, deadline: float | None) -> Ended:
    """Wait for the end, stop it if need be, and collect it."""
    watch = None
    timeout: BaseException | None = None
    try:
        try:
            watch = _watch(pid)
            if not _until(watch, tail, deadline):
                timeout = TimeoutError()
        except AppTimeout as e:
            # Whoever runs this task has a clock of its own, and it was first.
            timeout = e
        if timeout is not None:
            _stop(pid, watch, tail)
        # Until it is collected below its number is its own, and so is that of its group.
        code = _collect(pid)
    except BaseException:
        _signal(pid, signal.SIGKILL)
        _collect_killed(pid, watch, tail)
        tail.close()
        raise
    finally:
        if watch is not None:
            os.close(watch)
    return Ended(code, tail.finish(), timeout)


def _until(watch: int, tail: _Tail, deadline: float | None) -> bool:
    """Read what comes until the command ends (True) or the deadline is over (False)."""
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    if tail.fd is not None:
        poll.register(tail.fd, select.POLLIN)
    while True:
        left = None if deadline is None else deadline - monotonic()
        if left is not None and left <= 0:
            return False
        # Rounded up, or the last millisecond would be spent in a busy loop.
        ready = poll.poll(None if left is None else min(left * 1000 + 1, 3_600_000))
        for fd, _ in ready:
            if fd == watch:
                return True
            tail.read()
            if tail.fd is None:
                poll.unregister(fd)


def _stop(pid: int, watch: int | None, tail: _Tail) -> None:
    _signal(pid, signal.SIGTERM)
    if watch is not None:
        _until(watch, tail, monotonic() + GRACE)
    # Also when the leader has gone: others of its group may have ignored the first signal.
    _signal(pid, signal.SIGKILL)
    if watch is not None and not _until(watch, tail, monotonic() + _KILLED):
        raise AppException(
            f"the command (process {pid}) cannot be killed: it hangs in the kernel, perhaps on a dead mount"
        )


def _collect(pid: int) -> int:
    """The exit code; what is left of the group of a command that failed is killed first."""
    try:
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if info is not None and (info.si_code != os.CLD_EXITED or info.si_status != 0):
            _signal(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    except ChildProcessError as e:
        raise AppException(
            "the exit code of the command was lost: this process ignores SIGCHLD, or other code in it waits for any "
            "child"
        ) from e
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _collect_killed(pid: int, watch: int | None, tail: _Tail) -> None:
    """Collect a killed command, so that no zombie is left; bounded, for the kernel may hold it."""
    try:
        if watch is None or _until(watch, tail, monotonic() + _KILLED):
            os.waitpid(pid, 0 if watch is not None else os.WNOHANG)
    except ChildProcessError:
        # Collected before.
        pass


def _signal(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # Gone; or, on macOS, nothing but a zombie.
        pass


def _watch(pid: int) -> int:
    """A descriptor that becomes readable when the process ends."""
    opener = getattr(os, "pidfd_open", None)
    if opener is not None:
        try:
            return int(opener(pid))
        except OSError:
            # An old kernel, or a container that forbids it.
            pass
    read, write = os.pipe()
    threading.Thread(target=_report_end, args=(pid, write), name="flowlib-command", daemon=True).start()
    return read


def _report_end(pid: int, write: int) -> None:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        # Collected before we came to it.
        pass
    finally:
        # The end of the pipe is the message.
        os.close(write)


def _kill_running() -> None:
    """At the interpreter's end: commands of threads that cannot be waited for."""
    for pid in tuple(_running):
        _signal(pid, signal.SIGKILL)
