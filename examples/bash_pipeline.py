"""A pipeline of Unix tools: files are made, sorted, merged and counted; each step starts when its input is there.

The outputs of one app are the inputs of the next, so nothing else has to say in which order things happen. Run it with
``python examples/bash_pipeline.py``.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import flowlib
from flowlib import File, bash_app, python_app

if TYPE_CHECKING:
    from collections.abc import Sequence


@bash_app
def throw_dice(times: int, seed: int, outputs: Sequence[File] = ()) -> str:
    """Throws two dice many times; writes the sums."""
    throw = "print int(rand() * 6) + int(rand() * 6) + 2"
    return f"awk 'BEGIN {{ srand({seed}); for (i = 0; i < {times}; i++) {throw} }}' > {outputs[0]}"


@bash_app
def sort_numbers(inputs: Sequence[File] = (), outputs: Sequence[File] = ()) -> str:
    """Sorts a file of numbers."""
    return f"sort -n {inputs[0]} > {outputs[0]}"


@bash_app
def merge_sorted(inputs: Sequence[File] = (), outputs: Sequence[File] = ()) -> str:
    """Merges sorted files and counts equal lines."""
    return f"sort -n -m {' '.join(str(file) for file in inputs)} | uniq -c > {outputs[0]}"


@python_app
def draw(inputs: Sequence[File] = ()) -> str:
    """A bar for each line of a file of counts."""
    with open(inputs[0].filepath) as file:
        counts = [line.split() for line in file]
    most = max(int(count) for count, _ in counts)
    return "\n".join(f"{value:>3} {'#' * round(60 * int(count) / most)} {count}" for count, value in counts)


def main() -> None:
    """Throw dice in parallel and show how the sums are distributed."""
    with tempfile.TemporaryDirectory() as folder, flowlib.load():
        parts = []
        for seed in range(6):
            thrown = throw_dice(50_000, seed, outputs=[File(f"{folder}/thrown-{seed}")])
            parts.append(sort_numbers(inputs=[thrown.outputs[0]], outputs=[File(f"{folder}/sorted-{seed}")]))
        merged = merge_sorted(
            inputs=[part.outputs[0] for part in parts],
            outputs=[File(f"{folder}/counts")],
        )
        print(draw(inputs=[merged.outputs[0]]).result())


if __name__ == "__main__":
    main()
