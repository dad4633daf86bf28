"""Which part of a long matrix a run covers: a sample by a printed seed, or all of it under ``make soak``."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

SOAK = os.environ.get("FLOWLIB_SOAK") == "1"
SEED = int(os.environ.get("FLOWLIB_TEST_SEED", str(int(time.time()) % 100_000)))


def sample(matrix: Sequence[T], count: int) -> list[T]:
    """``count`` entries of ``matrix`` in their order, chosen by ``FLOWLIB_TEST_SEED``; all of them in a soak."""
    if SOAK or count >= len(matrix):
        return list(matrix)
    chosen = set(random.Random(SEED).sample(range(len(matrix)), count))
    return [entry for i, entry in enumerate(matrix) if i in chosen]
