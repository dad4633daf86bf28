"""Which CPUs and accelerators a worker gets, and how many workers a node gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.executors.high_throughput import node
from flowlib.executors.high_throughput.affinity import (
    accelerator_environment,
    parse_cpus,
    thread_environment,
    worker_cores,
)
from flowlib.version import VERSION


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        ("none", [[], [], []]),
        ("block", [[2, 3], [4, 5], [6, 7]]),
        ("block-reverse", [[8, 7], [6, 5], [4, 3]]),
        ("alternating", [[2, 5], [3, 6], [4, 7]]),
        ("list:2:3-5:8", [[2], [3, 4, 5], [8]]),
    ],
)
def test_forms(affinity: str, expected: list[list[int]]) -> None:
    """Each form shares seven CPUs out to three workers; what does not divide stays free."""
    assert worker_cores(affinity, [2, 3, 4, 5, 6, 7, 8], 3) == expected


@given(
    st.sampled_from(["block", "block-reverse", "alternating"]),
    st.sets(st.integers(0, 300), min_size=1, max_size=40),
    st.integers(1, 40),
)
def test_shares_are_equal_and_apart(affinity: str, cores: set[int], workers: int) -> None:
    """All workers get equally many CPUs, none of them twice, or there are too few and the error says how many."""
    if len(cores) < workers:
        with pytest.raises(ValueError, match=f"{workers} workers and only {len(cores)} CPUs"):
            worker_cores(affinity, sorted(cores), workers)
        return
    shares = worker_cores(affinity, sorted(cores), workers)
    assert {len(share) for share in shares} == {len(cores) // workers}
    given_out = [core for share in shares for core in share]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) <= cores


@pytest.mark.parametrize(
    ("affinity", "text"),
    [
        ("blok", "must be one of none, block"),
        ("list:0:1:2", "lists the CPUs of 3 workers, but there are 2"),
        ("list:0:9", r"names the CPUs \[9\]"),
        ("list:0:x", "'x' is no list of CPUs"),
        ("list:3-1:0", "runs backwards"),
        ("list:0:", "'' is no list of CPUs"),
    ],
)
def test_nonsense_is_refused(affinity: str, text: str) -> None:
    """What cannot be meant is refused with what was given and what is allowed."""
    with pytest.raises(ValueError, match=text):
        worker_cores(affinity, [0, 1, 2, 3], 2)


def test_lists_of_cpus() -> None:
    """Single numbers and ranges, in the order given."""
    assert parse_cpus("4,0-2, 7") == [4, 0, 1, 2, 7]


def test_environment() -> None:
    """Numerical libraries are told how many threads to start; accelerators are named to every maker's library."""
    assert thread_environment([]) == {}
    assert thread_environment([3, 5]) == {
        "OMP_NUM_THREADS": "2",
        "GOMP_CPU_AFFINITY": "3 5",
        "KMP_AFFINITY": "explicit,proclist=[3,5]",
    }
    seen = accelerator_environment("GPU-4")
    assert {seen[f"{maker}_VISIBLE_DEVICES"] for maker in ("CUDA", "ROCR", "HIP")} == {"GPU-4"}
    assert seen["ZE_AFFINITY_MASK"] == "GPU-4"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((8, 1.0, None, None, 0), 8),
        ((8, 2.0, None, None, 0), 4),
        ((8, 0.5, None, None, 0), 16),
        ((8, 1.0, 4.0, None, 0), 4),
        ((8, 1.0, None, 3, 0), 3),
        ((8, 1.0, None, None, 2), 2),
        ((2, 4.0, 64.0, 5, 3), 1),
        ((8, 1e-9, None, 3, 0), 3),
    ],
)
def test_number_of_workers(limits: tuple[int, float, float | None, int | None, int], expected: int) -> None:
    """Every limit counts, and there is always one worker."""
    cores, cores_per_worker, mem_per_worker, most, accelerators = limits
    assert node.count_workers(cores, 16 * node.GB, cores_per_worker, mem_per_worker, most, accelerators) == expected


def test_environment_overrides_what_is_found() -> None:
    """A scheduler's word on cores and memory wins; nonsense is named."""
    assert node.count_cores({"FLOWLIB_CORES": "48"}, [0]) == 48
    assert node.count_memory({"FLOWLIB_MEMORY_GB": "1.5"}) == 3 * node.GB // 2
    with pytest.raises(ValueError, match="FLOWLIB_CORES is 'many'"):
        node.count_cores({"FLOWLIB_CORES": "many"}, [0])
    with pytest.raises(ValueError, match="FLOWLIB_MEMORY_GB is '-1'"):
        node.count_memory({"FLOWLIB_MEMORY_GB": "-1"})


def test_what_is_found_is_sensible() -> None:
    """Without a word there is at least one core, and some memory."""
    cpus = node.usable_cpus()
    assert 1 <= node.count_cores({}, cpus) <= len(cpus)
    assert node.count_memory({}) > node.GB // 16


def test_packages_are_read_off_directory_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and versions come from the directories that installers leave; the first on the path wins."""
    first, second = tmp_path / "a", tmp_path / "b"
    for directory in (first / "one-1.0.dist-info", second / "one-2.0.dist-info", second / "two_parts-3.1.dist-info"):
        directory.mkdir(parents=True)
    monkeypatch.setattr("sys.path", [str(first), str(second), str(tmp_path / "absent")])
    assert node.installed_packages() == {"one": "1.0", "two_parts": "3.1", "flowlib": VERSION}


@pytest.mark.parametrize(
    ("text", "count"),
    [("low 0\nhigh 0\nmax 4\noom 2\noom_kill 3\noom_group_kill 0", 3), ("pgfault 9\noom_kill 5", 5), ("max 4", None)],
)
def test_the_kernels_count_of_memory_kills(text: str, count: int | None) -> None:
    """A control group's events and the machine's statistics have the same line; where there is none, nothing is known."""
    assert node._memory_kills(text) == count
