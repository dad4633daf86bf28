"""Shows how a run gets on, while the user's script waits: a live table, lines in a log file, or text in a notebook.

One thread looks at the kernel's counters a few times a second.  Tasks do nothing for it, and a terminal that blocks
or goes away stops nothing but the display.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from flowlib.tally import Row, Snapshot, Tally, combined, duration, number

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType
    from typing_extensions import Self

LIVE_PERIOD = 0.25
LINE_PERIOD = 5.0
ROWS = 12
"""Most apps in the live table; those with the fewest open tasks are summed up."""


class Kernel(Protocol):
    """What a display needs to know of a kernel."""

    def progress_snapshot(self) -> Snapshot:
        """Number of tasks by app name and state."""
        ...


class ProgressDisplay:
    """Shows the progress of a kernel's tasks between ``start`` and ``stop``.

    Args:
        kernel: The kernel.
        stream: Where to; None for standard error.
        period: Seconds between updates; None for 0.25 on a terminal and 5 elsewhere.
    """

    def __init__(self, kernel: Kernel, stream: TextIO | None = None, period: float | None = None) -> None:
        self._kernel = kernel
        self._stream = stream
        self._period = period
        self._tally = Tally()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to show; does nothing if it has begun, or if there is nothing to show it on."""
        stream = self._stream if self._stream is not None else sys.stderr
        if self._thread is None and stream is not None and not getattr(stream, "closed", False):
            self._stopping.clear()
            face = _choose(stream)
            self._thread = threading.Thread(target=self._run, args=(face,), name="flowlib-progress", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """Show the last state and end.

        Args:
            timeout: Most seconds to wait for a terminal that does not take it.
        """
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(timeout)
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, face: _Face) -> None:
        period = face.period if self._period is None else self._period
        try:
            with face:
                while not self._stopping.wait(period):
                    self._look()
                    face.show(self._tally, self._facts())
                self._look()
                face.finish(self._tally, self._facts())
        except (OSError, ValueError):
            # The stream was closed or its other end went away: there is nobody to show anything to.
            return

    def _look(self) -> None:
        self._tally.update(time.monotonic(), self._kernel.progress_snapshot())

    def _facts(self) -> str:
        """What the executors have to work with, from those that tell it.

        An executor's ``progress_facts()`` returns numbers by plural noun, from memory: ``{"blocks": 1, "workers": 8}``.
        """
        parts = []
        executors: dict[str, Any] = getattr(self._kernel, "executors", {})
        for label, executor in list(executors.items()):
            facts = getattr(executor, "progress_facts", None)
            if facts is not None:
                known = ", ".join(f"{count} {what if count != 1 else what[:-1]}" for what, count in facts().items())
                parts.append(f"{label}: {known}")
        return "; ".join(parts)


def progress(dfk: Kernel | None = None) -> ProgressDisplay:
    """Show the progress of a run while a ``with`` block lasts.

    A live table on a terminal, a line every few seconds elsewhere, both on standard error; text in a notebook.

    Args:
        dfk: The kernel; None for the loaded one.

    Returns:
        A context manager.

    Raises:
        NoDataFlowKernelError: None is given and none is loaded.
    """
    if dfk is None:
        from flowlib.dataflow.loader import dfk as loaded

        dfk = loaded()
    return ProgressDisplay(dfk)


# ---------------------------------------------------------------------------------------------- where it is shown


class _Face(Protocol):
    period: float

    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def show(self, tally: Tally, facts: str) -> None: ...
    def finish(self, tally: Tally, facts: str) -> None: ...


def _choose(stream: TextIO) -> _Face:
    shell = _notebook()
    if shell is not None:
        return _Notebook()
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return _Terminal(stream)
    return _Lines(stream)


def _notebook() -> object | None:
    """The notebook's shell, if this is one; imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if hasattr(shell, "kernel") else None


class _Lines:
    """A line now and then, when something changed."""

    period = LINE_PERIOD

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def show(self, tally: Tally, facts: str) -> None:
        line = tally.line() + (f" [{facts}]" if facts else "")
        if line != self._last and tally.total.total:
            self._last = line
            self._stream.write(f"flowlib: {line}\n")
            self._stream.flush()

    finish = show


class _Notebook:
    """Text below the cell, replaced in place."""

    period = 1.0

    def __init__(self) -> None:
        from IPython import display  # type: ignore[import-not-found,unused-ignore]

        self._pretty: Any = display.Pretty
        # Made in the thread of the cell, so that it belongs to that cell.
        self._handle: Any = display.display(self._pretty("flowlib: no tasks yet"), display_id=True)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def show(self, tally: Tally, facts: str) -> None:
        lines = [f"flowlib: {tally.line()}" + (f" [{facts}]" if facts else "")]
        lines += [f"  {row.name}: {row.done} of {row.total} done, {row.failed} failed" for row in _most_open(tally)[0]]
        self._handle.update(self._pretty("\n".join(lines)))

    finish = show


class _Terminal:
    """A live table; what the script prints meanwhile goes above it."""

    period = LIVE_PERIOD

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            console=Console(file=self._stream),
            auto_refresh=False,
            # Only a stream that ends at a terminal: a redirected one must get what is written to it.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, tally: Tally, facts: str) -> None:
        if tally.total.total:
            self._live.update(table(tally, facts), refresh=True)

    finish = show


def _most_open(tally: Tally) -> tuple[list[Row], list[Row]]:
    """The rows to show, in the order of the run, and the others."""
    if len(tally.rows) <= ROWS:
        return tally.rows, []
    shown = set(sorted(tally.rows, key=lambda row: row.finished - row.total)[:ROWS])
    return [row for row in tally.rows if row in shown], [row for row in tally.rows if row not in shown]


def table(tally: Tally, facts: str = "") -> RenderableType:
    """The live table.

    Args:
        tally: What to show.
        facts: What the executors have to work with.
    """
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="dim")
    grid.add_column("app", no_wrap=True, max_width=32)
    grid.add_column("", width=24)
    for heading in ("done", "failed", "launched", "waiting"):
        grid.add_column(heading, justify="right")
    shown, others = _most_open(tally)
    for row in shown:
        bar = ProgressBar(total=row.total, completed=row.finished, width=24)
        failed = Text(str(row.failed), style="red" if row.failed else "dim")
        grid.add_row(Text(row.name), bar, str(row.done), failed, str(row.launched), str(row.waiting))
    if others:
        rest = combined(f"{len(others)} more", others)
        grid.add_row(rest.name, "", str(rest.done), str(rest.failed), str(rest.launched), str(rest.waiting))
    total = tally.total
    line = f"{total.finished} of {total.total} tasks"
    if tally.rate:
        line += f", {number(tally.rate)}/s"
    if tally.left:
        line += f", about {duration(tally.left)} left"
    return Group(grid, Text(line + (f"   {facts}" if facts else ""), style="bold"))
