"""Recursion at run time: an integral whose work is divided only where the function needs it.

A join app returns futures instead of values, here of two smaller integrals or of a sum that is good enough. Nobody
waits in a worker meanwhile, so the recursion may be deeper than there are workers. Run it with
``python examples/recursive_join.py``.
"""

from __future__ import annotations

import math

import flowlib
from flowlib import AppFuture, join_app, python_app


def function(x: float) -> float:
    """Wild near 0, calm elsewhere."""
    return math.sin(1 / x) if x else 0.0


@python_app
def simpson(low: float, high: float, steps: int = 64) -> float:
    """An estimate of the integral between two points."""
    width = (high - low) / steps
    inner = sum((4 if i % 2 else 2) * function(low + i * width) for i in range(1, steps))
    return (function(low) + inner + function(high)) * width / 3


@python_app
def add(left: float, right: float) -> float:
    """A sum."""
    return left + right


@join_app
def refine(low: float, high: float, coarse: float, left: float, right: float, tolerance: float) -> AppFuture[float]:
    """The two halves if they agree with the whole; else the same for each half."""
    if abs(left + right - coarse) < tolerance or high - low < 1e-6:
        return add(left, right)
    middle = (low + high) / 2
    return add(
        integral(low, middle, left, tolerance / 2),
        integral(middle, high, right, tolerance / 2),
    )


def integral(low: float, high: float, coarse: float | AppFuture[float], tolerance: float) -> AppFuture[float]:
    """The integral of ``function``, refined where it has to be."""
    middle = (low + high) / 2
    return refine(low, high, coarse, simpson(low, middle), simpson(middle, high), tolerance)


def main() -> None:
    """Integrate from 0 to 1."""
    with flowlib.load() as kernel:
        value = integral(0.0, 1.0, simpson(0.0, 1.0), 1e-4).result()
        print(f"integral of sin(1/x) from 0 to 1: {value:.5f} (exact: 0.50407), found with {kernel.task_count:,} tasks")


if __name__ == "__main__":
    main()
