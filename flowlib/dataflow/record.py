"""What the kernel knows of one task, in one object.

It is the graph's node and the payload together, in slots, because a run holds as many as there are tasks waiting.
What a finished task needs no more is dropped by ``forget``, so that plain reference counting frees it.  What few
tasks have sits in ``Rare``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.graph import Node

if TYPE_CHECKING:
    from contextvars import Context

    from flowlib.dataflow.futures import AppFuture, DataFuture
    from flowlib.dataflow.kernel import DataFlowKernel
    from flowlib.dataflow.lanes import Lane
    from flowlib.dataflow.outcomes import Failed
    from flowlib.dataflow.tries import Try
    from flowlib.memory.journal import Look
    from flowlib.memory.store import Store
    from flowlib.memory.verdict import Verdict
    from flowlib.options import TaskOptions

NO_KWARGS: dict[str, Any] = {}
"""Shared by tasks without keyword arguments. Never changed."""


class Rare:
    """Facts that most tasks lack.

    Attributes:
        automatic: Streams that were given as ``AUTO_LOGNAME``.
        fail_history: Texts of the failures that were judged so far.
        hashsum: Key in the memo table.
        heavy: Whether its arguments are too large to be kept when it is done.
        from_memo: Whether the value was remembered.
        joins: What a join app's body returned.
        label: The ``label`` of the call.
        memory: Bytes that the next try asks for, where a ``Retry`` changed that; 0 otherwise.
        outputs: Futures of the output files.
        refusals: How executors failed it that turned out to have no node for it.
        spent: What failures cost so far, by what pays for them; used by a ``Retry``.
        stdout: Stream as the user sees it in the future.
        stderr: Likewise.
        look: What became of the look for a remembered value: that, what the app is made of, and the store.
        told: What became of all tries, in words, when the task has failed after more than one.
        tries: The tries that failed.
    """

    __slots__ = (
        "automatic",
        "fail_history",
        "from_memo",
        "hashsum",
        "heavy",
        "joins",
        "label",
        "look",
        "memory",
        "outputs",
        "refusals",
        "spent",
        "stderr",
        "stdout",
        "told",
        "tries",
    )

    def __init__(self) -> None:
        self.automatic: tuple[str, ...] = ()
        self.fail_history: tuple[str, ...] = ()
        self.from_memo = False
        self.hashsum: str | None = None
        self.heavy = False
        self.joins: Any = None
        self.label: str | None = None
        self.memory = 0
        self.outputs: list[DataFuture] = []
        self.refusals: tuple[Failed, ...] = ()
        self.spent: dict[str, float] = {}
        self.stdout: Any = None
        self.stderr: Any = None
        self.told = ""
        self.tries: tuple[Try, ...] = ()
        self.look: tuple[Look, dict[str, bytes] | None, Store] | None = None


class TaskRecord(Node):
    """One task.

    Attributes:
        kernel: Whose task it is.
        future: Its future, until it is done.
        app: What was called: has ``name``, ``kind``, ``func``.
        options: How it was called.
        func: What executors run.
        args: Positional arguments as given, futures and all.
        kwargs: Keyword arguments likewise.
        depends: Whether there are futures in the arguments.
        lanes: Executors that may run it.
        lane: The one that has it.
        walltime: Seconds that an attempt may take; None for no limit.
        resource_specification: What it asks of an executor; Parsl's name.
        context: Context variables at the call, for executors in this process.
        fail_count: Failed attempts.
        fail_cost: What they cost of the retries.
        losses: Attempts that the infrastructure lost.
        submitted: Unix time of the call.
        launched: Unix time of the last launch; 0 before.
        ended: Unix time of the end; 0 before.
        rare: More, if there is more.
    """

    __slots__ = (
        "app",
        "args",
        "context",
        "depends",
        "ended",
        "fail_cost",
        "fail_count",
        "func",
        "future",
        "kernel",
        "kwargs",
        "lane",
        "lanes",
        "launched",
        "losses",
        "memoize",
        "options",
        "rare",
        "resource_specification",
        "submitted",
        "walltime",
    )

    future: AppFuture[Any] | None
    lane: Lane | None
    context: Context | None
    rare: Rare | None

    def __init__(
        self,
        kernel: DataFlowKernel,
        app: Any,
        options: TaskOptions,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        lanes: tuple[Lane, ...],
        counts: list[int],
        submitted: float,
    ) -> None:
        Node.__init__(self, counts)
        self.kernel = kernel
        self.app = app
        self.options = options
        self.func: Callable[..., Any] | None = func
        self.args = args
        self.kwargs = kwargs
        self.depends = False
        self.lanes = lanes
        self.lane = None
        self.walltime: float | None = options.walltime
        self.resource_specification: dict[str, Any] = NO_KWARGS
        self.context = None
        self.memoize = False
        self.fail_count = 0
        self.fail_cost: float = 0
        self.losses = 0
        self.submitted = submitted
        self.launched = 0.0
        self.ended = 0.0
        self.future = None
        self.rare = None

    def forget(self) -> None:
        """Let go of everything that a finished task needs no more."""
        self.func = None
        self.args = ()
        self.kwargs = NO_KWARGS
        self.context = None
        self.future = None
        self.lane = None

    def more(self) -> Rare:
        """``rare``, made if need be."""
        rare = self.rare
        if rare is None:
            rare = self.rare = Rare()
        return rare

    def stream(self, name: str) -> Any:
        """The task's "stdout" or "stderr" as its future shows it."""
        return None if self.rare is None else getattr(self.rare, name)

    def automatic(self, name: str) -> bool:
        """Whether the task's "stdout" or "stderr" was given as ``AUTO_LOGNAME``."""
        return self.rare is not None and name in self.rare.automatic

    @property
    def cache(self) -> Verdict | None:
        """Whether its value was remembered, and why or why not; None without ``cache=True``.

        ``hit`` says whether it ran, ``why()`` what differs from the most alike call that is remembered.
        """
        if self.rare is None or self.rare.look is None:
            return None
        from flowlib.memory.verdict import Verdict

        return Verdict(*self.rare.look)

    def describe(self) -> str:
        """The task in a message."""
        return f"task {self.id} ({self.app.name})"

    # ---- as a mapping, with the names that retry handlers and std_autopath functions of the field use

    def __getitem__(self, key: str) -> Any:
        try:
            return _KEYS[key](self)
        except KeyError:
            from flowlib.suggest import nearest

            raise KeyError(f"a task record has no {key!r}{nearest(key, sorted(_KEYS))}") from None

    def __setitem__(self, key: str, value: Any) -> None:
        # Memoizers of the field leave their key in the record.
        if key != "hashsum":
            raise KeyError(f"{key!r} of a task record cannot be set; only 'hashsum' can")
        self.more().hashsum = value

    def get(self, key: str, default: Any = None) -> Any:
        """The value for ``key``, or ``default`` if there is no such key."""
        return _KEYS[key](self) if key in _KEYS else default

    def __contains__(self, key: object) -> bool:
        return key in _KEYS

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def keys(self) -> Iterator[str]:
        """Names that ``record[name]`` knows."""
        return iter(_KEYS)

    def __repr__(self) -> str:
        return f"<TaskRecord {self.describe()}: {self.status.name}>"


