"""The jobs that a run whose driver is gone left with a scheduler, and their end.

They are found by their names, which are in the scripts of the run directory and hold a random part: a scheduler's
numbers are used again, and the job with a number from an old run may be somebody else's by now.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flowlib.executors.blocks import PROVIDER_RECORD
from flowlib.providers.dialect import Dialect, QueryFailed
from flowlib.providers.transport import LocalTransport

DIALECTS = {
    "slurm": "SlurmDialect", "pbspro": "PBSProDialect", "torque": "TorqueDialect", "lsf": "LSFDialect",
    "grid_engine": "GridEngineDialect", "condor": "CondorDialect", "flux": "FluxDialect",
}  # fmt: skip
"""Classes by label; each is in ``flowlib.providers.<label>``."""
TIMEOUT = 30.0
"""Seconds that a command of the scheduler may take."""
_NAME = re.compile(r"(?m)^export JOBNAME=(.*)$")


@dataclass(slots=True)
class LeftJob:
    """A job that is still with the scheduler.

    Attributes:
        scheduler: Its label.
        id: The scheduler's id.
        name: The job's name.
        state: As the scheduler tells it.
        dialect: How to speak of it.
    """

    scheduler: str
    id: str
    name: str
    state: str
    dialect: Dialect


@dataclass(slots=True)
class Left:
    """What a run left.

    Attributes:
        jobs: Jobs that are alive.
        problems: What could not be found out, a line each, with what to do.
    """

    jobs: list[LeftJob]
    problems: list[str]


def left_by(run_dir: str) -> Left:
    """The jobs of a run that the scheduler still has.

    Args:
        run_dir: The run's directory.
    """
    left = Left([], [])
    directory = os.path.join(run_dir, "submit_scripts")
    try:
        records = sorted(name for name in os.listdir(directory) if name.endswith(PROVIDER_RECORD))
    except OSError:
        return left
    for name in records:
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8") as file:
                record = json.load(file)
            _look(record, left)
        except (OSError, ValueError, KeyError, TypeError) as e:
            left.problems.append(f"{path} cannot be used ({e}): look for jobs of the run by hand")
    return left


def end(jobs: list[LeftJob]) -> dict[str, str]:
    """Cancel jobs, a command for each scheduler.

    Returns:
        For each job that was not cancelled, by id, why.
    """
    refused: dict[str, str] = {}
    groups: dict[tuple[str, str], list[LeftJob]] = {}
    for job in jobs:
        groups.setdefault((job.scheduler, str(getattr(job.dialect, "clusters", None))), []).append(job)
    for group in groups.values():
        ids = [job.id for job in group]
        dialect = group[0].dialect
        reply = LocalTransport().run(dialect.cancel(ids), timeout=TIMEOUT, query=True)
        why = "the command did not end in time" if reply.code is None else reply.said or f"exit code {reply.code}"
        refused.update((id_, why) for id_, ok in zip(ids, dialect.read_cancel(reply, ids), strict=True) if not ok)
    return refused


def dialect_of(label: str, clusters: str | None = None) -> Dialect | None:
    """The dialect of a scheduler; None if there is none of this label.

    Example:
        >>> dialect_of("slurm").cancel(["7"])
        ['scancel', '7']
    """
    if label not in DIALECTS:
        return None
    made: Any = getattr(importlib.import_module(f"flowlib.providers.{label}"), DIALECTS[label])
    found: Dialect = made()
    if clusters:
        found = dataclasses.replace(found, clusters=clusters)  # type: ignore[type-var]
    return found


def _look(record: dict[str, Any], left: Left) -> None:
    label = record["scheduler"]
    dialect = dialect_of(label, record.get("clusters"))
    names = sorted(set(_names(record["script_dir"], record["token"])))
    if record.get("login_node"):
        left.problems.append(
            f"its jobs were submitted through {record['login_node']}: look there for names that begin with flowlib"
        )
        return
    if dialect is None:
        left.problems.append(f"flowlib knows no scheduler {label!r}: look for its jobs by hand")
        return
    for name in names:
        try:
            ids = dialect.read_find(LocalTransport().run(dialect.find(name), timeout=TIMEOUT, query=True), name)
            if not ids:
                continue
            seen = dialect.read_status(LocalTransport().run(dialect.status(ids), timeout=TIMEOUT, query=True), ids)
        except QueryFailed as e:
            left.problems.append(f"{label} does not tell about job {name!r} ({e}): try again when it answers")
            return
        left.jobs += [
            LeftJob(label, id_, name, seen[id_].state.name, dialect)
            for id_ in ids
            if id_ in seen and not seen[id_].state.terminal
        ]


def _names(script_dir: str, token: str) -> Iterator[str]:
    """Names of the jobs of a provider that left no exit code."""
    own = re.compile(rf"\.{re.escape(token)}\d+\.sh")
    for file in os.listdir(script_dir):
        if not own.search(file) or not file.endswith(".sh") or os.path.exists(os.path.join(script_dir, f"{file}.ec")):
            continue
        with open(os.path.join(script_dir, file), encoding="utf-8", errors="replace") as script:
            match = _NAME.search(script.read())
        if match:
            yield "".join(shlex.split(match[1]))
