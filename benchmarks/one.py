"""One run of one row, in this process: ``python -m benchmarks.one noop 1.0`` prints its figures as JSON."""

from __future__ import annotations

import sys

from benchmarks.rows import ROWS

if __name__ == "__main__":
    print(ROWS[sys.argv[1]].run(float(sys.argv[2])).to_json())
