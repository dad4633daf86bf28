"""Tasks that do harm: each poison, and how its future must end.

A poison is a function that is run as a python app beside innocent tasks.  It either fails with one of the expected
errors or, where it did no harm, succeeds.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flowlib import errors

FOREVER = 6007


class NeedsTwo(Exception):
    """An exception that cannot be rebuilt from its args."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"needs {a} and {b}")


class RaisesInReduce(Exception):
    """An exception that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle of me")


class ExitsWhenPickled(Exception):
    """An exception that tries to end the process that pickles it."""

    def __reduce__(self) -> Any:
        raise SystemExit(9)


class LocksInside(Exception):
    """An exception that carries something unpicklable."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def _explode() -> None:
    raise RuntimeError("raised while it was unpickled")


class RaisesWhenUnpickled:
    """A result that raises when it is rebuilt."""

    def __reduce__(self) -> Any:
        return (_explode, ())


class ExitsWhenUnpickled:
    """A result that calls sys.exit when it is rebuilt."""

    def __reduce__(self) -> Any:
        return (sys.exit, (7,))


class DiesWhenUnpickled:
    """A result that calls os._exit when it is rebuilt."""

    def __reduce__(self) -> Any:
        return (os._exit, (7,))


class LargeAndDeadly:
    """A result that is too large for a trial and exits when it is rebuilt."""

    def __reduce__(self) -> Any:
        return (os._exit, (7,), None, iter([b"x" * 3_000_000]))


def raise_needs_two() -> None:
    raise NeedsTwo(1, 2)


def raise_in_reduce() -> None:
    raise RaisesInReduce("x")


def raise_exits_when_pickled() -> None:
    raise ExitsWhenPickled("x")


def raise_locked() -> None:
    raise LocksInside


def return_lock() -> Any:
    return threading.Lock()


def return_raiser() -> Any:
    return RaisesWhenUnpickled()


def return_exiter() -> Any:
    return ExitsWhenUnpickled()


def return_killer() -> Any:
    return DiesWhenUnpickled()


def return_large_killer() -> Any:
    return LargeAndDeadly()


def return_generator() -> Iterator[int]:
    return (i for i in range(3))


def return_200_mb() -> bytes:
    return bytes(200_000_000)


def os_exit() -> None:
    os._exit(3)


def os_exit_zero() -> None:
    os._exit(0)


def sys_exit() -> None:
    sys.exit(4)


def keyboard_interrupt() -> None:
    raise KeyboardInterrupt


def generator_exit() -> None:
    raise GeneratorExit


def own_base_exception() -> None:
    class Mine(BaseException):
        pass

    raise Mine("base")


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def interrupt_self() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def close_all_fds() -> None:
    os.closerange(0, 1024)


def close_and_reuse_fds() -> None:
    os.closerange(3, 1024)
    for _ in range(64):
        os.open("/dev/zero", os.O_RDWR)


def close_standard_streams() -> None:
    os.closerange(0, 3)
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


def change_place() -> None:
    os.chdir("/")
    os.environ.clear()
    os.environ["PATH"] = "/nowhere"
    os.umask(0o777)


def remove_directory() -> None:
    import tempfile

    os.chdir(tempfile.mkdtemp())
    os.rmdir(os.getcwd())


def change_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, 0.2)


def alarm_later() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.3)


def patch_builtins() -> None:
    builtins.open = None  # type: ignore[assignment]
    builtins.print = builtins.len = lambda *_: 1 / 0  # type: ignore[assignment]
    builtins.__import__ = None  # type: ignore[assignment]


def break_path() -> None:
    sys.path.clear()
    sys.stdout.close()


def print_1_gb() -> None:
    chunk = "x" * 1_000_000 + "\n"
    for _ in range(1000):
        sys.stdout.write(chunk)


def write_1_gb_to_fd() -> None:
    chunk = b"y" * 1_000_000
    for _ in range(1000):
        os.write(1, chunk)


def leak_child() -> int:
    return subprocess.Popen(["sleep", str(FOREVER)]).pid


