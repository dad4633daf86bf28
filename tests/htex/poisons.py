"""Functions that leave their worker in a bad state: what a task may do without meaning to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

FOREVER = "6017"
"""Argument of every `sleep` that is left behind, to find it by."""


def change_directory() -> None:
    os.chdir("/")


def remove_directory() -> None:
    import tempfile

    os.chdir(tempfile.mkdtemp())
    os.rmdir(os.getcwd())


def change_umask() -> None:
    os.umask(0o777)


def change_environment() -> None:
    os.environ.clear()
    os.environ["PATH"] = "/nowhere"


def replace_environment() -> None:
    os.environ = {"PATH": "/nowhere"}  # type: ignore[assignment]  # noqa: B003


def change_handlers() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGSEGV):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def arm_timer() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.2)


def change_path() -> None:
    sys.path.clear()


def replace_path() -> None:
    sys.path = ["/nowhere"]


def close_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()
    sys.stdin.close()


def detach_stream() -> None:
    sys.stdout.detach()  # type: ignore[union-attr]


def replace_streams() -> None:
    import io

    sys.stdout = sys.stderr = io.StringIO()


def close_descriptors() -> None:
    os.closerange(0, 3)
    sys.stdout = None  # type: ignore[assignment]


def redirect_descriptors() -> None:
    fd = os.open("/dev/null", os.O_WRONLY)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def patch_builtins() -> None:
    import builtins

    vars(builtins)["novelty"] = 1
    builtins.open = None  # type: ignore[assignment]
    builtins.print = builtins.len = builtins.isinstance = lambda *_: 1 / 0  # type: ignore[assignment]
    builtins.__import__ = None  # type: ignore[assignment]
    del builtins.max


def change_interpreter() -> None:
    import gc

    sys.setrecursionlimit(10**6)
    gc.disable()
    sys.setswitchinterval(5)
    sys.settrace(lambda *_: None)
    sys.excepthook = lambda *_: None


def change_limits() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))


def leave_a_zombie() -> None:
    os.posix_spawn("/bin/true", ["true"], {})
    time.sleep(0.1)


def leave_a_daemon_thread() -> None:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def leave_threads() -> int:
    for _ in range(5):
        threading.Thread(target=time.sleep, args=(60,)).start()
    return os.getpid()


def leave_a_child() -> int:
    subprocess.Popen(["sleep", FOREVER])
    return os.getpid()


def leave_a_daemon() -> int:
    subprocess.run(["bash", "-c", f"setsid sleep {FOREVER} >/dev/null 2>&1 &"], check=True)
    return os.getpid()


def leave_open_files() -> int:
    try:
        while True:
            os.open("/dev/null", os.O_RDONLY)
    except OSError:
        return os.getpid()


def leave_shared_memory() -> int:
    from multiprocessing import shared_memory

    shared_memory.SharedMemory(create=True, size=100)
    return os.getpid()


def fork_and_return() -> int:
    if os.fork() == 0:
        return -1
    os.wait()
    return 1


def close_everything() -> None:
    os.closerange(0, 1024)


def close_and_reuse() -> None:
    os.closerange(3, 1024)
    for _ in range(64):
        os.open("/dev/zero", os.O_RDWR)


def close_and_stay() -> None:
    os.closerange(3, 1024)
    time.sleep(60)
