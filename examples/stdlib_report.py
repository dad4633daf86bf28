"""What is the Python standard library made of? Reads its whole source in parallel and writes a report.

Run it with ``make demo``, or ``python examples/stdlib_report.py [--source DIRECTORY] [--output DIRECTORY]``. With
``--site NAME`` it runs elsewhere, unchanged: on any machine that ``flowlib sites list`` shows.

The workflow: one task lists the modules; a join app, which runs once their sizes are known, cuts them into pieces of
about equal weight; each piece is parsed and measured by a Python app, which leaves a file of the names it met; bash
apps count those files and merge the counts; what could not be parsed is tried once more, by itself, and reported.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flowlib
import stdlib_page
from flowlib import File, bash_app, join_app, python_app
from stdlib_measure import Module, Piece, cut, measure_piece

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECE = 250_000  # bytes of source for one task: a tenth of a second or two


@python_app
def list_modules(source: str) -> list[tuple[str, int]]:
    """Paths and sizes of all modules below a directory, third-party packages left out."""
    import os

    found = []
    for directory, folders, files in os.walk(source):
        folders[:] = sorted(f for f in folders if f not in {"site-packages", "dist-packages", "__pycache__"})
        for name in sorted(files):
            path = os.path.join(directory, name)
            if name.endswith(".py") and os.path.isfile(path):
                found.append((path, os.path.getsize(path)))
    return found


@python_app
def measure(source: str, paths: list[str], outputs: Sequence[File] = ()) -> Piece:
    """Parse and measure some modules; the names they import and call go to a file, one a line."""
    return measure_piece(source, paths, outputs[0].filepath)


@bash_app
def tally(inputs: Sequence[File] = (), outputs: Sequence[File] = ()) -> str:
    """How often each line occurs in a file."""
    return f"LC_ALL=C sort {shlex.quote(inputs[0].filepath)} | uniq -c > {shlex.quote(outputs[0].filepath)}"


@bash_app
def merge(inputs: Sequence[File] = (), outputs: Sequence[File] = ()) -> str:
    """Add up the counts of many files; the most frequent line comes first."""
    files = shlex.join(file.filepath for file in inputs)
    add_up = "{ n[$2 FS $3] += $1 } END { for (line in n) print n[line], line }"
    return f"cat {files} | awk '{add_up}' | LC_ALL=C sort -k1,1nr -k2 > {shlex.quote(outputs[0].filepath)}"


@python_app
def most_frequent(how_many: int, inputs: Sequence[File] = ()) -> dict[str, list[tuple[str, int]]]:
    """The first lines of each kind in a file of counts: ``{"import": [("sys", 123), ...], "call": [...]}``."""
    top: dict[str, list[tuple[str, int]]] = {"import": [], "call": []}
    with open(inputs[0].filepath) as file:
        for line in file:
            count, kind, name = line.split()
            if len(top[kind]) < how_many:
                top[kind].append((name, int(count)))
    return top


@join_app
def measure_all(source: str, modules: list[tuple[str, int]], more: list[tuple[str, int]], folder: str) -> list[Any]:
    """Cut the work now that its size is known, and start it.

    Returns:
        Futures: of the most frequent names first, then of each piece's measurements.
    """
    measured, counted = [], []
    for i, paths in enumerate(cut(modules + more, PIECE)):
        piece = measure(source, paths, outputs=[File(f"{folder}/names-{i:03}.txt")])
        counts = tally(inputs=[piece.outputs[0]], outputs=[File(f"{folder}/counts-{i:03}.txt")])
        measured.append(piece)
        counted.append(counts.outputs[0])
    merged = merge(inputs=counted, outputs=[File(f"{folder}/counts.txt")])
    return [most_frequent(12, inputs=[merged.outputs[0]]), *measured]


@python_app(retries=1)
def examine(path: str) -> Module:
    """Measure one module, whose errors are this task's errors."""
    from stdlib_measure import measure_module

    return measure_module(os.path.dirname(path), path, [])


@python_app
def write_page(figures: stdlib_page.Figures, outputs: Sequence[File] = ()) -> None:
    """Draw the report."""
    with open(outputs[0].filepath, "w", encoding="utf-8") as file:
        file.write(stdlib_page.page(figures))


def main() -> None:
    """Run the workflow and show what it found."""
    parser = argparse.ArgumentParser(description="Measure Python's standard library in parallel.")
    parser.add_argument(
        "--source", default=sysconfig.get_path("stdlib"), help="directory to read (default: %(default)s)"
    )
    parser.add_argument("--output", default="output/stdlib_report", help="directory to write (default: %(default)s)")
    parser.add_argument("--site", default="laptop", help="where to run: a name from `flowlib sites list` (%(default)s)")
    parser.add_argument("choices", nargs="*", metavar="NAME=VALUE", help="what the site asks for: account=p1 nodes=2")
    options = parser.parse_args()
    choices = dict(choice.split("=", 1) for choice in options.choices)
    source, output = os.path.abspath(options.source), os.path.abspath(options.output)
    pieces_folder = os.path.join(output, "pieces")
    os.makedirs(pieces_folder, exist_ok=True)
    broken = break_a_copy(Path(source, "heapq.py"), Path(output, "broken_on_purpose.py"))

    began = time.time()
    run_dir = os.path.join(output, "runinfo")
    with flowlib.load(options.site, run_dir=run_dir, **choices) as kernel, flowlib.progress():
        modules = list_modules(source)
        frequent, *pieces = measure_all(source, modules, [broken], pieces_folder).result()
        suspects = {path: examine(path) for piece in pieces for path in piece.unreadable}
        failures = []
        for path, future in suspects.items():
            error = future.exception()
            if error is not None:
                tries = future.task_record["fail_count"]
                failures.append(stdlib_page.Failure(name_of(path, source), tries, describe(error), path == broken[0]))
        figures = stdlib_page.gather(source, sys.version.split()[0], pieces, frequent, failures, began)
        write_page(figures, outputs=[File(f"{output}/index.html")]).result()
        tasks = kernel.task_count
    stdlib_page.print_summary(figures, tasks, time.time() - began, f"{output}/index.html")


def break_a_copy(original: Path, copy: Path) -> tuple[str, int]:
    """A module that cannot be parsed, so that the workflow has a failure to deal with; its path and size."""
    text = original.read_text(encoding="utf-8")
    copy.write_text(text[: len(text) // 2] + "\ndef unfinished(:\n", encoding="utf-8")
    return str(copy), copy.stat().st_size


def name_of(path: str, source: str) -> str:
    """A short name for a file in the library, or beside it."""
    return os.path.relpath(path, source) if path.startswith(source + os.sep) else os.path.basename(path)


def describe(error: BaseException) -> str:
    """One line about an error."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {error.msg}"
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


if __name__ == "__main__":
    main()