def leak_daemonised() -> int:
    done = subprocess.run(
        ["bash", "-c", f"setsid sleep {FOREVER} >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def die_with_children() -> None:
    subprocess.Popen(["bash", "-c", f"setsid sleep {FOREVER} & sleep {FOREVER}"])
    os._exit(1)


def leak_threads() -> None:
    def spin() -> None:
        while True:
            time.sleep(0.01)

    for _ in range(3):
        threading.Thread(target=spin).start()


def leak_fds() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        while True:
            os.open("/dev/null", os.O_RDONLY)
    except OSError:
        return None


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))


def overflow_stack() -> None:
    sys.setrecursionlimit(10**8)

    class Deep:
        def __repr__(self) -> str:
            return repr(self)

    exec(compile("def f(n):\n    return [*map(f, (n + 1,))]\nf(0)", "deep", "exec"), {})


def recurse() -> None:
    recurse()


def deep_result() -> Any:
    value: list[Any] = []
    for _ in range(200_000):
        value = [value]
    return value


def disable_gc() -> None:
    gc.disable()
    sys.setswitchinterval(5)


def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@dataclass(frozen=True)
class Poison:
    """One poison.

    Attributes:
        run: The function.
        fails: Errors one of which its future must raise; () where it must succeed.
        timeout: Seconds until its future must be done.
        children: Whether its value is the pid of a process that must die.
        heavy: Whether it moves much data.
    """

    run: Callable[[], Any]
    fails: tuple[type[BaseException], ...] = ()
    timeout: float = 20
    children: bool = False
    heavy: bool = False


POISONS = [
    Poison(raise_needs_two, (errors.RemoteError, NeedsTwo)),
    Poison(raise_in_reduce, (errors.RemoteError,)),
    Poison(raise_exits_when_pickled, (errors.RemoteError,)),
    Poison(raise_locked, (errors.RemoteError, LocksInside)),
    Poison(return_lock, (errors.SerializationError, errors.RemoteError, TypeError)),
    Poison(return_raiser, (errors.FlowlibError, RuntimeError)),
    Poison(return_exiter, (errors.FlowlibError,)),
    Poison(return_killer, (errors.FlowlibError,)),
    Poison(return_large_killer, (errors.FlowlibError,)),
    Poison(return_generator, (errors.GeneratorResult,)),
    Poison(return_200_mb, heavy=True),
    Poison(os_exit, (errors.WorkerLost,)),
    Poison(os_exit_zero, (errors.WorkerLost,)),
    Poison(sys_exit, (errors.AppAborted,)),
    Poison(keyboard_interrupt, (errors.AppAborted,)),
    Poison(generator_exit, (errors.AppAborted,)),
    Poison(own_base_exception, (errors.AppAborted, errors.RemoteError)),
    Poison(segfault, (errors.WorkerLost,)),
    Poison(abort, (errors.WorkerLost,)),
    Poison(kill_self, (errors.WorkerLost,)),
    Poison(terminate_self, (errors.WorkerLost, errors.AppAborted)),
    Poison(interrupt_self, (errors.WorkerLost, errors.AppAborted)),
    Poison(close_all_fds, (errors.WorkerLost,)),
    Poison(close_and_reuse_fds, (errors.WorkerLost,)),
    Poison(close_standard_streams),
    Poison(change_place),
    Poison(remove_directory),
    Poison(change_signals),
    Poison(alarm_later),
    Poison(patch_builtins),
    Poison(break_path),
    Poison(print_1_gb, heavy=True, timeout=60),
    Poison(write_1_gb_to_fd, heavy=True, timeout=60),
    Poison(leak_child, children=True),
    Poison(leak_daemonised, children=True),
    Poison(die_with_children, (errors.WorkerLost,)),
    Poison(leak_threads),
    Poison(leak_fds),
    Poison(limit_files),
    Poison(overflow_stack, (errors.WorkerLost, RecursionError, MemoryError)),
    Poison(recurse, (RecursionError,)),
    Poison(deep_result, (RecursionError, errors.FlowlibError)),
    Poison(disable_gc),
]
