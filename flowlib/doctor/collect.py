"""Finds out facts about this machine and its scheduler; nothing is changed, and each question has a deadline."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flowlib.addresses import get_all_addresses
from flowlib.doctor.facts import MachineFacts, SchedulerFacts
from flowlib.errors import FlowlibError
from flowlib.providers.batch import BatchProvider
from flowlib.providers.dialect import NOT_FOUND, QueryFailed, Refusal, Reply
from flowlib.providers.transport import LocalTransport
from flowlib.version import VERSION

_VERSIONS: dict[str, list[str]] = {
    "slurm": ["sbatch", "--version"],
    "pbspro": ["qstat", "--version"],
    "torque": ["qstat", "--version"],
    "lsf": ["bjobs", "-V"],
    "grid_engine": ["qstat", "-help"],
    "condor": ["condor_version"],
    "flux": ["flux", "version"],
}
_NO_JOB = "flowlib.doctor.looks.for.no.job"


def machine() -> MachineFacts:
    """Facts about this machine."""
    directory = os.getcwd()
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".flowlib-doctor-") as file:
            file.write(b"flowlib")
            file.flush()
        write_error = ""
    except OSError as e:
        write_error = e.strerror or str(e)
    files, processes = limits()
    try:
        addresses = tuple(sorted(a for a in get_all_addresses() if not a.startswith("127.")))
    except (OSError, FlowlibError):
        addresses = ()
    return MachineFacts(
        python=sys.version_info[:3],
        executable=sys.executable,
        flowlib=VERSION,
        location=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        host=socket.gethostname(),
        addresses=addresses,
        files=files,
        processes=processes,
        shm_free=shm_free(),
        tmp=tempfile.gettempdir(),
        tmp_free=shutil.disk_usage(tempfile.gettempdir()).free,
        directory=directory,
        directory_free=shutil.disk_usage(directory).free,
        write_error=write_error,
    )


def limits() -> tuple[int, int]:
    """How many files a process may open, and how many processes the user may have; 0 for no limit."""
    import resource

    found = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)]
    files, processes = (0 if limit == resource.RLIM_INFINITY else limit for limit in found)
    return files, processes


def shm_free() -> int | None:
    """Free bytes in /dev/shm; None if there is none."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return None


def scheduler(provider: BatchProvider) -> SchedulerFacts:
    """Facts about the scheduler of a provider; its questions are asked side by side.

    Args:
        provider: Says which scheduler, where its commands are run, and what a job would ask for.
    """
    local = isinstance(provider.transport, LocalTransport)
    where = "this machine" if local else repr(provider.transport)
    commands = {name: _where(provider, name) for name in _commands(provider)}
    partition = getattr(provider, "partition", None) or getattr(provider, "queue", None)
    account = getattr(provider, "account", None) or None
    if not all(commands.values()):
        return SchedulerFacts(provider.label, where, commands, partition=partition, account=account)
    slurm = provider.label == "slurm"
    asks: dict[str, Callable[[], Any]] = {"version": lambda: _version(provider), "query": lambda: _query(provider)}
    if slurm:
        asks["partitions"] = lambda: _lines(provider, ["sinfo", "-h", "-o", "%R"])
        asks["accounts"] = lambda: _accounts(provider)
        if local:
            asks["refusal"] = lambda: _refusal(provider)
    with ThreadPoolExecutor(len(asks), thread_name_prefix="flowlib-doctor") as pool:
        futures = {name: pool.submit(ask) for name, ask in asks.items()}
        told = {name: future.result() for name, future in futures.items()}
    return SchedulerFacts(
        provider.label,
        where,
        commands,
        version=told["version"],
        query_error=told["query"],
        partition=partition,
        partitions=told.get("partitions"),
        account=account,
        accounts=told.get("accounts"),
        refusal=told.get("refusal"),
    )


def _commands(provider: BatchProvider) -> list[str]:
    dialect = provider.dialect
    order = provider._order("flowlib.doctor", 1, 0, ask=False)
    return list(
        dict.fromkeys(argv[0] for argv in (dialect.submit(order), dialect.status(["1"]), dialect.cancel(["1"])))
    )


def _where(provider: BatchProvider, command: str) -> str:
    reply = _ask(provider, ["sh", "-c", 'command -v "$1"', "sh", command])
    return reply.stdout.strip() if reply.code == 0 else ""


def _ask(provider: BatchProvider, argv: Sequence[str]) -> Reply:
    return provider.transport.run(argv, timeout=provider.cmd_timeout, query=True)


def _version(provider: BatchProvider) -> str:
    reply = _ask(provider, _VERSIONS[provider.label]) if provider.label in _VERSIONS else Reply(1)
    lines = (reply.stdout + "\n" + reply.stderr).strip().splitlines()
    return lines[0].strip() if reply.code == 0 and lines else ""


def _query(provider: BatchProvider) -> str:
    try:
        provider.dialect.read_find(_ask(provider, provider.dialect.find(_NO_JOB)), _NO_JOB)
    except QueryFailed as e:
        return str(e)
    return ""


def _lines(provider: BatchProvider, argv: Sequence[str]) -> tuple[str, ...] | None:
    """Distinct lines of an answer; None if there was none."""
    reply = _ask(provider, argv)
    found = tuple(sorted({line.strip() for line in reply.stdout.splitlines() if line.strip()}))
    return found if reply.code == 0 and found else None


def _accounts(provider: BatchProvider) -> tuple[str, ...] | None:
    """The user's accounts; None where there is no accounting, in which case any name is taken."""
    user = _ask(provider, ["id", "-un"]).stdout.strip()
    return _lines(provider, ["sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", "format=account"])


def _refusal(provider: BatchProvider) -> str | None:
    """Why ``sbatch`` would not take the job, "" if it would; None if it did not tell."""
    with tempfile.TemporaryDirectory(prefix="flowlib-doctor-") as directory:
        path = os.path.join(directory, "job.sh")
        with open(path, "w", encoding="utf-8") as file:
            file.write(provider.render_script("true"))
        reply = _ask(provider, ["sbatch", "--test-only", path])
    if reply.code is None or reply.code == NOT_FOUND:
        return None
    if reply.code == 0:
        return ""
    refusal = provider.dialect.read_submit(reply)
    said = re.sub(r"(?m)^(sbatch|allocation failure): (error: )?", "", reply.said).strip()
    return f"{refusal.why}: {said}" if isinstance(refusal, Refusal) else said
