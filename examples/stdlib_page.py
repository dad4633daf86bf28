"""The report that ``stdlib_report.py`` writes: one HTML page that needs nothing else, and a short form for terminals.

All figures are of the library without its own tests, which are larger than the library; they have a line of their own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from stdlib_plots import bars, histogram, length_classes, scatter, timeline, treemap

from stdlib_measure import TESTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stdlib_measure import Module, Piece

WIDE, NARROW = 860, 440
LARGE = 2000
"""Lines from which on a part has a circle."""


@dataclass
class Failure:
    """An input that could not be measured: which, how often it was tried, why, and whether the demo broke it."""

    path: str
    tries: int
    error: str
    made_here: bool = False


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

    def add(self, other: Group | Module) -> None:
        """Count another's figures in."""
        self.modules += other.modules
        self.lines += other.lines
        self.documentable += other.documentable
        self.documented += other.documented
        self.branches += other.branches
        self.lengths += other.lengths


@dataclass
class Figures:
    """All that the page shows."""

    source: str
    version: str
    groups: list[Group]
    """Parts of the library, the largest first."""
    tests: Group
    imports: list[tuple[str, int]]
    calls: list[tuple[str, int]]
    failures: list[Failure]
    spans: list[tuple[int, float, float]]
    """Of each piece: the worker, and the seconds after the start when it began and ended."""

    @property
    def library(self) -> Group:
        """All parts together."""
        return total(f"all {len(self.groups)} parts", self.groups)


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
            groups.setdefault(module.group, Group(module.group)).add(module)
    tests = groups.pop(TESTS, Group(TESTS))
    ordered = sorted(groups.values(), key=lambda group: -group.lines)
    failures = sorted(failures, key=lambda failure: (not failure.made_here, failure.path))
    return Figures(source, version, ordered, tests, frequent["import"], frequent["call"], failures, spans)


def total(name: str, groups: Iterable[Group]) -> Group:
    """Several groups as one."""
    whole = Group(name)
    for group in groups:
        whole.add(group)
    return whole


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
    table.add_section()
    library = figures.library
    table.add_row(*_cells(library))
    table.add_row(*_cells(figures.tests), style="dim")
    console.print(table)
    console.print("Lines of a function, in the library without its tests:")
    for name, count, share in length_classes(library.lengths):
        console.print(f"{name:>8} [blue]{'█' * round(46 * share)}[/] {count:,}")
    if figures.failures:
        _print_failures(console, figures.failures)
    workers = len({span[0] for span in figures.spans})
    console.print(
        f"\n{library.modules:,} modules with {library.lines:,} lines, and {figures.tests.modules:,} of tests with "
        f"{figures.tests.lines:,}: {tasks:,} tasks on {workers} worker{'s' * (workers != 1)}, {seconds:.1f} s.\n"
        f"The report: {page_path}",
        soft_wrap=True,
    )


def _print_failures(console: Any, failures: list[Failure]) -> None:
    """A line for each of the first few, cut to the terminal so that the file and the reason are both there."""
    from rich.text import Text

    number = len(failures)
    what = f"{number} files are" if number > 1 else "1 file is"
    console.print(f"\n{what} not valid Python, and failed again when tried alone:", style="red")
    half = console.width // 2 - 4
    for failure in failures[:5]:
        name = failure.path if len(failure.path) <= half else f"…{failure.path[1 - half :]}"
        text = Text(f"  {name}", no_wrap=True, overflow="ellipsis")
        text.append(" (made by this demo)" if failure.made_here else "", style="dim")
        text.append(f"  {failure.error}", style="red")
        text.truncate(console.width, overflow="ellipsis")
        console.print(text)
    if number > 5:
        console.print(f"  and {number - 5} more, listed in the report")


def _cells(group: Group) -> list[str]:
    functions = bool(group.lengths)
    return [
        group.name,
        f"{group.modules:,}",
        f"{group.lines:,}",
        f"{len(group.lengths):,}",
        f"{statistics.median(group.lengths):.0f}" if functions else "–",
        f"{group.documentation:.0f} %" if group.documentable else "–",
        f"{group.complexity:.1f}" if functions else "–",
    ]


def page(figures: Figures) -> str:
    """The whole page."""
    library, tests, lengths = figures.library, figures.tests, figures.library.lengths
    tiles = "".join(
        f"<div><b>{number}</b>{name}</div>"
        for number, name in (
            (f"{library.modules:,}", "modules"),
            (f"{library.lines:,}", "lines"),
            (f"{len(lengths):,}", "functions and methods"),
            (f"{library.documentation:.0f} %", "of public names documented"),
        )
    )
    headings = ("part", "modules", "lines", "functions", "median length", "documented", "decisions per function")
    rows = [_row(_cells(group)) for group in figures.groups[:15]]
    rows += [_row(_cells(library), "sum"), _row(_cells(tests), "tests")]
    large = [group for group in figures.groups if group.lines >= LARGE and group.lengths]
    busy = sum(end - begin for _, begin, end in figures.spans)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Python {figures.version}: what the standard library is made of</title><style>{STYLE}</style></head><body>
