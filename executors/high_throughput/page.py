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

from flowlib.executors.high_throughput import outbox

STARTED, REVOKED, WORDS, OUTBOX, LOG, BEGAN = 0, 1, 2, 3, 4, 5
"""Cells of a worker: the task it began last; the first task that is revoked; why it ended, if it could say; the state
of its outbox; the size of its log when it began the task; and when that was, in microseconds of Unix time."""
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

    # First come the cells of all workers, then their outboxes.

    def __init__(self, fd: int, workers: int) -> None:
        self.fd = fd
        self._workers = workers
        self._map = mmap.mmap(fd, _size(workers))
        self._memory = memoryview(self._map)
        self.cells = self._memory[: workers * CELLS * 8].cast("Q")

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
        os.write(fd, bytes(_size(workers)))
        return cls(fd, workers)

    def reset(self, rank: int) -> None:
        """Prepare the cells of a worker that is about to start."""
        base = rank * CELLS
        self.cells[base + STARTED] = 0
        self.cells[base + REVOKED] = NEVER
        self.cells[base + WORDS] = 0
        self.cells[base + OUTBOX] = 0
        self.cells[base + LOG] = 0
        self.cells[base + BEGAN] = 0

    def outbox(self, rank: int) -> memoryview:
        """The memory of a worker's outbox."""
        start = self._workers * CELLS * 8 + rank * outbox.SIZE
        return self._memory[start : start + outbox.SIZE]

    def read_outbox(self, rank: int) -> tuple[int, bytes]:
        """What is in a worker's outbox; see ``outbox.read``."""
        with self.outbox(rank) as memory:
            return outbox.read(self.cells, rank * CELLS + OUTBOX, memory)

    def close(self) -> None:
        """Give the memory back."""
        self.cells.release()
        self._memory.release()
        self._map.close()
        os.close(self.fd)


def _size(workers: int) -> int:
    return workers * (CELLS * 8 + outbox.SIZE)
