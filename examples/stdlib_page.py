"""The report that ``stdlib_report.py`` writes: one HTML page that needs nothing else, its plots drawn as SVG."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stdlib_measure import Module, Piece


@dataclass
class Failure:
    """An input that could not be measured: which, how often it was tried, and why."""

    path: str
    tries: int
    error: str


@dataclass
class Group:
    """A package of the library, or one of its top-level modules."""

    name: str
    modules: int = 0
    lines: int = 0
    documentable: int = 0
    documented: int = 0
    branches: int = 0
    lengths: list[int] = field(default_factory=list)

    @property
    def documentation(self) -> float:
        """Per cent of the public functions, methods and classes that have a docstring."""
        return 100 * self.documented / self.documentable if self.documentable else 0.0

    @property
    def complexity(self) -> float:
        """Decisions per function."""
        return self.branches / len(self.lengths) if self.lengths else 0.0


@dataclass
class Figures:
    """All that the page shows."""

    source: str
    version: str
    groups: list[Group]
    imports: list[tuple[str, int]]
    calls: list[tuple[str, int]]
    failures: list[Failure]
    spans: list[tuple[int, float, float]]
    """Of each piece: the worker, and the seconds after the start when it began and ended."""


def gather(
    source: str,
    version: str,
    pieces: Iterable[Piece],
    frequent: dict[str, list[tuple[str, int]]],
    failures: list[Failure],
    began: float,
) -> Figures:
    """Add up what the tasks found."""
    groups: dict[str, Group] = {}
    spans = []
    for piece in pieces:
        spans.append((piece.worker, piece.began - began, piece.ended - began))
        for module in piece.modules:
            _add(groups.setdefault(module.group, Group(module.group)), module)
    ordered = sorted(groups.values(), key=lambda group: -group.lines)
    return Figures(source, version, ordered, frequent["import"], frequent["call"], failures, spans)


def _add(group: Group, module: Module) -> None:
    group.modules += 1
    group.lines += module.lines
    group.documentable += module.documentable
    group.documented += module.documented
    group.branches += module.branches
    group.lengths += module.lengths


def print_summary(figures: Figures, tasks: int, seconds: float, page_path: str) -> None:
    """The report in short, for the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(
        title=f"Python {figures.version}: the standard library's largest parts", box=box.SIMPLE_HEAD, padding=(0, 0)
    )
    table.add_column("part", no_wrap=True)
    for heading in ("modules", "lines", "functions", "median", "documented", "decisions"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in figures.groups[:12]:
        table.add_row(*_cells(group))
    console.print(table)
    lengths = [length for group in figures.groups for length in group.lengths]
    console.print("Lines of a function, in all of them:")
    for name, count, share in length_classes(lengths):
        console.print(f"{name:>8} [blue]{'█' * round(46 * share)}[/] {count:,}")
    for failure in figures.failures[:4]:
        text = f"Not measured after {failure.tries} tries: {failure.path}: {failure.error}"
        console.print(text, markup=False, style="red", no_wrap=True, overflow="ellipsis")
    if len(figures.failures) > 4:
        console.print(f"... and {len(figures.failures) - 4} more, listed in the report", style="red")
    lines = sum(group.lines for group in figures.groups)
    modules = sum(group.modules for group in figures.groups)
    workers = len({span[0] for span in figures.spans})
    console.print(
        f"{modules:,} modules with {lines:,} lines in {tasks:,} tasks on {workers} workers, {seconds:.1f} s.\n"
        f"The report: {page_path}",
        soft_wrap=True,
    )


def _cells(group: Group) -> list[str]:
    median = f"{statistics.median(group.lengths):.0f}" if group.lengths else "–"
    return [
        group.name,
        f"{group.modules:,}",
        f"{group.lines:,}",
        f"{len(group.lengths):,}",
        median,
        f"{group.documentation:.0f} %",
        f"{group.complexity:.1f}",
    ]


def page(figures: Figures) -> str:
    """The whole page."""
    library = [group for group in figures.groups if group.name != "tests"]
    lengths = [length for group in library for length in group.lengths]
    lines = sum(group.lines for group in figures.groups)
    modules = sum(group.modules for group in figures.groups)
    functions = sum(len(group.lengths) for group in figures.groups)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(group)) + "</tr>"
        for group in figures.groups[:15]
    )
    failed = "".join(
        f"<tr><td>{escape(f.path)}</td><td>{f.tries}</td><td>{escape(f.error)}</td></tr>" for f in figures.failures
    )
    headings = ("part", "modules", "lines", "functions", "median length", "documented", "decisions per function")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Python {figures.version}: what the standard library is made of</title><style>{STYLE}</style></head><body>
