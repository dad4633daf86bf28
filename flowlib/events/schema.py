"""What happened in a run, as records: every code, its fields and who writes it.

A record is a plain tuple ``(code, time, field, ...)`` with the fields in the order of ``FIELDS``.  Times are Unix
seconds as floats.  Tasks, apps, executors and managers are named by small ints; what a number stands for is told
once, by the record that introduces it (``APP``, ``EXECUTOR``, ``MANAGER``).

The schema grows by two moves only: new codes, and new fields at the end of old ones.  So any reader reads any log:
it skips codes it does not know, and takes what is there of the fields it knows.  A change that breaks this raises
``FORMAT``.

Example:
    >>> record = (Code.TASK_DONE, 1700000000.0, 7, 3)
    >>> as_dict(record)
    {'event': 'TASK_DONE', 'time': 1700000000.0, 'task': 7, 'state': 3}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT = 1
"""Version of the file format; a reader refuses higher ones."""


class Code:
    """What a record tells. Numbers are never reused; those from ``FIRST_SAMPLE`` on are dropped first.

    These are plain ints and no enum, and states and statuses in records should be plain ints, too: the garbage
    collector stops looking at a waiting tuple that holds plain values only.
    """

    RUN_STARTED: Final = 1
    """The kernel, first of all."""
    RUN_ENDED: Final = 2
    """The kernel, last of all; missing if the driver was killed. ``counts``: tasks by name of their final state."""
    EXECUTOR: Final = 3
    """The kernel, when an executor joins the run. ``kind``: its class; ``details``: its parameters as text."""
    APP: Final = 4
    """The kernel, before the first task of an app. ``kind``: "python", "bash" or "join"."""

    TASK_SUBMITTED: Final = 10
    """The kernel. ``depends``: the tasks of this run that it waits for; ``others``: how many futures from elsewhere,
    not there for none; ``asks``: amounts of resources by name, not there for none."""
    TASK_LAUNCHED: Final = 11
    """The kernel, each time it hands a try to an executor. The first ``attempt`` is 0."""
    TRY_ENDED: Final = 12
    """The executor that ran the try, or the kernel where an executor did not take it.

    ``status``: a ``flowlib.executors.high_throughput.messages.Status``; ``started`` and ``ended``: by the worker's
    clock, 0 if it never ran; ``manager``: number from its ``MANAGER`` record, -1 if none; ``worker``: its rank, -1 if
    none; ``error_type`` and ``error_text``: "" if it succeeded, else the class and at most 2 000 characters.
    """
    TASK_DONE: Final = 13
    """The kernel, exactly once per task that ends. ``state``: a ``flowlib.dataflow.states.States``.

    ``reason``: why it failed, where no ``TRY_ENDED`` tells it; not there for other states. ``tries``: what became of
    its tries, in words, if it failed after more than one.
    """
    TASK_JOINING: Final = 14
    """The kernel, when a join app's body returned. ``waits``: the tasks that it returned; ``others``: how many futures
    from elsewhere, not there for none."""
    TASK_STREAMS: Final = 15
    """The kernel, for tasks that have them. ``stdout``, ``stderr``: paths, or "" for none."""
    NOTE: Final = 16
    """The executor, for what a running task says. ``kind``: "progress" or "emit"; ``body``: bytes, as in ``Note``."""
    TASK_RUNNING: Final = 17
    """The executor, for tries that have been running for a second or more; ``time`` is their begin. ``manager``: number
    from its ``MANAGER`` record."""

    TASK_WAITING: Final = 18
    """The kernel, when a task is to wait before its next try. ``attempt``: the one that failed, of ``cause``: "error",
    "timeout", "oom", "crash" or "lost"; ``seconds``: how long it waits."""

    MANAGER: Final = 20
    """The executor. ``manager``: a number it gives at "registered", unique in the run with ``executor``.

    ``change``: "registered", "draining", "drained", "quarantined", "released", "lost" or "rejected"; ``details``: facts
    by name, for "registered".
    """
    BLOCK: Final = 21
    """The executor. ``block``: its id; ``job``: the scheduler's id, "" before there is one.

    ``change``: "submitting", "submitted", "pending", "running", "registered", "draining", "ended" or "failed".
    """
    WORKER_LOST: Final = 22
    """The executor. ``task`` and ``attempt``: what it ran, -1 if nothing."""
    INTERCHANGE: Final = 23
    """The executor. ``change``: "started", "replaced", "ended" or "lost"."""

    MESSAGE: Final = 30
    """Anybody, rarely: something a person should see. ``level``: "info", "warning" or "error"."""
    DROPPED: Final = 31
    """The log itself: so many records are missing at this place."""

    TASK_SAMPLE: Final = 40
    """The executor. Use of resources by a running try: CPU seconds so far, bytes of memory now."""
    NODE_SAMPLE: Final = 41
    """The executor. Use of resources on a manager's node: CPUs busy (0 to their number), bytes of memory used."""


