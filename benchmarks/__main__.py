"""Runs rows in fresh processes and prints a table: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile

from benchmarks.measured import Measured, Row
from benchmarks.rows import ROWS


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 0 if every row gave a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to run; all but the long ones if none is given")
    parser.add_argument("--runs", type=int, default=3, help="runs of each row (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of tasks (1.0)")
    parser.add_argument("--json", metavar="FILE", help="also write every run's figures there")
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for row in ROWS.values():
            print(f"{row.name:10} {row.run.__doc__}{' Long: only if named.' if row.long else ''}")
        return 0
    unknown = [name for name in chosen.rows if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    names = chosen.rows or [name for name, row in ROWS.items() if not row.long]
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}")
    print(f"{'row':10} {'median':>10} {'unit':12} {'from':>10} {'to':>10}   ratio to baseline")
    everything: dict[str, list[dict[str, object]]] = {}
    complete = True
    for name in names:
        row = ROWS[name]
        runs: list[Measured] = []
        for _ in range(min(chosen.runs, row.runs or chosen.runs)):
            found = run(row, chosen.scale)
            if isinstance(found, str):
                print(f"{name:10} failed: {found}", flush=True)
                complete = False
                break
            runs.append(found)
        if runs:
            print(line(name, runs), flush=True)
        everything[name] = [vars(r) for r in runs]
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(everything, file, indent=1)
    return 0 if complete else 1


def run(row: Row, scale: float) -> Measured | str:
    """The figures of one run, or what went wrong."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.one", row.name, str(scale)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=row.deadline)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"not done after {row.deadline:.0f} s"
        if process.returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines()
            return lines[-1] if lines else f"exit code {process.returncode}"
    return Measured.from_json(out.strip().splitlines()[-1])


def line(name: str, runs: list[Measured]) -> str:
    """A row of the table."""
    values = [r.value for r in runs]
    parts = []
    for baseline in runs[0].against:
        ratio = statistics.median(r.value / r.against[baseline] for r in runs if r.against[baseline])
        parts.append(f"{ratio:.2f} x {baseline} ({figure(statistics.median(r.against[baseline] for r in runs))})")
    parts += [f"{extra}: {figure(statistics.median(r.more[extra] for r in runs))}" for extra in runs[0].more]
    return (
        f"{name:10} {figure(statistics.median(values)):>10} {runs[0].unit:12} "
        f"{figure(min(values)):>10} {figure(max(values)):>10}   {'; '.join(parts)}"
    )


def figure(value: float) -> str:
    """A number with three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
