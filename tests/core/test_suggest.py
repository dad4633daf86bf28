"""The nearest valid name."""

from __future__ import annotations

import pytest

from flowlib.suggest import closest, nearest

NAMES = ["cache", "executors", "ignore_for_cache", "max_workers_per_node", "retries", "walltime"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("retires", "retries"),
        ("Walltime", "walltime"),
        ("max-workers-per-node", "max_workers_per_node"),
        ("max_workers", "max_workers_per_node"),
        ("exec", "executors"),
        ("cach", "cache"),
        ("zzz", None),
        ("e", None),
    ],
)
def test_closest(given: str, meant: str | None) -> None:
    """Typing errors, other case, dashes and short forms lead to the name; what resembles nothing does not."""
    assert closest(given, NAMES) == meant


def test_message() -> None:
    """The message names what was meant, and what there is."""
    assert nearest("retires", ["cache", "retries"]) == "; did you mean 'retries'? Valid: cache, retries"
    assert nearest("zzz", ["cache", "retries"]) == "; valid: cache, retries"
    assert nearest("x", []) == "; there are none"


def test_long_lists_are_cut() -> None:
    """A hundred names do not fill the screen."""
    many = [f"name{i:03}" for i in range(100)]
    assert nearest("nam050", many) == "; did you mean 'name050'? (100 are valid)"
    assert nearest("zzz", many).endswith("and 76 more")
