"""A provider without processes, and an executor that only writes down what it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from flowlib.executors.blocks import BlockManager
from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers.base import ExecutionProvider
from flowlib.scaling import BlockLoad, Load, Settings

DEADLINE = 10.0


class FakeProvider(ExecutionProvider):
    """Jobs are entries in a table; tests move them on."""

    def __init__(self, *, init_blocks: int = 1, min_blocks: int = 0, max_blocks: int = 1, interval: float = 0.01):
        self.init_blocks = init_blocks
        self.min_blocks = min_blocks
        self.max_blocks = max_blocks
        self.interval = interval
        self.jobs: dict[str, JobStatus] = {}
        self.commands: list[str] = []
        self.queries = 0
        self.cancelled: list[str] = []
        self.refuse: BaseException | None = None
        self.broken_query: Exception | None = None
        self.gate: threading.Event | None = None
        """Where submit waits if set."""

    @property
    def label(self) -> str:
        return "fake"

    @property
    def status_polling_interval(self) -> float:
        return self.interval

    def submit(self, command: str, tasks_per_node: int, job_name: str = "") -> str:
        if self.gate is not None:
            self.gate.wait(DEADLINE)
        if self.refuse is not None:
            raise self.refuse
        self.commands.append(command)
        job = f"job-{len(self.commands) - 1}"
        self.jobs[job] = JobStatus(JobState.PENDING)
        return job

    def status(self, job_ids: Sequence[Any]) -> list[JobStatus]:
        self.queries += 1
        if self.broken_query is not None:
            raise self.broken_query
        return [self.jobs[job] for job in job_ids]

    def cancel(self, job_ids: Sequence[Any]) -> list[bool]:
        for job in job_ids:
            self.cancelled.append(job)
            self.jobs[job] = JobStatus(JobState.CANCELLED)
        return [True] * len(job_ids)


class Executor:
    """What a block manager's owner sees.

    Attributes:
        events: ``(block, change, job, reason)`` as emitted.
        ended: ``(block, why)``.
        bad: The error that broke it.
    """

    def __init__(self, provider: Any, handler: Any = True, *, drains: bool = True, **settings: Any) -> None:
        self.provider = provider
        self.changed = threading.Condition()
        self.events: list[tuple[str, str, str, str]] = []
        self.ended: list[tuple[str, str]] = []
        self.drained: list[str] = []
        self.bad: BaseException | None = None
        self.queued = self.running = 0
        self.loads: dict[str, BlockLoad] = {}
        self.looks = 0
        settings.setdefault("strategy_period", 0.02)
        self.command: Callable[[str], str] = lambda block: f"manager {block}"
        self.manager = BlockManager(
            label="fake",
            provider=provider,
            settings=Settings.of(provider, **settings),
            launch_command=lambda block: self.command(block),
            load=self.load,
            on_bad_state=self.set_bad_state_and_fail_all,
            on_block_ended=lambda block, why: self.note(self.ended, (block, why)),
            emit=lambda *event: self.note(self.events, event),
            block_error_handler=handler,
            executor=self,
            drain=(lambda blocks: [self.note(self.drained, b) for b in blocks] and None) if drains else None,
        )

    def load(self) -> Load:
        self.looks += 1
        with self.changed:
            self.changed.notify_all()
        return Load(self.queued, self.running, dict(self.loads))

    def note(self, where: list[Any], what: Any) -> None:
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def set_bad_state_and_fail_all(self, error: BaseException) -> None:
        with self.changed:
            self.bad = error
            self.changed.notify_all()

    def register(self, block: str, slots: int = 2) -> None:
        self.loads[block] = BlockLoad(1, slots)
        self.manager.block_registered(block)

    def changes(self, block: str) -> list[str]:
        return [change for b, change, _, _ in self.events if b == block]

    def wait(self, what: Callable[[], Any], seconds: float = DEADLINE) -> None:
        """Until something holds; looked at whenever anything is told."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not what():
                left = deadline - time.monotonic()
                assert left > 0, (self.events, self.ended, self.bad)
                self.changed.wait(min(left, 0.05))
