"""A descriptor that one thread waits on and others make readable."""

from __future__ import annotations

import os
import sys
import threading


class Wake:
    """Wakes a thread that waits in a selector."""

    __slots__ = ("_lock", "_read", "_write")

    def __init__(self) -> None:
        # A descriptor that is closed while another thread writes to it may be somebody else's file by then.
        self._lock = threading.Lock()
        if sys.platform == "linux":
            self._read = self._write = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """What to wait for being readable."""
        return self._read

    def call(self) -> None:
        """Make it readable, from any thread; without effect once it is closed."""
        with self._lock:
            try:
                if self._write >= 0:
                    # Eight bytes, because an eventfd takes a 64-bit number.
                    os.write(self._write, b"\1\0\0\0\0\0\0\0")
            except BlockingIOError:
                pass  # it is readable already

    def clear(self) -> None:
        """Make it unreadable again."""
        try:
            os.read(self._read, 65536)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close it. The thread that waits must be gone."""
        with self._lock:
            if self._write < 0:
                return
            os.close(self._read)
            if self._write != self._read:
                os.close(self._write)
            self._read = self._write = -1