<h1>What Python {figures.version}’s standard library is made of</h1>
<p class="lead"><b>{modules:,}</b> modules <b>{lines:,}</b> lines <b>{functions:,}</b> functions
<b>{len(figures.failures)}</b> files that are not valid Python</p>
<h2>Documented, or complicated?</h2>
<p>Each circle is a package or a module with 2,000 lines or more, its area is its size. Tests are left out.</p>
{scatter([group for group in library if group.lines >= 2000 and group.lengths])}
<h2>Functions are short</h2>
<p>Half of the library’s {len(lengths):,} functions have {statistics.median(lengths or [0]):.0f} lines or fewer; the
longest has {max(lengths, default=0):,}.</p>
{histogram(lengths)}
<div class="two"><div><h2>Imported most</h2>{bars(figures.imports)}</div>
<div><h2>Called most</h2>{bars(figures.calls)}</div></div>
<h2>The largest parts</h2>
<table><tr>{"".join(f"<th>{heading}</th>" for heading in headings)}</tr>{rows}</table>
<h2>Not measured</h2>
<p>Each was tried again by itself. Some are broken on purpose: the library’s tests
need them, and so does this report.</p>
<table class="text"><tr><th>file</th><th>tries</th><th>why</th></tr>{failed}</table>
<h2>Who did it</h2>
<p>{len(figures.spans)} pieces of work over the seconds of the run, a row for each worker process.</p>
{timeline(figures.spans)}
<p class="foot">Source: {escape(figures.source)}</p>
</body></html>
"""


STYLE = """
:root { --ink: #1d2733; --soft: #66717f; --rule: #dfe4ea; --paper: #fff; --a: #2468b4; --b: #e07b39; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ee; --soft: #95a1af; --rule: #313b47; --paper: #14191f; --a: #6aa9ec; --b: #f0a066; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
  margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin-bottom: .4rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .2rem; }
