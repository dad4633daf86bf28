"""A run in a few lines: which tasks failed and why, and what became of the tasks of each app."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.states import FINAL_FAILURE_STATES, States
from flowlib.events.render import cut
from flowlib.events.schema import STATUSES, Code, as_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_OK = STATUSES.index("OK")
_LOSSES = (STATUSES.index("WORKER_LOST"), STATUSES.index("LOST"))


class _App:
    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks = 0
        self.states: Counter[str] = Counter()
        self.tries = 0
        self.lost = 0
        self.seconds = 0.0


class Digest:
    """What the records of a run come to.

    Args:
        records: As an ``EventReader`` gives them.

    Example:
        >>> digest = Digest(
        ...     [
        ...         (Code.APP, 1.0, 0, "divide", "python", "m", "f.py", 3),
        ...         (Code.TASK_SUBMITTED, 1.0, 0, 0, []),
        ...         (Code.TRY_ENDED, 2.0, 0, 0, 1, 1.5, 2.0, -1, -1, "ZeroDivisionError", "division by zero"),
        ...         (Code.TASK_DONE, 2.0, 0, 4),
        ...     ]
        ... )
        >>> print(*digest.failed(), sep="\\n")
        1 of 1 tasks failed
        task 0 (divide): ZeroDivisionError: division by zero
        >>> print(*digest.summary(), sep="\\n")
        app     tasks  states    tries  lost  seconds each
        divide      1  failed 1      1     0           0.5
    """

    def __init__(self, records: Iterable[Sequence[Any]]) -> None:
        self._apps: dict[int, _App] = {}
        self._app_of: dict[int, _App] = {}
        self._depends: dict[int, Sequence[int]] = {}
        self._reasons: dict[int, str] = {}
        self._histories: dict[int, str] = {}
        self._tries: Counter[int] = Counter()
        self._failed: dict[int, States] = {}
        self._blocks: Counter[str] = Counter()
        self._managers: Counter[str] = Counter()
        self._failed_blocks: Counter[str] = Counter()
        self._workers_lost = 0
        self._dropped = 0
        self._first = self._last = 0.0
        self._over = False
        for record in records:
            take = _TAKERS.get(record[0])
            if take is not None:
                take(self, as_dict(record))
            if len(record) > 1:
                self._last = record[1]

    def failed(self, width: int | None = None) -> Iterator[str]:
        """A line for each task that failed, in the order of their ends, after one with their number.

        Args:
            width: Most characters of a line; None for whole lines.

        Yields:
            A line without its end.
        """
        number, total = len(self._failed), len(self._app_of)
        yield f"{number or 'none'} of {total} tasks failed"
        for task, state in self._failed.items():
            line = f"{self._name(task)}: {self._why(task, state)}"
            yield line if width is None else cut(line, width)

    def summary(self) -> Iterator[str]:
        """A table with a line for each app, and what became of workers, managers and blocks where there are any."""
        rows = [("app", "tasks", "states", "tries", "lost", "seconds each")]
        for app in self._apps.values():
            states = ", ".join(f"{name} {count}" for name, count in sorted(app.states.items()))
            missing = app.tasks - sum(app.states.values())
            if missing:
                states = f"{states}, unfinished {missing}" if states else f"unfinished {missing}"
            each = f"{app.seconds / app.tries:.3g}" if app.tries else "-"
            rows.append((app.name, str(app.tasks), states, str(app.tries), str(app.lost), each))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, tasks, states, tries, lost, each in rows:
            yield (
                f"{name:<{widths[0]}}  {tasks:>{widths[1]}}  {states:<{widths[2]}}  {tries:>{widths[3]}}  "
                f"{lost:>{widths[4]}}  {each:>{widths[5]}}"
            )

        yield from self._machines()

    def _machines(self) -> Iterator[str]:
        """Lines about what the executors had to work with."""
        for name, counts in (("blocks", self._blocks), ("managers", self._managers)):
            if counts:
                yield f"{name}: " + ", ".join(f"{count} {change}" for change, count in counts.items())
        if self._workers_lost:
            yield f"workers lost with a task: {self._workers_lost}"
        for reason, count in self._failed_blocks.most_common(3):
            yield f"blocks failed: {count}, because: {reason}"
        if self._dropped:
            yield f"records missing because the disk or memory was full: {self._dropped}"
        if self._first:
            seconds = f"{self._last - self._first:.3g} s"
            yield f"the run took {seconds}" if self._over else f"the run is not over, or was killed; so far {seconds}"

    def _name(self, task: int) -> str:
        app = self._app_of.get(task)
        return f"task {task}" if app is None else f"task {task} ({app.name})"

    def _why(self, task: int, state: States) -> str:
        if state is States.dep_fail:
            bad = [parent for parent in self._depends.get(task, ()) if parent in self._failed]
            return f"not run, because {self._name(bad[0])} failed" if bad else "not run, because what it needs failed"
        if state is States.cancelled:
            return "cancelled"
        reason = " ".join(self._reasons.get(task, "no reason is recorded").split())
        tries = self._tries[task]
        return reason if tries < 2 else f"{reason} ({self._histories.get(task) or f'the last of {tries} tries'})"

    # -------------------------------------------------------------------------------------------- what records tell

    def _on_app(self, fields: dict[str, Any]) -> None:
        self._apps[fields["app"]] = _App(fields["name"])

    def _on_submitted(self, fields: dict[str, Any]) -> None:
        app = self._apps.setdefault(fields["app"], _App("?"))
        app.tasks += 1
        self._app_of[fields["task"]] = app
        if fields.get("depends"):
            self._depends[fields["task"]] = fields["depends"]

    def _on_try(self, fields: dict[str, Any]) -> None:
        task, status = fields["task"], fields["status"]
        app = self._app_of.get(task)
        if app is not None:
            app.tries += 1
            app.lost += status in _LOSSES
            if fields.get("started"):
                app.seconds += fields["ended"] - fields["started"]
        self._tries[task] += 1
        if status != _OK:
            kind, text = fields.get("error_type", ""), fields.get("error_text", "")
            self._reasons[task] = f"{kind.rpartition('.')[2]}: {text}" if kind else STATUSES[status].lower()

    def _on_done(self, fields: dict[str, Any]) -> None:
        task, state = fields["task"], States(fields["state"])
        app = self._app_of.get(task)
        if app is not None:
            app.states[state.name] += 1
        if state in FINAL_FAILURE_STATES:
            self._failed[task] = state
            if fields.get("reason"):
                self._reasons[task] = fields["reason"]
            if fields.get("tries"):
                self._histories[task] = fields["tries"]
        else:
            self._reasons.pop(task, None)
            self._tries.pop(task, None)
            self._depends.pop(task, None)

    def _on_run_started(self, fields: dict[str, Any]) -> None:
        self._first = fields["time"]

    def _on_run_ended(self, fields: dict[str, Any]) -> None:
        self._over = True

    def _on_block(self, fields: dict[str, Any]) -> None:
        change = fields["change"]
        if change in ("submitted", "registered", "failed"):
            self._blocks[change] += 1
        if change == "failed":
            self._failed_blocks[" ".join(str(fields.get("reason", "")).split())] += 1

    def _on_manager(self, fields: dict[str, Any]) -> None:
        if fields["change"] in ("registered", "lost", "rejected", "quarantined"):
            self._managers[fields["change"]] += 1

    def _on_worker_lost(self, fields: dict[str, Any]) -> None:
        self._workers_lost += 1

    def _on_dropped(self, fields: dict[str, Any]) -> None:
        self._dropped += fields.get("events", 0)


_TAKERS = {
    Code.RUN_STARTED: Digest._on_run_started,
    Code.RUN_ENDED: Digest._on_run_ended,
    Code.BLOCK: Digest._on_block,
    Code.MANAGER: Digest._on_manager,
    Code.WORKER_LOST: Digest._on_worker_lost,
    Code.DROPPED: Digest._on_dropped,
    Code.APP: Digest._on_app,
    Code.TASK_SUBMITTED: Digest._on_submitted,
    Code.TRY_ENDED: Digest._on_try,
    Code.TASK_DONE: Digest._on_done,
}
