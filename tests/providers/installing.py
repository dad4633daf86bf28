"""Servers that tests need, from the packages of a Debian machine: installed by the first test that wants them.

A real scheduler is worth more than a fake, but nobody has one on a laptop.  Where tests run as root with apt, they get
it themselves, once; nothing of it is started by the packages.  ``FLOWLIB_TEST_INSTALL=0`` keeps them from it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SECONDS = 240.0
"""Most seconds that one command of apt may take."""
_POLICY = Path("/usr/sbin/policy-rc.d")


def why_not(commands: Sequence[str]) -> str:
    """Why a server can neither be run nor installed here; empty if it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux"
    absent = _absent(commands)
    if not absent:
        return ""
    if os.environ.get("FLOWLIB_TEST_INSTALL") == "0":
        return f"not installed: {', '.join(absent)}, and FLOWLIB_TEST_INSTALL=0 forbids that"
    if not shutil.which("apt-get"):
        return f"not installed: {', '.join(absent)}, and there is no apt-get"
    return ""


def install(packages: Sequence[str], commands: Sequence[str]) -> str:
    """Install packages unless their commands are there; why that failed, empty if it did not."""
    path = os.path.join(tempfile.gettempdir(), "flowlib-test-install.lock")
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other process of the tests may be at it
        if why := why_not(commands):
            return why
        if not _absent(commands):
            return ""
        with _nothing_started():
            said = _apt("install", "--no-install-recommends", *packages)
            if _absent(commands):  # a fresh container has no lists
                said = _apt("update") + _apt("install", "--no-install-recommends", *packages)
        absent = _absent(commands)
        return f"apt-get could not install {', '.join(absent)}: {said[-300:]!r}" if absent else ""


def _absent(commands: Sequence[str]) -> list[str]:
    return [name for name in commands if not shutil.which(name)]


def _apt(*argv: str) -> str:
    """What apt-get complains of."""
    try:
        done = subprocess.run(
            ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=60", *argv],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"apt-get {argv[0]} took more than {SECONDS:.0f} s"
    return done.stderr


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Keep packages from starting their services, as Debian's policy lets an administrator say."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