p { color: var(--soft); margin: .2rem 0 .8rem; } .lead { font-size: 1.05rem; } .lead b { color: var(--ink); }
.lead b:not(:first-child) { margin-left: 1.2rem; } .foot { font-size: .8rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: var(--soft); text-align: right; vertical-align: bottom; } td { text-align: right; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child, .text th, .text td { text-align: left; } .text td { overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem; }
@media (max-width: 640px) { .two { grid-template-columns: 1fr; } }
svg { width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); } svg .rule { stroke: var(--rule); } svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; } svg .a { fill: var(--a); } svg .b { fill: var(--b); }
svg circle { fill: var(--a); fill-opacity: .45; stroke: var(--a); }
"""


def scatter(groups: list[Group]) -> str:
    """Complexity against documentation, with names where they fit."""
    width, height, left, bottom = 860, 430, 46, 44
    most = max((group.complexity for group in groups), default=1) * 1.08
    scale = 30 / math.sqrt(max((group.lines for group in groups), default=1))
    parts = []
    for percent in range(0, 101, 25):
        y = _at(percent, 100, height - bottom, 14)
        parts.append(f'<line class="rule" x1="{left}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft end" x="{left - 6}" y="{y + 4:.1f}">{percent} %</text>')
    for step in range(0, math.floor(most) + 1, max(1, round(most / 8))):
        x = _at(step, most, left, width)
        parts.append(f'<text class="soft middle" x="{x:.1f}" y="{height - bottom + 18}">{step}</text>')
    parts.append(f'<text class="soft end" x="{width}" y="{height - 4}">decisions per function →</text>')
    parts.append(f'<text class="soft" x="{left + 8}" y="28">↑ documented</text>')
    labels: list[str] = []
    taken: list[tuple[float, float, float, float]] = []
    for group in sorted(groups, key=lambda g: -g.lines):
        x, y = _at(group.complexity, most, left, width), _at(group.documentation, 100, height - bottom, 14)
        radius = max(3.0, scale * math.sqrt(group.lines))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{escape(group.name)}: {group.lines:,} lines, '
            f"{group.documentation:.0f} % documented, {group.complexity:.1f} decisions per function</title></circle>"
        )
        text_width = 6.6 * len(group.name)
        inside = [x - text_width / 2] if text_width < 2 * radius else []
        for start in (*inside, x + radius + 3, x - radius - 3 - text_width):
            box = (start, y - 7, start + text_width, y + 7)
            if box[0] > left and box[2] < width and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                labels.append(f'<text x="{start:.1f}" y="{y + 4:.1f}">{escape(group.name)}</text>')
                break
    return _svg(width, height, parts + labels)


def length_classes(lengths: list[int]) -> list[tuple[str, int, float]]:
    """How many functions have 1, 2, 3-4, 5-8 ... lines: name, number, and number as share of the largest."""
    edges = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1 << 30]
    classes = []
    for low, high in pairwise(edges):
        name = str(high) if high == low + 1 else f"{low + 1}–{high}" if high < 1 << 30 else f"over {low}"
        classes.append((name, sum(low < length <= high for length in lengths)))
    while classes and not classes[-1][1]:
        classes.pop()
    most = max((count for _, count in classes), default=1)
    return [(name, count, count / most) for name, count in classes]


def histogram(lengths: list[int]) -> str:
    """A bar for each class of lengths."""
    width, height, bottom = 860, 210, 26
    classes = length_classes(lengths)
    step = width / max(1, len(classes))
    parts = []
    for i, (name, count, share) in enumerate(classes):
        top = _at(share, 1, height - bottom, 18)
        middle = (i + 0.5) * step
        parts.append(
            f'<rect class="a" x="{i * step + 3:.1f}" y="{top:.1f}" width="{step - 6:.1f}" rx="2" '
            f'height="{height - bottom - top:.1f}"/>'
            f'<text class="middle" x="{middle:.1f}" y="{top - 5:.1f}">{count:,}</text>'
            f'<text class="middle soft" x="{middle:.1f}" y="{height - 8}">{name}{" line" if i == 0 else ""}</text>'
        )
    return _svg(width, height, parts)


def bars(counts: list[tuple[str, int]]) -> str:
    """Names with a bar for each count."""
    width, row, left = 410, 22, 110
    most = max((count for _, count in counts), default=1)
    parts = []
    for i, (name, count) in enumerate(counts):
        length = _at(count, most, 1, width - left - 55)
        parts.append(
            f'<text class="end" x="{left - 8}" y="{i * row + 15}">{escape(name)}</text>'
            f'<rect class="a" x="{left}" y="{i * row + 4}" width="{length:.1f}" height="{row - 8}" rx="2"/>'
            f'<text class="soft" x="{left + length + 6:.1f}" y="{i * row + 15}">{count:,}</text>'
        )
    return _svg(width, row * len(counts), parts)


def timeline(spans: list[tuple[int, float, float]]) -> str:
    """When each worker was at which piece; neighbours differ in shade."""
    width, row, left = 860, 26, 80
    last = max((end for _, _, end in spans), default=1.0)
    workers = sorted({worker for worker, _, _ in spans})
    parts = []
    for i, worker in enumerate(workers):
        parts.append(f'<text class="soft end" x="{left - 8}" y="{i * row + 18}">worker {i + 1}</text>')
        for j, (_, begin, end) in enumerate(sorted(span for span in spans if span[0] == worker)):
            x, to = _at(begin, last, left, width), _at(end, last, left, width)
            parts.append(
                f'<rect class="{"ab"[j % 2]}" x="{x:.1f}" y="{i * row + 4}" width="{max(0.6, to - x):.1f}" '
                f'height="{row - 8}"/>'
            )
    bottom = len(workers) * row + 18
    for second in range(0, math.floor(last) + 1, max(1, round(last / 10))):
        x = _at(second, last, left, width)
        parts.append(f'<text class="soft middle" x="{x:.1f}" y="{bottom}">{second} s</text>')
    return _svg(width, bottom + 6, parts)


def _at(value: float, most: float, low: float, high: float) -> float:
    """Where a value between 0 and ``most`` lies between two coordinates."""
    return low + (high - low) * value / most if most else low


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _svg(width: float, height: float, parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img">{"".join(parts)}</svg>'
