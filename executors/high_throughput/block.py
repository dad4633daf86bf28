"""The file by which a driver tells the managers of a block where home is, with which key, and how to work.

It is a file and not a command line because it holds a secret key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec

_VARIABLE = re.compile(r"\$\{(FLOWLIB_[A-Z_]+)\}")


class Block(msgspec.Struct, kw_only=True):
    """What stands in a block's file. Keys that are not known here are for other versions and left alone.

    Attributes:
        addresses: Where the interchange may be reached; the first that answers is taken. May hold ``${FLOWLIB_...}``.
        local: Name of its socket for managers on its own machine; see ``local``.
        server_public: The interchange's CURVE key in Z85, "" for no encryption.
        client_public: The block's own.
        client_secret: And its secret part.
        once: Whether that key may only be used to name another one; see ``exchange``.
        block: Name of the block.
        label: Label of the executor.
        logdir: Directory for the logs of the block's managers. May hold ``${FLOWLIB_...}``.
        heartbeat_period: Seconds.
        heartbeat_threshold: Seconds of silence after which the other side counts as gone.
        lease: Seconds that workers go on without a connection.
        cores_per_worker: CPUs for each worker.
        mem_per_worker: GB for each worker.
        enforce_memory: Whether a task that uses more than that is killed.
        kill_grace: Seconds between SIGTERM and SIGKILL for a task over its walltime.
        max_tasks_per_worker: Tasks after which a worker is replaced.
        max_memory_per_worker: GB that a worker may keep after a task.
        max_workers_per_node: Limit for the number of workers.
        prefetch: Most tasks beyond the workers; -1 lets the interchange decide.
        cpu_affinity: See ``affinity.worker_cores``.
        accelerators: Names of accelerators, one for each worker.
        shared_accelerators: Whether they go to tasks that ask for them instead.
        disk: Bytes of disk for tasks; None for what is free.
        labels: Amounts of what the user has named.
        mpi_launcher: What starts MPI programs on the block's nodes, all the manager's; "" for a manager of one node.
        hostfile: File with the names of the block's nodes; None for what the scheduler says.
        object_threshold: Bytes from which on results are stored; 0 for never.
        object_memory: Bytes that stored objects may take of memory; 0 for a part of what there is.
        object_directory: Where more than that goes; "" for the usual temporary directory.
        walltime: Seconds from the job's start after which it is ended; None for no limit that the driver knows of.
        drain_period: Seconds after which a manager takes no more tasks.
        address_probe_timeout: Seconds to find an address that answers.
        debug: Whether to log more.
        sys_path: Directories to append to the workers' ``sys.path``.
        environment: Variables to set for good.
        driver_python: The version of the driver's Python.
        cwd: Directory to work in; None for the one the manager is started in.
        log_config: The run's LogConfig, from ``far_logs.packed``.
    """

    addresses: list[str]
    local: str = ""
    server_public: str = ""
    client_public: str = ""
    client_secret: str = ""
    once: bool = False
    block: str = "0"
    label: str = ""
    logdir: str = "."
    heartbeat_period: float = 30
    heartbeat_threshold: float = 120
    lease: float = 30
    cores_per_worker: float = 1.0
    mem_per_worker: float | None = None
    enforce_memory: bool = False
    kill_grace: float = 5.0
    max_tasks_per_worker: int | None = None
    max_memory_per_worker: float | None = None
    max_workers_per_node: float | None = None
    prefetch: int = -1
    cpu_affinity: str = "none"
    accelerators: list[str] = []
    shared_accelerators: bool = False
    disk: int | None = None
    labels: dict[str, float] = {}
    mpi_launcher: str = ""
    hostfile: str | None = None
    object_threshold: int = 0
    object_memory: int = 0
    object_directory: str = ""
    walltime: float | None = None
    drain_period: float | None = None
    address_probe_timeout: float = 30
    debug: bool = False
    sys_path: list[str] = []
    environment: dict[str, str] = {}
    driver_python: str = ""
    cwd: str | None = None
    log_config: bytes = b""


def read_block(path: str) -> Block:
    """Read a block's file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not what a driver writes.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        block = msgspec.json.decode(content, type=Block)
    except msgspec.DecodeError as e:
        raise ValueError(f"{path} is no block file: {e}") from e
    if not block.addresses:
        raise ValueError(f"{path} names no address of the interchange")
    block.addresses = [filled_in(address, os.environ) for address in block.addresses]
    block.logdir = filled_in(block.logdir, os.environ)
    return block


def filled_in(text: str, environment: Mapping[str, str]) -> str:
    """A text with its variables ``${FLOWLIB_...}``: what was not known yet when the driver wrote the file.

    Raises:
        ValueError: There is no such variable.

    Example:
        >>> filled_in("tcp://127.0.0.1:${FLOWLIB_HOME_PORT}", {"FLOWLIB_HOME_PORT": "4711"})
        'tcp://127.0.0.1:4711'
    """
    try:
        return _VARIABLE.sub(lambda match: environment[match[1]], text)
    except KeyError as e:
        raise ValueError(f"the job's environment has no {e.args[0]}, which {text!r} needs") from None
