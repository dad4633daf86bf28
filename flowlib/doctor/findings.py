"""From facts to findings: each says what is so, whether that is a problem, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flowlib.doctor.facts import BlockFacts, MachineFacts, SchedulerFacts
from flowlib.suggest import nearest

OK, WARNING, FAILURE = "ok", "warning", "failure"

_GB = 10**9
FEW_FILES = 1024
"""Open files that a driver of a few hundred managers needs."""
FEW_PROCESSES = 512
CLOCK = 5.0
"""Seconds by which clocks may differ; times in records are compared."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What, in a word or two.
        level: ``OK``, ``WARNING`` or ``FAILURE``.
        text: What was found.
        remedy: What to do; "" where nothing is to be done.
    """

    check: str
    level: str
    text: str
    remedy: str = ""


def of_machine(facts: MachineFacts) -> list[Finding]:
    """What is to be said of the machine of the script."""
    found = [
        Finding("Python", OK, f"{_dotted(facts.python)} at {facts.executable}")
        if facts.python >= (3, 10)
        else Finding("Python", FAILURE, f"{_dotted(facts.python)}: flowlib needs 3.10 or later", "use another Python"),
        Finding("flowlib", OK, f"{facts.flowlib} in {facts.location}"),
    ]
    if facts.write_error:
        found.append(
            Finding(
                "directory",
                FAILURE,
                f"nothing can be written in {facts.directory}: {facts.write_error}",
                "change to a directory of yours, or give another one for runs: Config(run_dir=...)",
            )
        )
    else:
        found.append(_space("directory", facts.directory, facts.directory_free, "logs and records of runs"))
    found.append(_space("temporary files", facts.tmp, facts.tmp_free, "large objects", "set TMPDIR to another one"))
    found.append(_shm(facts.shm_free, "this machine"))
    found.append(_files(facts.files, "this machine"))
    if 0 < facts.processes < FEW_PROCESSES:
        text = f"{facts.processes} processes are allowed to you"
        found.append(Finding("processes", WARNING, text, "raise it, as by `ulimit -u 4096`, or run fewer workers"))
    else:
        found.append(Finding("processes", OK, f"{facts.processes or 'any number of'} allowed"))
    if facts.addresses:
        found.append(Finding("network", OK, f"{facts.host} has {', '.join(facts.addresses)}"))
    else:
        text = f"{facts.host} has no address but the loopback's: no other host can reach it"
        found.append(
            Finding("network", WARNING, text, "for workers on other hosts, connect a network, or use a tunnel")
        )
    return found


def of_scheduler(facts: SchedulerFacts) -> list[Finding]:
    """What is to be said of a scheduler."""
    missing = [name for name, path in facts.commands.items() if not path]
    if missing:
        return [
            Finding(
                "commands",
                FAILURE,
                f"{facts.label}: {', '.join(missing)} not found on {facts.where}",
                "run on a login node of the machine, or load the scheduler's module; or give the provider "
                'transport=SSHTransport("login.node")',
            )
        ]
    told = f" ({facts.version})" if facts.version else ""
    found = [Finding("commands", OK, f"{facts.label}{told}: {', '.join(facts.commands)} on {facts.where}")]
    if facts.query_error:
        remedy = "wait until the scheduler answers, and try again; if it stays so, tell the centre's support"
        return [*found, Finding("scheduler", FAILURE, f"it does not answer: {facts.query_error}", remedy)]
    found.append(Finding("scheduler", OK, "it answers queries"))
    found += _choice("partition", facts.partition, facts.partitions)
    found += _choice("account", facts.account, facts.accounts)
    if facts.refusal is None:
        found.append(Finding("job", OK, "whether it takes such a job was not tried; --job does"))
    elif facts.refusal:
        remedy = "change what it names: account, partition, nodes or walltime; `flowlib sites show SITE` lists limits"
        found.append(Finding("job", FAILURE, f"it would refuse the job: {facts.refusal}", remedy))
    else:
        found.append(Finding("job", OK, "it would take the job"))
    return found


def of_block(facts: BlockFacts, here: MachineFacts) -> list[Finding]:
    """What is to be said of a block in which a task was run, or was to be."""
    if facts.pending:
        text = f"no result within {facts.seconds:.0f} s; the scheduler says: {facts.pending}"
        remedy = (
            "wait longer (--wait SECONDS), or choose a partition with a shorter queue, fewer nodes or less walltime"
        )
        return [Finding("block", WARNING, text, remedy)]
    if facts.error:
        remedy = "the text above names the part that failed and its log"
        return [Finding("block", FAILURE, f"no result: {facts.error}", remedy)]
    found = [Finding("block", OK, f"a task ran on {facts.host} after {facts.seconds:.1f} s, and its result came back")]
    text = f"{_dotted(facts.python)} at {facts.executable}"
    if facts.python[:2] == here.python[:2]:
        found.append(Finding("Python there", OK, text))
    else:
        remedy = "use the same one on both sides: worker_init, worker_python"
        found.append(Finding("Python there", FAILURE, f"{text}; here it is {_dotted(here.python)}", remedy))
    if facts.flowlib == here.flowlib:
        found.append(Finding("flowlib there", OK, facts.flowlib))
    else:
        remedy = f"install it there: pip install flowlib=={here.flowlib}"
        found.append(Finding("flowlib there", WARNING, f"{facts.flowlib}; here it is {here.flowlib}", remedy))
    if facts.reads and facts.wrote:
        found.append(Finding("shared directory", OK, f"{here.directory} is the same on both sides"))
    else:
        what = "does not see files of" if not facts.reads else "writes files that are not seen in"
        remedy = "run in a directory that all nodes share, or let files travel: File(...) with a staging provider"
        found.append(Finding("shared directory", WARNING, f"{facts.host} {what} {here.directory}", remedy))
    if abs(facts.clock_ahead) > CLOCK + facts.doubt:
        way = "ahead" if facts.clock_ahead > 0 else "late"
        text = f"the clock of {facts.host} is {abs(facts.clock_ahead):.0f} s {way}"
        found.append(Finding("clock", WARNING, text, "times in records will not fit: have the clocks set (NTP)"))
    else:
        found.append(Finding("clock", OK, f"within {CLOCK + facts.doubt:.0f} s of this one"))
    return [*found, _files(facts.files, facts.host), _shm(facts.shm_free, facts.host)]


def _choice(what: str, chosen: str | None, there: tuple[str, ...] | None) -> Iterator[Finding]:
    if there is None:
        return
    listed = ", ".join(there) or "none"
    if chosen is None:
        yield Finding(what, OK, f"none asked for; there are {listed}")
    elif all(part in there for part in chosen.split(",")):
        yield Finding(what, OK, chosen)
    else:
        text = f"{what} {chosen!r} is not there for you{nearest(chosen, there)}"
        yield Finding(what, FAILURE, text, f"choose one of: {listed}")


def _space(check: str, path: str, free: int, use: str, remedy: str = "free some, or use another one") -> Finding:
    level = OK if free >= _GB else WARNING
    return Finding(check, level, f"{_size(free)} free in {path}", "" if level == OK else f"{remedy}: it holds {use}")


def _shm(free: int | None, where: str) -> Finding:
    if free is None:
        return Finding("shared memory", OK, f"no /dev/shm on {where}: large objects are kept in files")
    if free < _GB // 4:
        text = f"{_size(free)} free in /dev/shm of {where}"
        return Finding("shared memory", WARNING, text, "large objects will be kept in files, which is slower; "
                       "in containers, raise --shm-size")  # fmt: skip
    return Finding("shared memory", OK, f"{_size(free)} free in /dev/shm of {where}")


def _files(limit: int, where: str) -> Finding:
    if 0 < limit < FEW_FILES:
        text = f"a process may open {limit} files on {where}"
        return Finding("open files", WARNING, text, "raise it, as by `ulimit -n 4096`: each manager takes some")
    return Finding("open files", OK, f"{limit or 'any number'} allowed on {where}")


def _size(count: int) -> str:
    return f"{count / _GB:.1f} GB"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
