"""Putting a worker right after a task, so that the next one finds the world it expects.

A task may do anything to its process: change directory, close descriptors, patch builtins, leave children behind.
Nearly all do nothing of the kind, so after every task comes a look that costs about ten microseconds, and repairs
are made where something differs.  What cannot be repaired ends the worker, which is replaced at once.
"""

from __future__ import annotations

import builtins
import faulthandler
import gc
import importlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

from flowlib.executors.high_throughput import processes

if TYPE_CHECKING:
    from io import TextIOWrapper

# Without the detour by which the public functions make enumeration members.
_signal: Any = importlib.import_module("_signal")

LOG_LIMIT = 16 << 20
"""Bytes by which one task may make its worker's log grow."""
LOG_KEPT = 1 << 20
"""Bytes that are left of what is too much."""
_PATIENCE = 2.0
_TRACKER_PATIENCE = 0.5
_NAMED = 3

_SIGNALS = [number for number in range(1, 32) if number not in (signal.SIGKILL, signal.SIGSTOP)]
_SETMASK = int(signal.SIG_SETMASK)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)

# Found when they are needed although a task has patched the builtin of that name.
_Anything = BaseException


def _open(fd: int, mode: str) -> TextIOWrapper:
    return cast("TextIOWrapper", open(fd, mode, 1, encoding="utf-8", errors="backslashreplace", closefd=False))


class Hygiene:
    """The state that a worker had before its first task, and what brings it back.

    Args:
        log: Descriptor of the worker's log, open for reading and appending; it becomes standard output and error.
        null: Descriptor of /dev/null; it becomes standard input.
    """

    def __init__(self, log: int, null: int) -> None:
        self._log = log
        self._null = null
        self._wire_streams()
        self._directory = os.getcwd()
        self._directory_fd = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
        self._mask = os.umask(0o077)
        os.umask(self._mask)
        self._environ = os.environ
        # The dictionary behind os.environ: comparing that is twenty times faster than comparing mappings.
        self._variables: dict[bytes, bytes] = vars(os.environ)["_data"]
        self._saved_variables = dict(self._variables)
        self._handlers = [*map(_signal.getsignal, _SIGNALS)]
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._builtins = dict(builtins.__dict__)
        self._builtin_values = builtins.__dict__.values
        self._saved_builtins = [*self._builtins.values()]
        self._path = sys.path
        self._saved_path = [*sys.path]
        self._hooks = self._read_hooks()
        self._settings = self._read_settings()
        self._limits = self._read_limits()
        # Whoever changes a limit imports this module; until then there is nothing to look at.
        sys.modules.pop("resource", None)
        self._most_files = self._limits[_NOFILE][0] * 3 // 4
        self.log_size = os.lseek(log, 0, os.SEEK_END)

    # ------------------------------------------------------------------------------------------------------- the look

    def disarm(self) -> None:
        """Take away what could disturb this process while it sends the result, and write out what was printed.

        Raises:
            BaseException: Whatever the task has left lying in wait; the worker must not run another task then.
        """
        try:
            intact = [*self._builtin_values()] == self._saved_builtins
        except _Anything:  # comparing with what a task put there calls its __eq__
            intact = False
        if not intact:
            self._restore_builtins()
        _signal.setitimer(0, 0)
        if [*map(_signal.getsignal, _SIGNALS)] != self._handlers:
            self._restore_handlers()
        _signal.pthread_sigmask(_SETMASK, self._blocked)
        if self._read_hooks() != self._hooks:
            self._restore_hooks()
        os.dup2(self._log, 1)
        os.dup2(self._log, 2)
        self._clean_streams()

    def clean(self) -> str | None:
        """Put right what else the last task changed; ``disarm`` comes first.

        Returns:
            None, or why this worker must not run another task.

        Raises:
            BaseException: As ``disarm``.
        """
        reason = self._clean_descriptors()
        if os.environ is not self._environ or self._variables != self._saved_variables:
            self._restore_environment()
        os.umask(self._mask)
        if sys.path is not self._path or self._path != self._saved_path:
            self._restore_path()
        settings = self._read_settings()
        if settings != self._settings:
            reason = self._restore_settings(settings) or reason
        if "resource" in sys.modules:
            reason = self._restore_limits() or reason
        if threading.active_count() > 1:
            reason = _leaked_threads() or reason
        try:
            while True:
                # One that has ended and was only not waited for does no harm.
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    reason = _end_children()
                    break
        except ChildProcessError:
            pass
        try:
            os.fchdir(self._directory_fd)
        except OSError:
            os.chdir(self._directory)
        return reason

    def _clean_descriptors(self) -> str | None:
        log = self._log
        size = os.lseek(log, 0, os.SEEK_END)
        if size - self.log_size > LOG_LIMIT:
            trim(log, size)
            size = os.lseek(log, 0, os.SEEK_END)
        self.log_size = size
        try:
            # The lowest free number: 0 if standard input was closed, high if descriptors leak.
            free = os.dup(self._null)
        except OSError as e:
            return f"the task left no file descriptor free ({e.strerror})"
        if free == 0:
            os.set_inheritable(0, True)
            return None
        os.close(free)
        if free > self._most_files:
            return f"the task left about {free} file descriptors open"
        return None

    def _clean_streams(self) -> None:
        out, err = self._out, self._err
        try:
            if sys.stdout is out and sys.stderr is err and sys.stdin is self._in and not self._in.closed:
                out.flush()
                err.flush()
                return
        except (OSError, ValueError):
            # Closed, detached, or the disk is full: what was in the buffer is lost, later tasks get new ones.
            pass
        self._wire_streams()

    def _wire_streams(self) -> None:
        os.dup2(self._null, 0)
        os.dup2(self._log, 1)
        os.dup2(self._log, 2)
        self._in = _open(0, "r")
        self._out = _open(1, "w")
        self._err = _open(2, "w")
        sys.stdin = sys.__stdin__ = self._in  # type: ignore[misc]
        sys.stdout = sys.__stdout__ = self._out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._err  # type: ignore[misc]
        faulthandler.enable(file=2)

    @staticmethod
    def _read_hooks() -> list[Any]:
        return [
            sys.excepthook,
            sys.displayhook,
            sys.unraisablehook,
            threading.excepthook,
            sys.gettrace(),
            sys.getprofile(),
        ]

    @staticmethod
    def _read_settings() -> tuple[Any, ...]:
        return (
            sys.getrecursionlimit(),
            sys.getswitchinterval(),
            gc.isenabled(),
            faulthandler.is_enabled(),
            os.getpriority(os.PRIO_PROCESS, 0),
        )

    @staticmethod
    def _read_limits() -> dict[int, tuple[int, int]]:
        import resource

        numbers = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
        return {number: resource.getrlimit(number) for number in numbers}

    # ---------------------------------------------------------------------------------------------------- the repairs

    def _restore_builtins(self) -> None:
        # Not cleared first: between the two calls there would be no builtins at all.
        current = builtins.__dict__
        current.update(self._builtins)
        for name in [*current]:
            if name not in self._builtins:
                del current[name]
        self._saved_builtins = [*current.values()]

    def _restore_handlers(self) -> None:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            # None: set by native code, faulthandler among it, which Python cannot put back.
            if handler is not None and _signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        # It does not notice that its handlers are gone.
        faulthandler.disable()
        faulthandler.enable(file=2)

    def _restore_environment(self) -> None:
        os.environ = self._environ  # noqa: B003  # it is what was there at the start
        if vars(os.environ).get("_data") is not self._variables:
            vars(os.environ)["_data"] = self._variables
        for name in self._variables.keys() - self._saved_variables.keys():
            os.unsetenv(name)
            del self._variables[name]
        for name, value in self._saved_variables.items():
            if self._variables.get(name) != value:
                os.putenv(name, value)
                self._variables[name] = value

    def _restore_path(self) -> None:
        sys.path = self._path
        sys.path[:] = self._saved_path

    def _restore_hooks(self) -> None:
        sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook, trace, profile = self._hooks
        sys.settrace(trace)
        sys.setprofile(profile)

    def _restore_settings(self, found: tuple[Any, ...]) -> str | None:
        recursion, switch, collecting, _, priority = self._settings
        sys.setrecursionlimit(recursion)
        sys.setswitchinterval(switch)
        if collecting:
            gc.enable()
        faulthandler.enable(file=2)
        if found[4] != priority:
            try:
                os.setpriority(os.PRIO_PROCESS, 0, priority)
            except OSError as e:
                return f"the task changed the process's priority, which cannot be undone ({e.strerror})"
        return None

    def _restore_limits(self) -> str | None:
        import resource

        current = self._read_limits()
        sys.modules.pop("resource", None)
        for number, limits in self._limits.items():
            if current[number] != limits:
                try:
                    resource.setrlimit(number, limits)
                except (OSError, ValueError) as e:
                    return f"the task changed a resource limit, which cannot be undone ({e})"
        return None