FIRST_SAMPLE: Final = 40

NAMES: Mapping[int, str] = {value: name for name, value in vars(Code).items() if name.isupper()}
"""Name by code."""

STATUSES = ("OK", "RAISED", "WORKER_LOST", "LOST", "WITHDRAWN", "REFUSED")
"""Names of the values of ``TRY_ENDED``'s ``status``."""

FIELDS: Mapping[int, tuple[str, ...]] = {
    Code.RUN_STARTED: (
        *("time", "format", "run_id", "run_dir", "script", "directory", "user", "host", "pid"),
        *("python", "flowlib", "name", "config"),
    ),
    Code.RUN_ENDED: ("time", "reason", "counts"),
    Code.EXECUTOR: ("time", "executor", "label", "kind", "details"),
    Code.APP: ("time", "app", "name", "kind", "module", "file", "line"),
    Code.TASK_SUBMITTED: ("time", "task", "app", "depends", "others", "asks"),
    Code.TASK_LAUNCHED: ("time", "task", "attempt", "executor"),
    Code.TRY_ENDED: (
        *("time", "task", "attempt", "status", "started", "ended"),
        *("manager", "worker", "error_type", "error_text"),
    ),
    Code.TASK_DONE: ("time", "task", "state", "reason", "tries"),
    Code.TASK_JOINING: ("time", "task", "waits", "others"),
    Code.TASK_STREAMS: ("time", "task", "stdout", "stderr"),
    Code.TASK_RUNNING: ("time", "task", "attempt", "manager"),
    Code.NOTE: ("time", "task", "attempt", "kind", "body"),
    Code.TASK_WAITING: ("time", "task", "attempt", "cause", "seconds"),
    Code.MANAGER: ("time", "executor", "manager", "name", "change", "block", "host", "slots", "reason", "details"),
    Code.BLOCK: ("time", "executor", "block", "change", "job", "reason"),
    Code.WORKER_LOST: ("time", "executor", "manager", "worker", "task", "attempt", "reason"),
    Code.INTERCHANGE: ("time", "executor", "change", "pid", "address", "reason"),
    Code.MESSAGE: ("time", "level", "source", "text"),
    Code.DROPPED: ("time", "events", "samples", "reason"),
    Code.TASK_SAMPLE: ("time", "task", "attempt", "cpu_seconds", "memory"),
    Code.NODE_SAMPLE: ("time", "executor", "manager", "cpus", "memory"),
}
"""Names of the fields after the code, in order; the first is always the time."""


def as_dict(record: Sequence[Any]) -> dict[str, Any]:
    """A record with names.

    Args:
        record: ``(code, time, ...)``. Missing trailing fields are left out; unknown codes and further fields, which a
            newer flowlib wrote, get the names ``CODE_<n>`` and ``field_<n>``.

    Returns:
        ``{"event": name, "time": ..., ...}`` in the order of the record.
    """
    code, values = record[0], record[1:]
    names = FIELDS.get(code, ("time",))
    named = {"event": NAMES.get(code, f"CODE_{code}")}
    for index, value in enumerate(values):
        named[names[index] if index < len(names) else f"field_{index}"] = value
    return named
