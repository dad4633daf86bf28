"""What a manager is and what its node has, worked out once, and the messages that tell others of it."""

from __future__ import annotations

import os
import socket
import tempfile
import time
import uuid
from collections.abc import Sequence

import msgspec

from flowlib.executors.high_throughput import affinity, allocation, lifetime, node
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.block import Block
from flowlib.version import VERSION

OBJECT_SHARE = 0.3
"""Part of a node's memory that stored objects may take, if nothing else is said."""


class Facts:
    """One manager on one node.

    Args:
        block: What the driver wants.

    Attributes:
        name: The manager's, unique.
        host: The machine's.
        directory: For logs.
        log: The manager's own.
        slots: How many workers there are to be.
        share: Bytes that a task may use which asks for no memory; None for no limit.
        end: When the job ends; None if nobody says.
        stop_at: When its tasks are ended because of that, Unix time; 0 for never.

    Raises:
        OSError: The names of the block's nodes cannot be read.
        ValueError: An environment variable, the CPU binding or the names of nodes make no sense.
    """

    def __init__(self, block: Block) -> None:
        self._block = block
        self.name = uuid.uuid4().hex[:12]
        self.host = socket.gethostname()
        self._started = time.time()
        self.end = lifetime.job_end(os.environ, block.walltime, self._started)
        # Of this job only: a workflow that runs inside of a task has jobs of its own.
        os.environ.pop(lifetime.STARTED, None)
        self.stop_at = 0.0 if self.end is None else self.end.at - lifetime.margin(self.end.span)
        self.directory = os.path.join(os.path.abspath(block.logdir), self.name)
        self.log = os.path.join(self.directory, "manager.log")
        cpus = node.usable_cpus()
        self._cores = node.count_cores(os.environ, cpus)
        self._memory = node.count_memory(os.environ)
        self._disk = node.count_disk() if block.disk is None else block.disk
        self.slots = node.count_workers(
            self._cores,
            self._memory,
            block.cores_per_worker,
            block.mem_per_worker,
            block.max_workers_per_node,
            0 if block.shared_accelerators else len(block.accelerators),
        )
        self._nodes: list[str] = []
        self._flavours: dict[str, str] = {}
        if block.mpi_launcher:
            self._nodes = allocation.find_nodes(block.mpi_launcher, block.hostfile, os.environ)
            self._flavours = allocation.find_flavours()
        enforced = block.enforce_memory and block.mem_per_worker
        self.share = int(block.mem_per_worker * node.GB) if enforced and block.mem_per_worker else None
        self.object_memory = block.object_memory or int(self._memory * OBJECT_SHARE)
        self.object_directory = block.object_directory or tempfile.gettempdir()
        self._worker_cores = affinity.worker_cores(block.cpu_affinity, cpus, self.slots)
        self.bound = any(self._worker_cores)

    def worker_log(self, rank: int) -> str:
        """The log of a worker."""
        return os.path.join(self.directory, f"worker_{rank}.log")

    def with_cpus(self, needs: m.Needs, shares: Sequence[int]) -> m.Needs:
        """What a task needs, with the CPUs that it gets.

        Args:
            needs: What it needs.
            shares: Ranks of the workers whose share it has.
        """
        cores = None if needs.resources is None else needs.resources.get("cores")
        cpus = affinity.task_cpus([self._worker_cores[rank] for rank in shares], cores)
        return msgspec.structs.replace(needs, cpus=cpus)

    def registration(
        self, running: Sequence[tuple[int, int]], needs: Sequence[tuple[int, int, m.Needs]] = ()
    ) -> m.Register:
        """What the interchange is told.

        Args:
            running: The attempts that the manager has.
            needs: What was given to those of them that asked for resources.
        """
        block = self._block
        return m.Register(
            protocol=m.PROTOCOL,
            python=m.PYTHON,
            version=VERSION,
            manager=self.name,
            block=block.block,
            host=self.host,
            pid=os.getpid(),
            slots=self.slots,
            prefetch=block.prefetch,
            cores=node.shared_cores(self._cores, block.cores_per_worker, block.max_workers_per_node),
            memory=self._memory,
            gpus=block.accelerators,
            started=self._started,
            packages=node.installed_packages(),
            directory=os.getcwd(),
            log=self.log,
            running=list(running),
            share=(block.mem_per_worker or 0) * node.GB,
            disk=self._disk,
            labels=block.labels,
            shared_gpus=block.shared_accelerators,
            nodes=self._nodes,
            needs=list(needs),
            left=max(0.0, self.stop_at - time.time()) if self.stop_at else None,
            life=max(0.0, self.stop_at - self._started) if self.stop_at else 0.0,
        )

    def worker_setup(self, rank: int) -> m.WorkerSetup:
        """What a worker is told."""
        block, cores = self._block, self._worker_cores[rank]
        most = block.max_memory_per_worker
        gpus = [] if block.shared_accelerators else block.accelerators[rank : rank + 1]
        environment = {
            "FLOWLIB_WORKER_RANK": str(rank),
            "FLOWLIB_WORKER_COUNT": str(self.slots),
            "FLOWLIB_WORKER_POOL_ID": self.name,
            "FLOWLIB_WORKER_BLOCK_ID": block.block,
            **affinity.thread_environment(cores),
        }
        if block.shared_accelerators:
            # A task that asks for none sees none.
            environment.update(affinity.accelerator_environment(""))
        for gpu in gpus:
            environment.update(affinity.accelerator_environment(gpu))
        return m.WorkerSetup(
            rank=rank,
            slots=self.slots,
            block=block.block,
            manager=self.name,
            sys_path=block.sys_path,
            environment=environment,
            cores=cores,
            log=self.worker_log(rank),
            debug=block.debug,
            label=block.label,
            gpus=gpus,
            most_tasks=block.max_tasks_per_worker,
            most_memory=None if most is None else int(most * 1e9),
            launcher=block.mpi_launcher,
            flavours=self._flavours,
            large=block.object_threshold,
            log_config=block.log_config,
            ends=self.stop_at,
        )