def _nofile() -> int:
    import resource

    return resource.RLIMIT_NOFILE


_NOFILE = _nofile()


def _leaked_threads() -> str | None:
    main = threading.main_thread()
    left = [thread.name for thread in threading.enumerate() if thread is not main and not thread.daemon]
    if not left:
        return None
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return f"the task left threads running: {', '.join(left[:_NAMED])}{more}"


def _end_children() -> str:
    """Kill what the task has left running."""
    found = processes.children()
    named = ", ".join(f"{pid} ({processes.name_of(pid)})" for pid in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    tracker = _tracker_pid()
    processes.kill_children(spare=() if tracker is None else (tracker,), patience=_PATIENCE)
    if tracker is not None:
        _end_tracker(tracker)
    return f"the task left child processes behind, which were killed: {named}{more}"


def _tracker() -> Any:
    module = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(module, "_resource_tracker", None)


def _tracker_pid() -> int | None:
    pid = getattr(_tracker(), "_pid", None)
    return pid if isinstance(pid, int) else None


def _end_tracker(pid: int) -> None:
    """Let multiprocessing's helper remove the shared memory that the task forgot, instead of killing it too."""
    fd = getattr(_tracker(), "_fd", None)
    if isinstance(fd, int):
        try:
            os.close(fd)
        except OSError:
            # The task has closed it already, and so it ends.
            pass
        processes.wait_for_end(pid, _TRACKER_PATIENCE)
    processes.kill_children(spare=(), patience=_PATIENCE)


def trim(log: int, size: int) -> None:
    """Shorten a log to its end.

    Args:
        log: Descriptor, open for reading and appending.
        size: Bytes in it.
    """
    tail = os.pread(log, LOG_KEPT, size - LOG_KEPT)
    os.ftruncate(log, 0)
    os.write(log, f"[flowlib: the first {size - len(tail)} bytes of this log were removed]\n".encode() + tail)
