"""Bad hosts are told from bad tasks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowlib.executors.high_throughput.health import LEAST_DEATHS, WINDOW, Health


def _health(deaths: dict[str, int], done: dict[str, int]) -> Health:
    health = Health()
    for host, number in done.items():
        health.done(host, number)
    for host, number in deaths.items():
        for n in range(number):
            health.died(host, n, 0.0)
    return health


def test_a_host_that_kills_what_others_finish() -> None:
    """It is bad, they are not."""
    health = _health({"bad": 6, "good": 1}, {"bad": 10, "good": 400, "other": 400})
    assert "6 of 16" in health.verdict("bad", 0.0) and "1 of 801 elsewhere" in health.verdict("bad", 0.0)
    assert health.verdict("good", 0.0) == health.verdict("other", 0.0) == ""


def test_tasks_that_kill_everywhere() -> None:
    """No host is to blame for them."""
    health = _health({"a": 20, "b": 22, "c": 19}, {"a": 30, "b": 30, "c": 30})
    assert not any(health.verdict(host, 0.0) for host in "abc")


def test_one_task_that_is_tried_again() -> None:
    """It may be its own fault, however often."""
    health = Health()
    health.done("elsewhere", 1000)
    for _ in range(50):
        health.died("a", 7, 0.0)
    assert health.verdict("a", 0.0) == ""


def test_deaths_are_forgotten() -> None:
    """Those of long ago do not count, few do not either."""
    health = _health({"a": LEAST_DEATHS}, {"b": 1000})
    assert health.verdict("a", WINDOW)
    assert health.verdict("a", WINDOW + 1) == ""
    assert _health({"a": LEAST_DEATHS - 1}, {"b": 1000}).verdict("a", 0.0) == ""


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(0, 30), st.integers(0, 300)), min_size=1))
def test_never_all_hosts(counts: dict[str, tuple[int, int]]) -> None:
    """Some host always remains; a single one is never bad."""
    health = _health({h: deaths for h, (deaths, _) in counts.items()}, {h: done for h, (_, done) in counts.items()})
    assert not all(health.verdict(host, 0.0) for host in counts)