def _time(stamp: float) -> datetime | None:
    # Local time without a zone, as handlers of the field expect it.
    return datetime.fromtimestamp(stamp) if stamp else None  # noqa: DTZ006


def _depends(record: TaskRecord) -> list[Future[Any]]:
    return record.kernel.engine.find(record)


_KEYS: Mapping[str, Callable[[TaskRecord], Any]] = {
    "id": lambda r: r.id,
    "try_id": lambda r: r.attempt,
    "dfk": lambda r: r.kernel,
    "func_name": lambda r: r.app.name,
    "func": lambda r: r.app.func,
    "args": lambda r: r.args,
    "kwargs": lambda r: r.kwargs,
    "status": lambda r: r.status,
    "depends": _depends,
    "app_fu": lambda r: r.future,
    "exec_fu": lambda r: None,
    "executor": lambda r: None if r.lane is None else r.lane.label,
    "fail_count": lambda r: r.fail_count,
    "fail_cost": lambda r: r.fail_cost,
    "fail_history": lambda r: [] if r.rare is None else list(r.rare.fail_history),
    "tries": lambda r: [] if r.rare is None else list(r.rare.tries),
    "checkpoint": lambda r: False,
    "hashsum": lambda r: None if r.rare is None else r.rare.hashsum,
    "memoize": lambda r: r.memoize,
    "ignore_for_cache": lambda r: list(r.options.ignore_for_cache or ()),
    "from_memo": lambda r: None if not r.memoize else r.rare is not None and r.rare.from_memo,
    "resource_specification": lambda r: r.resource_specification,
    "join": lambda r: r.app.kind == "join",
    "joins": lambda r: None if r.rare is None else r.rare.joins,
    "time_invoked": lambda r: _time(r.submitted),
    "try_time_launched": lambda r: _time(r.launched),
    "time_returned": lambda r: _time(r.ended),
    "try_time_returned": lambda r: _time(r.ended),
}
