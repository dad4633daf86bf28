"""The thread that starts, watches and ends an executor's blocks.

Decisions are made by ``flowlib.scaling``, without clock or provider; this is its shell.  One daemon thread per
executor makes all calls to the provider, so that a slow scheduler command delays nothing else.  It sleeps until
something happens: the next decision or status query is due, a local block's process ended, somebody called ``poke``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowlib.jobs.states import JobStatus
from flowlib.scaling import Load, Settings

EmitBlock = Callable[[str, str, str, str], None]
"""Takes ``(block, change, job, reason)``; for changes see ``flowlib.events.schema.Code.BLOCK``. Must not block."""

ErrorHandler = Callable[[Any, dict[str, JobStatus]], None]


class BlockManager:
    """The blocks of one executor.

    All methods may be called from any thread, return at once (``close`` excepted) and never raise because of the
    provider.

    Args:
        label: The executor's label; names the thread and the jobs.
        provider: Starts and ends the blocks.
        settings: How many blocks; see ``Settings.of(provider, ...)``.
        launch_command: Gives the command line of a block by its id. Called in the block thread; may block a little,
            and may raise: that counts as a failure to start.
        load: What the executor has to do now. Called often, in the block thread; must not block.
        on_bad_state: Called at most once, in the block thread, when blocks fail so that going on is pointless; the
            executor fails its tasks. Nothing more is started afterwards.
        on_block_ended: Called in the block thread when a block is known to have ended: its id, and why.
        emit: Takes each change of a block, for the event log; None for nowhere.
        block_error_handler: True: give up after ``max(1, init_blocks)`` blocks that ended without a manager. False:
            never give up, only slow down. A function ``f(executor, status_by_block)``: called after each change
            instead.
        executor: What a handler gets as its first argument.
        drain: Asks the managers of these blocks to finish their tasks and leave. Called in the block thread; must not
            block. None: blocks are ended without it.
        script_dir: Directory for submit scripts if the provider has none of its own; made by ``start``.
    """

    def __init__(
        self,
        *,
        label: str,
        provider: Any,
        settings: Settings,
        launch_command: Callable[[str], str],
        load: Callable[[], Load],
        on_bad_state: Callable[[BaseException], None],
        on_block_ended: Callable[[str, str], None] = lambda block, why: None,
        emit: EmitBlock | None = None,
        block_error_handler: bool | ErrorHandler = True,
        executor: Any = None,
        drain: Callable[[Sequence[str]], None] | None = None,
        script_dir: str | None = None,
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the thread, which starts the first blocks."""
        raise NotImplementedError

    def poke(self) -> None:
        """Look at the load soon: call it when work waits and no manager is there to take it, or the last task ended."""
        raise NotImplementedError

    def block_registered(self, block: str) -> None:
        """A manager of this block registered."""
        raise NotImplementedError

    def manager_lost(self, block: str) -> None:
        """A manager of this block left or was lost."""
        raise NotImplementedError

    def scale_out(self, n: int = 1) -> list[str]:
        """Start more blocks, whatever the strategy thinks.

        Args:
            n: How many.

        Returns:
            The ids they will have.

        Raises:
            ScalingFailed: That would be more than ``max_blocks``, or the executor is closed.
        """
        raise NotImplementedError

    def scale_in(self, blocks: Sequence[str], *, drain: bool = False) -> None:
        """End these blocks.

        Args:
            blocks: Their ids; unknown and ended ones are ignored.
            drain: Whether to let their tasks finish; otherwise they end at once, with what runs there.
        """
        raise NotImplementedError

    def status(self) -> dict[str, JobStatus]:
        """The status of each block so far, ended ones included, by id, oldest first."""
        raise NotImplementedError

    def halt(self) -> None:
        """Start no more blocks; those that are there stay."""
        raise NotImplementedError

    def close(self, deadline: float) -> list[str]:
        """End all blocks and the thread.

        Args:
            deadline: ``time.monotonic()`` at which to give up waiting.

        Returns:
            Blocks that are not known to have ended by then.
        """
        raise NotImplementedError