<h1>What Python {figures.version}’s standard library is made of</h1>
<div class="tiles">{tiles}</div>
<p>All figures are of the library without its own tests, which are another {tests.modules:,} modules with
{tests.lines:,} lines.</p>
<h2>Where the lines are</h2>
<p>A part’s area is its lines; the stronger the colour, the more of its public functions, methods and classes have a
docstring.</p>
{_both(lambda width: treemap(figures.groups, width))}
<h2>Documented, or complicated?</h2>
<p>Each circle is a part with {LARGE:,} lines or more, its area is its lines. Parts without functions are left out.</p>
{_both(lambda width: scatter(large, width))}
<h2>Functions are short</h2>
<p>Half of the library’s {len(lengths):,} functions have {statistics.median(lengths or [0]):.0f} lines or fewer; the
longest has {max(lengths, default=0):,}.</p>
{_both(lambda width: histogram(lengths, width))}
<div class="two"><div><h2>Imported most</h2><p>Import statements for a module.</p>{bars(figures.imports, 410)}</div>
<div><h2>Called most</h2><p>Calls of a plain name.</p>{bars(figures.calls, 410)}</div></div>
<h2>The largest parts</h2>
<table class="parts"><tr>{"".join(f"<th>{heading}</th>" for heading in headings)}</tr>{"".join(rows)}</table>
<h2>Not valid Python</h2>
{_failures(figures.failures)}
<h2>Who did it</h2>
<p>{len(figures.spans)} pieces of work, a row for each worker process, {busy:.0f} seconds of work in all.
Two shades tell neighbouring pieces apart.</p>
{_both(lambda width: timeline(figures.spans, width))}
<p class="foot">Source: {escape(figures.source)}. Made by flowlib’s examples/stdlib_report.py.</p>
</body></html>
"""


def _both(draw: Callable[[int], str]) -> str:
    """A plot for wide windows and the same for narrow ones; the style shows one of them."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def _row(cells: list[str], kind: str = "") -> str:
    return f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _failures(failures: list[Failure]) -> str:
    if not failures:
        return "<p>None: every file could be parsed.</p>"
    rows = []
    for failure in failures:
        # A path may be broken after each slash, and nowhere else unless it must.
        path = escape(failure.path).replace("/", "/<wbr>")
        mark = ' <span class="mark">made by this demo</span>' if failure.made_here else ""
        rows.append(f"<tr><td>{path}{mark}</td><td>{failure.tries}</td><td>{escape(failure.error)}</td></tr>")
    return (
        "<p>Each of these was tried again by itself before it was given up. The library’s tests need broken files; one "
        "more was broken by this demo, to have a failure of its own.</p>"
        f'<table class="text"><tr><th>file</th><th>tries</th><th>why</th></tr>{"".join(rows)}</table>'
    )


STYLE = """
:root { color-scheme: light dark;
  --ink: #1d2733; --soft: #5d6875; --rule: #dfe4ea; --paper: #fff; --card: #f4f6f9; --a: #2468b4; --b: #c25e1c; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e3e8ee; --soft: #9aa6b4; --rule: #313b47; --paper: #14191f; --card: #1c232b; --a: #6aa9ec; --b: #f0a066; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
  margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin-bottom: 1rem; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .2rem; }
p { color: var(--soft); margin: .2rem 0 .9rem; }
.foot { font-size: .8rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem; margin-bottom: .9rem; }
.tiles div { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; color: var(--soft); font-size: .85rem;
  line-height: 1.3; }
.tiles b { display: block; color: var(--ink); font-size: 1.45rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: var(--soft); text-align: right; vertical-align: bottom; } td { text-align: right; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child, .text th, .text td { text-align: left; vertical-align: top; }
.text td { overflow-wrap: anywhere; } .text td:nth-child(2) { text-align: center; }
tr.sum td { font-weight: 600; } tr.tests td { color: var(--soft); }
.mark { color: var(--b); border: 1px solid var(--b); border-radius: 1rem; padding: 0 .5rem; font-size: .75rem;
  white-space: nowrap; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem; } .narrow { display: none; }
svg { width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); } svg .rule { stroke: var(--rule); } svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; } svg .a { fill: var(--a); } svg .leader { stroke: var(--soft); stroke-width: .7; }
svg .small { font-size: 10px; } svg .faint { fill-opacity: .7; }
svg circle { fill: var(--a); fill-opacity: .35; stroke: var(--a); }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-opacity: .75; stroke-width: 3px; stroke-linejoin: round; }
@media (max-width: 640px) {
  body { margin-top: 1.2rem; padding: 0 1rem; } h1 { font-size: 1.5rem; } .wide { display: none; }
  .narrow { display: block; } .two { grid-template-columns: 1fr; } .tiles { grid-template-columns: 1fr 1fr; }
  table { font-size: .8rem; } th, td { padding: .3rem .25rem; }
  .parts th:nth-child(2), .parts td:nth-child(2), .parts th:nth-child(4), .parts td:nth-child(4) { display: none; } }
"""
