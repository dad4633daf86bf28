"""A parameter sweep: how does the spread of a sum of coin flips grow with their number?

Every combination of parameters is one task; tasks that need the results of others just take their futures. Run it with
``python examples/parameter_sweep.py``.
"""

from __future__ import annotations

import math
import random
import statistics
from itertools import product

import flowlib
from flowlib import python_app


@python_app
def simulate(flips: int, seed: int, samples: int = 200) -> float:
    """The standard deviation of the sum of ``flips`` flips of a coin, seen in ``samples`` samples."""
    coin = random.Random(seed)
    return statistics.stdev(coin.getrandbits(flips).bit_count() for _ in range(samples))


@python_app
def average(values: list[float]) -> float:
    """The mean of a list."""
    return statistics.fmean(values)


def main() -> None:
    """Sweep, and compare with theory."""
    sizes, seeds = [100, 1_000, 10_000, 100_000], range(8)
    with flowlib.load():
        runs = {(flips, seed): simulate(flips, seed) for flips, seed in product(sizes, seeds)}
        means = {flips: average([runs[flips, seed] for seed in seeds]) for flips in sizes}
        print("  flips   spread   theory")
        for flips, mean in means.items():
            print(f"{flips:7,} {mean.result():8.2f} {math.sqrt(flips) / 2:8.2f}")


if __name__ == "__main__":
    main()
