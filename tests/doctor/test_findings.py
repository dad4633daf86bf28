"""The doctor's judgement: which facts are problems, and that each problem has its remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowlib.doctor.facts import BlockFacts, MachineFacts, SchedulerFacts
from flowlib.doctor.findings import FAILURE, OK, WARNING, Finding, of_block, of_machine, of_scheduler

GB = 10**9
HERE = MachineFacts(
    *((3, 11, 7), "/usr/bin/python3", "0.1.0", "/lib/flowlib", "login1", ("10.0.0.1",)),
    *(4096, 0, 8 * GB, "/tmp", 50 * GB, "/work", 100 * GB),
)
SLURM = SchedulerFacts("slurm", "this machine", {"sbatch": "/usr/bin/sbatch", "squeue": "/usr/bin/squeue"})
BLOCK = BlockFacts(
    seconds=2.0,
    host="n1",
    python=(3, 11, 2),
    executable="/usr/bin/python3",
    flowlib="0.1.0",
    files=4096,
    shm_free=GB,
)


def problems(found: list[Finding]) -> list[Finding]:
    """Those that are not fine; each says what to do."""
    bad = [finding for finding in found if finding.level != OK]
    assert all(finding.remedy for finding in bad)
    assert not any(finding.remedy for finding in found if finding.level == OK)
    return bad


def test_all_is_well() -> None:
    """Nothing to do where nothing is wrong."""
    assert problems([*of_machine(HERE), *of_scheduler(SLURM), *of_block(BLOCK, HERE)]) == []


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"python": (3, 9, 1)}, FAILURE, "3.9.1: flowlib needs 3.10"),
        ({"write_error": "Read-only file system"}, FAILURE, "in /work: Read-only file system"),
        ({"directory_free": GB // 10}, WARNING, "0.1 GB free in /work"),
        ({"tmp_free": 0}, WARNING, "0.0 GB free in /tmp"),
        ({"shm_free": 64 * 2**20}, WARNING, "free in /dev/shm"),
        ({"files": 256}, WARNING, "may open 256 files"),
        ({"processes": 100}, WARNING, "100 processes"),
        ({"addresses": ()}, WARNING, "no other host can reach it"),
    ],
)
def test_machine(change: dict[str, object], level: str, words: str) -> None:
    """Each thing that is wrong is one finding of its weight, with what was found."""
    (bad,) = problems(of_machine(replace(HERE, **change)))  # type: ignore[arg-type]
    assert bad.level == level
    assert words in bad.text


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ({"commands": {"sbatch": "", "squeue": "/bin/squeue"}}, "sbatch not found on this machine", "login node"),
        ({"query_error": "squeue did not answer in time"}, "squeue did not answer in time", "wait until"),
        ({"partition": "shrt", "partitions": ("long", "short")}, "did you mean 'short'", "choose one of: long, short"),
        ({"account": "x", "accounts": ("p1",)}, "account 'x' is not there for you", "choose one of: p1"),
        ({"refusal": "Requested node configuration is not available"}, "would refuse", "walltime"),
    ],
)
def test_scheduler(change: dict[str, object], words: str, remedy: str) -> None:
    """What keeps jobs from being taken is a failure that lists what there is."""
    (bad,) = problems(of_scheduler(replace(SLURM, **change)))  # type: ignore[arg-type]
    assert bad.level == FAILURE
    assert words in bad.text
    assert remedy in bad.remedy


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"error": "no address answers"}, FAILURE, "no address answers"),
        ({"pending": "pending Priority"}, WARNING, "pending Priority"),
        ({"python": (3, 12, 0)}, FAILURE, "3.12.0 at /usr/bin/python3; here it is 3.11.7"),
        ({"flowlib": "0.2.0"}, WARNING, "0.2.0; here it is 0.1.0"),
        ({"reads": False}, WARNING, "does not see files of /work"),
        ({"wrote": False}, WARNING, "writes files that are not seen in /work"),
        ({"clock_ahead": -60.0}, WARNING, "60 s late"),
        ({"files": 100}, WARNING, "100 files on n1"),
    ],
)
def test_block(change: dict[str, object], level: str, words: str) -> None:
    """What differs on the other side is told with both values."""
    (bad,) = problems(of_block(replace(BLOCK, **change), HERE))  # type: ignore[arg-type]
    assert bad.level == level
    assert words in bad.text


def test_a_slow_answer_is_no_wrong_clock() -> None:
    """A difference that the message's way may account for is none."""
    assert problems(of_block(replace(BLOCK, clock_ahead=8.0, doubt=4.0), HERE)) == []
