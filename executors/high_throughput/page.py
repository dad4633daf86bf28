"""Memory that a manager shares with its workers, so that it can take back tasks that a worker has in hand.

Short tasks are sent to a worker several at a time.  When one of them turns out long, those behind it are stuck in the
worker's socket.  Each worker numbers the tasks it receives from 1 and writes down the number that it begins, then
looks up the number from which on tasks are revoked; the manager writes that and, a moment later, reads which task was
begun.  Whatever the processors do to the order of these four accesses, no task beyond the begun one can start when the
manager reads after that moment: either the worker saw the revocation, or its note had arrived.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile

STARTED, REVOKED, WORDS = 0, 1, 2
"""Cells of a worker: the task it began last; the first task that is revoked; why it ended, if it could say."""
CELLS = 8
"""Cells of 8 bytes for each worker: a cache line, so that workers do not slow each other."""
NEVER = (1 << 64) - 1

LINK_BROKEN = 1
"""Last words: the task closed or replaced the descriptor of the worker's link."""
STATE_LOST = 2
"""Last words: the state of the worker could not be put right."""


class Page:
    """The shared memory of one manager.

    Args:
        fd: Descriptor of the memory.
        workers: How many workers it is for.

    Attributes:
        cells: All cells; those of worker ``k`` begin at ``k * CELLS``.
    """

    def __init__(self, fd: int, workers: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, workers * CELLS * 8)
        self.cells = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, workers: int) -> Page:
        """Make the memory; it vanishes with its last user.

        Raises:
            OSError: There is no room for it.
        """
        if sys.platform == "linux":
            fd = os.memfd_create("flowlib-workers")
        else:
            fd, path = tempfile.mkstemp(prefix="flowlib-workers-")
            os.unlink(path)
        # Written, not just sized: a full file system must be noticed here and not by a SIGBUS later.
        os.write(fd, bytes(workers * CELLS * 8))
        return cls(fd, workers)

    def reset(self, rank: int) -> None:
        """Prepare the cells of a worker that is about to start."""
        base = rank * CELLS
        self.cells[base + STARTED] = 0
        self.cells[base + REVOKED] = NEVER
        self.cells[base + WORDS] = 0

    def close(self) -> None:
        """Give the memory back."""
        self.cells.release()
        self._map.close()
        os.close(self.fd)
