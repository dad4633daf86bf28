"""The thread that starts, watches and ends an executor's blocks.

Decisions are made by ``flowlib.scaling``, without clock or provider; this is its shell.  One daemon thread per
executor makes all calls to the provider, so that a slow scheduler command delays nothing else.  It sleeps until
something happens: the next decision or status query is due, a local block's process ended, somebody called ``poke``.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flowlib.console import say
from flowlib.errors import InternalConsistencyError, ScaleOutFailed, ScalingFailed, TooManyJobFailuresError
from flowlib.jobs.error_handlers import describe_failures
from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers.base import safe_name
from flowlib.scaling import Load, Scaler, Settings

logger = logging.getLogger(__name__)

EmitBlock = Callable[[str, str, str, str], None]
"""Takes ``(block, change, job, reason)``; for changes see ``flowlib.events.schema.Code.BLOCK``. Must not block."""

ErrorHandler = Callable[[Any, dict[str, JobStatus]], None]

POKE_PAUSE = 0.05
"""Least seconds between decisions that were only asked for by ``poke``."""
PROVIDER_RECORD = ".provider.json"
"""End of the name of the file in which a provider's ``record`` is kept, after the executor's label."""
KEEP_ENDED = 1000
"""Ended blocks whose status is kept."""


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
        script_dir: Directory for submit scripts if the provider has none of its own, and for what is written down of
            the provider; made by ``start``.
        run_id: The run's id, for the names of jobs; "" for none.
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
        run_id: str = "",
    ) -> None:
        self.label = label
        self.run_id = run_id
        self.provider = provider
        self.settings = settings
        self._launch_command = launch_command
        self._load = load
        self._on_bad_state = on_bad_state
        self._on_block_ended = on_block_ended
        self._emit = emit or (lambda block, change, job, reason: None)
        self._handler = block_error_handler if callable(block_error_handler) else None
        self._executor = executor
        self._drain = drain
        self._script_dir = script_dir
        self._lent_script_dir = False
        limit = max(1, settings.init_blocks) if block_error_handler is True else None
        self._scaler = Scaler(settings, limit)

        self._ids = map(str, itertools.count())
        self._jobs: dict[str, Any] = {}
        self._status: dict[str, JobStatus] = {}
        self._came: set[str] = set()
        self._orders: deque[tuple[Any, ...]] = deque()
        self._lock = threading.Lock()  # guards the number of blocks that are promised but not yet with the scaler
        self._promised = 0
        self._thread: threading.Thread | None = None
        self._wake_read = self._wake_write = -1
        self._awake = False
        self._closing = False
        self._gave_up = False
        self._changed = False
        self._status_due = 0.0
        self._status_errors = 0
        self._last_error: Exception | None = None
        self._told_refusal = False

    # ------------------------------------------------------------------------------------------- any thread

    def start(self) -> None:
        """Start the thread, which starts the first blocks."""
        if self._thread is not None:
            raise InternalConsistencyError(f"the blocks of {self.label} were started twice")
        if self._script_dir is not None and getattr(self.provider, "script_dir", None) is None:
            os.makedirs(self._script_dir, mode=0o700, exist_ok=True)
            self.provider.script_dir = self._script_dir
            self._lent_script_dir = True
        self._write_down()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, name=f"flowlib-blocks-{self.label}", daemon=True)
        self._thread.start()

    def _write_down(self) -> None:
        """Leave in the run directory what ``flowlib cancel`` needs to find the jobs when this process is gone."""
        record = getattr(self.provider, "record", None)
        if record is None or self._script_dir is None:
            return
        os.makedirs(self._script_dir, mode=0o700, exist_ok=True)
        path = os.path.join(self._script_dir, f"{safe_name(self.label)}{PROVIDER_RECORD}")
        with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(record(), file)

    def poke(self) -> None:
        """Look at the load soon: call it when work waits and no manager is there to take it, or the last task ended."""
        if self._awake or self._wake_write < 0:
            return
        self._awake = True
        with self._lock:
            if self._wake_write >= 0:
                try:
                    os.write(self._wake_write, b"!")
                except BlockingIOError:
                    pass  # full of wake-ups already

    def block_registered(self, block: str) -> None:
        """A manager of this block registered."""
        self._order("registered", block)

    def manager_lost(self, block: str) -> None:
        """A manager of this block left or was lost."""
        self._order("lost", block)

    def scale_out(self, n: int = 1) -> list[str]:
        """Start more blocks, whatever the strategy thinks.

        Args:
            n: How many.

        Returns:
            The ids they will have.

        Raises:
            ScalingFailed: That would be more than ``max_blocks``, or the executor is closed.
        """
        if self._closing or self._gave_up:
            raise ScalingFailed(self.label, "no more blocks are started: it is closed or in a bad state")
        most = self.settings.max_blocks
        with self._lock:
            alive = len(self._scaler.blocks) + self._promised
            if alive + n > most:
                raise ScalingFailed(
                    self.label, f"asked for {n} more block(s) with {alive} alive, but max_blocks={most}; raise it"
                )
            self._promised += n
        blocks = [next(self._ids) for _ in range(n)]
        for block in blocks:
            self._order("start", block)
        return blocks

    def scale_in(self, blocks: Sequence[str], *, drain: bool = False) -> None:
        """End these blocks.

        Args:
            blocks: Their ids; unknown and ended ones are ignored.
            drain: Whether to let their tasks finish; otherwise they end at once, with what runs there.
        """
        self._order("drain" if drain else "end", *blocks)

    def status(self) -> dict[str, JobStatus]:
        """The status of each block so far, ended ones included, by id, oldest first."""
        return {block: self._seen(block, status) for block, status in dict(self._status).items()}

    def jobs(self) -> dict[str, Any]:
        """The provider's job ids by block, as far as there are any."""
        return dict(self._jobs)

    def halt(self) -> None:
        """Start no more blocks; those that are there stay."""
        self._gave_up = True
        self._order("halt")

    def close(self, deadline: float) -> list[str]:
        """End all blocks and the thread.

        Args:
            deadline: ``time.monotonic()`` at which to give up waiting.

        Returns:
            Blocks that are not known to have ended by then.
        """
        thread = self._thread
        if thread is None:
            return []
        self._closing = True
        self._awake = False
        self.poke()
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
        if not thread.is_alive():
            self._thread = None
            if self._lent_script_dir:
                self.provider.script_dir = None
                self._lent_script_dir = False
        return list(self._scaler.blocks)

    def _seen(self, block: str, status: JobStatus) -> JobStatus:
        """A job that came to its end without a manager did not do what it was for, whatever its exit code."""
        if status.state is not JobState.COMPLETED or block in self._came:
            return status
        return replace(status, state=JobState.MISSING, message="the job ended, and no manager came from it")

    def _order(self, *order: Any) -> None:
        self._orders.append(order)
        self._awake = False
        self.poke()

    # ---------------------------------------------------------------------------------------- block thread

    def _run(self) -> None:
        try:
            while not self._closing:
                timeout = self._turn()
                if not self._closing:
                    self._wait(timeout)
        except BaseException as e:
            # Whatever it is, the executor must hear of it: without this thread it has no more blocks.
            logger.exception("the block thread of %s failed", self.label)
            error = InternalConsistencyError(f"the block thread of {self.label} failed: {type(e).__name__}: {e}")
            error.__cause__ = e
            self._give_up(error)
        try:
            self._end_all()
        except Exception:
            # Nobody is left to handle it; close() tells which blocks remain.
            logger.exception("%s: blocks could not be ended", self.label)
        with self._lock:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1

    def _turn(self) -> float:
        """Take orders, look at the jobs, decide and act once; how long to sleep afterwards."""
        now = time.monotonic()
        while self._orders:
            self._take(*self._orders.popleft())
        if now >= self._status_due:
            self._ask_status()
        now = time.monotonic()
        decision = self._scaler.decide(self._load(), now)
        for known in self._scaler.blocks.values():
            if known.came:
                self._note_arrival(known.id)
        if decision.cancel:
            self._cancel([block for block, _ in decision.cancel], dict(decision.cancel))
        if decision.drain:
            self._drain_blocks(list(decision.drain), "not needed any more")
        if decision.start:
            self._start(decision.start)
        self._call_handler()
        if decision.give_up:
            self._give_up(self._failure(decision.give_up, decision.failed))
        now = time.monotonic()
        return max(0.0, min(self.settings.strategy_period, decision.wake, self._status_due - now))

    def _wait(self, timeout: float) -> None:
        """Sleep until the time is over, there is an order, or a local job ended."""
        began = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ, "wake")
            for fd in self._descriptors():
                selector.register(fd, selectors.EVENT_READ, "job")
            ready = {key.data for key, _ in selector.select(timeout)}
            if ready == {"wake"} and not self._orders and not self._closing:
                # Only poked. A flood of pokes must not become a flood of decisions; orders still get through, since
                # they write to the pipe whatever `_awake` says.
                self._empty_pipe()
                rest = began + POKE_PAUSE - time.monotonic()
                ready = {key.data for key, _ in selector.select(rest)} if rest > 0 else set()
        if "job" in ready:
            self._status_due = 0.0
        self._empty_pipe()
        self._awake = False

    def _empty_pipe(self) -> None:
        try:
            while len(os.read(self._wake_read, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _descriptors(self) -> list[int]:
        descriptors = getattr(self.provider, "descriptors", None)
        return list(descriptors()) if descriptors is not None else []

    def _take(self, kind: str, *blocks: str) -> None:
        """Carry out an order from another thread."""
        now = time.monotonic()
        if kind == "registered":
            (block,) = blocks
            self._scaler.registered(block, now)
            self._note_arrival(block)
        elif kind == "start":
            (block,) = blocks
            self._start_block(block, promised=True)
        elif kind == "halt":
            self._scaler.halt()
        elif kind in ("end", "drain"):
            drain = kind == "drain" and self._drain is not None
            told = [b for b in blocks if self._scaler.tell_to_end(b, now, "by request", drain=drain)]
            if told and drain:
                self._drain_blocks(told, "by request")
            elif told:
                self._cancel(told, dict.fromkeys(told, "by request"))

    def _note_arrival(self, block: str) -> None:
        """The first manager of a block came; told by an order or by the load, whichever is first."""
        if block not in self._came:
            self._came.add(block)
            self._changed = True
            status = self._status.get(block)
            if status is not None and status.state in (JobState.PENDING, JobState.UNKNOWN):
                self._status[block] = replace(status, state=JobState.RUNNING)  # the next query tells the rest
            self._emit(block, "registered", self._job(block), "")

    # ----------------------------------------------------------------------------------- calls to the provider

    def _start(self, count: int) -> None:
        for _ in range(count):
            with self._lock:
                if len(self._scaler.blocks) + self._promised >= self.settings.max_blocks:
                    return
                self._promised += 1
            if not self._start_block(next(self._ids), promised=True) or self._closing:
                return

    def _start_block(self, block: str, *, promised: bool) -> bool:
        """Submit one block; whether that worked."""
        with self._lock:
            self._promised -= promised
            self._scaler.submitting(block, time.monotonic())
        self._emit(block, "submitting", "", "")
        self._changed = True
        error: Exception
        try:
            job = self.provider.submit(self._launch_command(block), 1, job_name(self.label, block, self.run_id))
            if job is None:
                raise ScaleOutFailed(getattr(self.provider, "label", "?"), "its submit returned no job id")
        except Exception as e:  # noqa: BLE001
            # Providers are other people's code: whatever they raise is this block's failure, which is counted.
            error = e
        else:
            self._told_refusal = False
            self._jobs[block] = job
            self._status[block] = JobStatus(JobState.PENDING)
            self._emit(block, "submitted", str(job), "")
            self._status_due = min(self._status_due, time.monotonic() + self._interval())
            return True
        retryable = bool(getattr(error, "retryable", isinstance(error, OSError)))
        self._scaler.refused(block, time.monotonic(), retryable=retryable)
        self._status[block] = JobStatus(JobState.FAILED, message=f"cannot be started: {type(error).__name__}: {error}")
        self._last_error = error
        logger.warning("%s: block %s cannot be started: %s", self.label, block, error)
        if retryable and not self._told_refusal:
            # Nothing else would tell a person at the terminal why nothing happens.
            self._told_refusal = True
            say(f"executor {self.label}: no block can be started now, it is tried again later: {error}")
        self._emit(block, "failed", "", str(error))
        self._on_block_ended(block, str(error))
        return False

    def _ask_status(self) -> None:
        """Ask the provider about all live jobs at once, and tell the scaler."""
        blocks = [b for b in self._scaler.blocks if b in self._jobs]
        interval = self._interval()
        if blocks:
            try:
                found = self.provider.status([self._jobs[b] for b in blocks])
            except Exception as e:  # noqa: BLE001
                # A failed query says nothing of the jobs: they count as alive until one succeeds.
                self._status_errors += 1
                level = logging.WARNING if self._status_errors == 1 else logging.DEBUG
                logger.log(level, "%s: the provider cannot tell the state of its jobs: %s", self.label, e)
                interval *= 2 ** min(self._status_errors, 4)
            else:
                self._status_errors = 0
                for block, status in zip(blocks, found, strict=False):
                    self._note(block, status)
        self._status_due = time.monotonic() + interval

    def _note(self, block: str, status: JobStatus) -> None:
        known = self._scaler.blocks[block]
        before = known.state
        job = self._job(block)
        said = self._status.get(block)
        if said != status:
            self._status[block] = status
            self._changed = True
        if self._scaler.reported(block, status.state, time.monotonic(), status.message or ""):
            asked = bool(known.ending) and not known.fault
            code = "" if status.exit_code is None else f" with exit code {status.exit_code}"
            why = known.ending or f"job {job} {status.state.name}{code}: {status.message or 'it ended'}"
            if asked:
                self._status[block] = replace(status, state=JobState.SCALED_IN, message=known.ending)
            elif block not in self._came and not known.came:
                logger.warning("%s: block %s ended before a manager came from it: %s", self.label, block, why)
            self._emit(block, "ended" if asked or known.came else "failed", job, why)
            self._on_block_ended(block, why)
            self._forget_old()
        elif known.state.name in ("PENDING", "RUNNING") and (
            known.state != before or (known.state.name == "PENDING" and _news(said, status))
        ):
            self._emit(block, known.state.name.lower(), job, status.message or "")

    def _cancel(self, blocks: Sequence[str], reasons: dict[str, str]) -> list[bool]:
        """End jobs; their end is noticed by the next status query. Whether each order was accepted."""
        jobs = [self._jobs[b] for b in blocks]
        try:
            accepted = [bool(ok) for ok in self.provider.cancel(jobs)]
        except Exception as e:  # noqa: BLE001
            # As with queries; the scaler asks for it again as long as the blocks are alive.
            logger.warning("%s: the provider cannot end blocks %s: %s", self.label, ", ".join(blocks), e)
            return [False] * len(blocks)
        for block in blocks:
            logger.info("%s: block %s was told to end: %s", self.label, block, reasons.get(block, ""))
        self._status_due = min(self._status_due, time.monotonic() + self._interval())
        return accepted

    def _drain_blocks(self, blocks: list[str], why: str) -> None:
        if self._drain is None:
            self._cancel(blocks, dict.fromkeys(blocks, why))
            return
        for block in blocks:
            self._emit(block, "draining", self._job(block), why)
        self._drain(blocks)

    def _end_all(self) -> None:
        """End every block for good."""
        now = time.monotonic()
        blocks = [b for b in self._scaler.blocks if b in self._jobs]
        for block in blocks:
            self._scaler.tell_to_end(block, now, "the executor was closed", drain=False)
        if not blocks:
            return
        accepted = self._cancel(blocks, dict.fromkeys(blocks, "the executor was closed"))
        if self._descriptors():
            self._ask_status()
        for block, ok in zip(blocks, accepted, strict=False):
            if ok and block in self._scaler.blocks:
                self._note(block, JobStatus(JobState.CANCELLED, "the executor was closed"))

    # ------------------------------------------------------------------------------------------------ failures

    def _call_handler(self) -> None:
        if not self._changed:
            return
        self._changed = False
        if self._handler is None or self._gave_up:
            return
        try:
            self._handler(self._executor, self.status())
        except Exception as e:  # noqa: BLE001
            # The user's own function: its failure is the executor's, not this thread's.
            error = ScalingFailed(self.label, f"its block_error_handler raised {type(e).__name__}: {e}")
            error.__cause__ = e
            self._give_up(error)

    def _failure(self, why: str, failed: Sequence[str]) -> TooManyJobFailuresError:
        statuses = {b: self._status[b] for b in failed if b in self._status}
        if not statuses:
            statuses = dict(list(self.status().items())[-1:])
        details = describe_failures(statuses, {b: str(j) for b, j in self._jobs.items()})
        error = TooManyJobFailuresError(f"executor {self.label} starts no more blocks: {why}\n{details}")
        if self._last_error is not None:
            # Where in this module it was raised helps nobody, nor does its text twice.
            error.__context__ = self._last_error.with_traceback(None)
            error.__suppress_context__ = str(self._last_error) in details
        return error

    def _give_up(self, error: BaseException) -> None:
        if self._gave_up:
            return
        self._gave_up = True
        self._scaler.halt()
        self._on_bad_state(error)

    def _job(self, block: str) -> str:
        return str(self._jobs.get(block, ""))

    def _interval(self) -> float:
        interval = float(getattr(self.provider, "status_polling_interval", 0) or 0)
        return interval if interval > 0 else self.settings.strategy_period

    def _forget_old(self) -> None:
        """Keep the memory of a run with very many blocks bounded."""
        while len(self._status) > KEEP_ENDED + len(self._scaler.blocks):
            oldest = next(b for b in self._status if b not in self._scaler.blocks)
            self._status = {b: s for b, s in self._status.items() if b != oldest}
            self._jobs.pop(oldest, None)
            self._came.discard(oldest)


def _news(said: JobStatus | None, status: JobStatus) -> bool:
    """Whether the provider has another reason why a job is pending."""
    return bool(status.message) and (said is None or said.message != status.message)


def job_name(label: str, block: str, run_id: str = "") -> str:
    """The name under which a block is submitted.

    Args:
        label: Its executor's label.
        block: Its id.
        run_id: The id of its run, of which the start is enough to tell runs of one user apart; "" for none.

    Example:
        >>> job_name("htex", "3", "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9")
        'flowlib.0b1c2d3e.htex.block-3'
    """
    return ".".join(part for part in ("flowlib", run_id[:8], label, f"block-{block}") if part)
