"""The high-throughput executor: worker processes on the nodes of blocks, reached through an interchange.

This file is the executor as users configure it and as the kernel calls it.  The conversation with the interchange is
``client``'s, blocks are ``flowlib.executors.blocks``'s; here they are put together.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flowlib.errors import ExecutorError
from flowlib.events import discard
from flowlib.executors.base import FlowlibExecutor
from flowlib.executors.high_throughput import launch
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.expected import expected_node
from flowlib.executors.high_throughput.manager_selector import ManagerSelector, RandomManagerSelector
from flowlib.executors.high_throughput.needs import (
    check_fits,
    check_specification,
    check_time,
    first_priority,
    needs_of,
    resources_of,
)
from flowlib.executors.high_throughput.parameters import Checks, known_options_only, parameter_names
from flowlib.jobs.error_handlers import noop_error_handler, simple_error_handler
from flowlib.serialize.arguments import APART, ApartCall, dump_apart
from flowlib.units import parse_size, specification_in_bytes

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord
    from flowlib.executors.high_throughput.session import Session
    from flowlib.explain.place import Place
    from flowlib.jobs.states import JobStatus

PORTS = (54000, 55000)
INTERCHANGE_PORTS = (55000, 56000)
LIGHT = 1 << 16
"""Bytes of arguments up to which those of a task with a large result are kept, in case it is lost."""


class HighThroughputExecutor(FlowlibExecutor):
    """Runs tasks in worker processes, on this machine or on the nodes of a cluster.

    Args:
        label: Unique name in its Config; also the name of its directory in the run directory.
        provider: Where blocks come from; None for ``LocalProvider()``, this machine.
        launch_cmd: Text around a manager's command line, for example ``"singularity exec image.sif {command}"``.
            Fields: ``{command}``, ``{blockfile}``, ``{block_id}``, ``{logdir}``, ``{debug}``, ``{python}``.
        interchange_launch_cmd: Command line of the interchange, as words; None for flowlib's own.
        address: Address at which managers reach this machine, and at which the interchange listens. None for all of
            this machine's addresses; for blocks on this machine only, the loopback address.
        loopback_address: Address that stands for this machine itself.
        worker_port: Port for managers; None to choose one from ``worker_port_range``.
        worker_port_range: Lowest and highest port to choose from; ``(0, 0)`` for any.
        interchange_port_range: Without effect: the interchange needs no ports for the driver.
        storage_access: Staging providers; None for the defaults.
        working_dir: Directory for staged files on the nodes.
        worker_debug: Whether interchange, managers and workers log more.
        cores_per_worker: CPUs for each worker; below 1 several share one.
        mem_per_worker: GB of memory for each worker; fewer workers start where there is less. None for any.
        enforce_memory: Whether a task that uses more than ``mem_per_worker``, its children included, is killed with
            ``OutOfMemory``. It is looked at five times a second. A task that asks for memory is held to that anyway.
        kill_grace: Seconds that a task over its walltime has between SIGTERM and SIGKILL.
        max_tasks_per_worker: Tasks after which a worker is replaced by a fresh one; None for never.
        max_memory_per_worker: GB that a worker may keep after a task; one that keeps more, because of a leak say, is
            replaced. None for any amount.
        object_threshold: Size, as bytes or text, from which on an array or other buffer among the arguments, and a
            result, is stored once per node instead of travelling with each task. None for never; ``flowlib.put``
            works all the same.
        object_memory: Memory, as bytes or text, that stored objects may take on a node, and in the script's process;
            what is more goes to disk. None for three tenths of the memory there is.
        object_directory: Directory on the nodes' own disks for what is more; None for the usual temporary directory.
        max_workers_per_node: Most workers on a node; None for as many as it has room for.
        cpu_affinity: How workers are bound to CPUs: "none", "block", "block-reverse", "alternating" or
            "list:0-3:4-7". Where they are, a task that asks for ``cores`` is bound to as many CPUs of its own.
        available_accelerators: How many accelerators a node has, or their names; each worker gets one.
        prefetch_capacity: Tasks that a manager keeps beyond those that run. 0: as many as keep its workers busy, none
            for long tasks.
        heartbeat_threshold: Seconds of silence after which a manager, or the interchange, counts as lost.
        heartbeat_period: Seconds between signs of life.
        drain_period: Seconds after which a manager takes no more tasks and leaves; None for never.
        poll_period: Without effect: nothing polls.
        address_probe_timeout: Seconds in which a manager must reach one of the addresses; None for 30.
        worker_logdir_root: Directory for logs of managers and workers; None for the run directory.
        manager_selector: Which managers are preferred.
        block_error_handler: True: give up after ``max(1, init_blocks)`` blocks from which no manager came. False:
            never. A function of this executor and the status by block: called whenever a block's status changes.
            True and False stand for ``simple_error_handler`` and ``noop_error_handler``, which the attribute holds.
        encrypted: Whether connections are authenticated and encrypted, by CURVE with keys made for the run.
        remote_monitoring_radio: Accepted for compatibility; the event log needs none.
        worker_python: Python for managers and workers; None for this process's own, or the ``python3`` that the
            provider's ``worker_init`` puts on PATH.
        lease: Seconds for which managers go on when the connection to the interchange is lost.
        shared_accelerators: Whether accelerators go to the tasks that ask for ``gpus`` (fractions share one), and a
            task that asks for none sees none. Otherwise each worker has one of its own.
        disk_per_node: Bytes, or text like "100GB", that tasks may ask for as ``disk``; None for what is free where a
            node's temporary files go.
        labels: What else a node has that tasks may ask for: amounts by name, such as ``{"licence": 2}``.

    Raises:
        TypeError: An argument is unknown or has the wrong type.
        ValueError: An argument cannot work.

    Example:
        >>> from flowlib.providers import LocalProvider
        >>> executor = HighThroughputExecutor(max_workers_per_node=4, provider=LocalProvider(max_blocks=2))
        >>> executor.label
        'HighThroughputExecutor'
    """

    forwards_pickled = True
    shares_objects = True
    short_way = True
    """Whether managers on this machine are reached without ZeroMQ; see ``local``."""
    interchange_restarts = 3
    """How often within a minute an interchange that died is replaced before the executor gives up."""
    enable_mpi_mode = False
    mpi_launcher = "mpiexec"
    hostfile: str | None = None

    @known_options_only
    def __init__(
        self,
        label: str = "HighThroughputExecutor",
        provider: Any = None,
        launch_cmd: str | None = None,
        interchange_launch_cmd: Sequence[str] | None = None,
        address: str | None = None,
        loopback_address: str = "127.0.0.1",
        worker_port: int | None = None,
        worker_port_range: tuple[int, int] = PORTS,
        interchange_port_range: tuple[int, int] = INTERCHANGE_PORTS,
        storage_access: Sequence[Any] | None = None,
        working_dir: str | None = None,
        worker_debug: bool = False,
        cores_per_worker: float = 1.0,
        mem_per_worker: float | None = None,
        max_workers_per_node: float | None = None,
        cpu_affinity: str = "none",
        available_accelerators: int | Sequence[str] = (),
        prefetch_capacity: int = 0,
        heartbeat_threshold: float = 120,
        heartbeat_period: float = 30,
        drain_period: float | None = None,
        poll_period: int = 10,
        address_probe_timeout: float | None = None,
        worker_logdir_root: str | None = None,
        manager_selector: ManagerSelector | None = None,
        block_error_handler: bool | Callable[[Any, dict[str, JobStatus]], None] = True,
        encrypted: bool = True,
        remote_monitoring_radio: Any = None,
        worker_python: str | None = None,
        lease: float = 30,
        enforce_memory: bool = False,
        kill_grace: float = 5.0,
        max_tasks_per_worker: int | None = None,
        max_memory_per_worker: float | None = None,
        shared_accelerators: bool = False,
        disk_per_node: int | str | None = None,
        labels: Mapping[str, float] | None = None,
        object_threshold: int | str | None = "1MB",
        object_memory: int | str | None = None,
        object_directory: str | None = None,
    ) -> None:
        check = Checks(type(self).__name__)
        check.text("label", label)
        check.text("launch_cmd", launch_cmd, none=True)
        check.text("address", address, none=True)
        check.text("loopback_address", loopback_address)
        check.number("worker_port", worker_port, least=1, whole=True, none=True)
        self.worker_port_range = check.ports("worker_port_range", worker_port_range)
        check.text("working_dir", working_dir, none=True)
        check.flag("worker_debug", worker_debug)
        check.number("cores_per_worker", cores_per_worker, above=True)
        check.number("mem_per_worker", mem_per_worker, above=True, none=True)
        check.flag("enforce_memory", enforce_memory)
        check.number("kill_grace", kill_grace)
        check.number("max_tasks_per_worker", max_tasks_per_worker, least=1, whole=True, none=True)
        check.number("max_memory_per_worker", max_memory_per_worker, above=True, none=True)
        check.text("object_directory", object_directory, none=True)
        if enforce_memory and mem_per_worker is None:
            raise ValueError(
                f"{type(self).__name__}(enforce_memory=True) needs mem_per_worker, the GB that each worker may use"
            )
        check.number("max_workers_per_node", max_workers_per_node, least=1, whole=True, none=True)
        check.affinity(cpu_affinity)
        self.available_accelerators = check.accelerators(available_accelerators)
        check.number("prefetch_capacity", prefetch_capacity, whole=True)
        check.number("heartbeat_period", heartbeat_period, above=True)
        check.number("heartbeat_threshold", heartbeat_threshold, above=True)
        if heartbeat_threshold <= heartbeat_period:
            raise ValueError(
                f"{type(self).__name__}(heartbeat_threshold={heartbeat_threshold!r}): give more than heartbeat_period, "
                f"which is {heartbeat_period!r}, so that one late sign of life is not taken for a death"
            )
        check.number("drain_period", drain_period, above=True, none=True)
        check.number("address_probe_timeout", address_probe_timeout, above=True, none=True)
        check.text("worker_logdir_root", worker_logdir_root, none=True)
        check.flag("encrypted", encrypted)
        check.text("worker_python", worker_python, none=True)
        check.number("lease", lease, above=True)
        check.flag("shared_accelerators", shared_accelerators)
        self.disk_per_node = None if disk_per_node is None else parse_size(disk_per_node, "disk_per_node")
        self.labels = check.labels(labels)
        if os.sep in label or label in (".", ".."):
            raise ValueError(f"{type(self).__name__}(label={label!r}): it names a directory, so give no {os.sep!r}")
        if not isinstance(block_error_handler, bool) and not callable(block_error_handler):
            raise TypeError(f"block_error_handler is {block_error_handler!r}: give True, False or a function")
        if manager_selector is not None and not isinstance(manager_selector, ManagerSelector):
            raise TypeError(
                f"manager_selector is {manager_selector!r}: give RandomManagerSelector(), BlockIdManagerSelector() or "
                "PackManagerSelector() from flowlib.executors.high_throughput.manager_selector"
            )
        if launch_cmd is not None:
            self._check_launch_cmd(launch_cmd)
        self.interchange_port_range = check.ports("interchange_port_range", interchange_port_range)
        check.unused("interchange_port_range", self.interchange_port_range, INTERCHANGE_PORTS, "none are needed")
        check.unused("poll_period", poll_period, 10, "nothing polls, all parts wait for events")
        check.unused("remote_monitoring_radio", remote_monitoring_radio, None, "every run records its events")
        if provider is None:
            from flowlib.providers import LocalProvider

            provider = LocalProvider()
        elif not all(callable(getattr(provider, name, None)) for name in ("submit", "status", "cancel")):
            raise TypeError(f"provider is {provider!r}: give an instance of a provider, such as LocalProvider()")

        self.label = label
        self.provider = provider
        self.launch_cmd = launch_cmd
        self.interchange_launch_cmd = None if interchange_launch_cmd is None else list(interchange_launch_cmd)
        self.address = address
        self.loopback_address = loopback_address
        self.worker_port = worker_port
        self.storage_access = storage_access
        self.working_dir = working_dir
        self.worker_debug = worker_debug
        self.cores_per_worker = cores_per_worker
        self.mem_per_worker = mem_per_worker
        self.max_workers_per_node = None if max_workers_per_node in (None, math.inf) else int(max_workers_per_node or 0)
        self.cpu_affinity = cpu_affinity
        self.prefetch_capacity = prefetch_capacity
        self.heartbeat_threshold = heartbeat_threshold
        self.heartbeat_period = heartbeat_period
        self.drain_period = drain_period
        self.poll_period = poll_period
        self.address_probe_timeout = address_probe_timeout
        self.worker_logdir_root = worker_logdir_root
        self.manager_selector = manager_selector or RandomManagerSelector()
        if isinstance(block_error_handler, bool):
            block_error_handler = simple_error_handler if block_error_handler else noop_error_handler
        self.block_error_handler = block_error_handler
        self.encrypted = encrypted
        self.remote_monitoring_radio = remote_monitoring_radio
        self.worker_python = worker_python
        self.lease = lease
        self.enforce_memory = enforce_memory
        self.kill_grace = kill_grace
        self.max_tasks_per_worker = max_tasks_per_worker
        self.max_memory_per_worker = max_memory_per_worker
        self.shared_accelerators = shared_accelerators
        self.object_threshold = None if object_threshold is None else parse_size(object_threshold, "object_threshold")
        self.object_memory = None if object_memory is None else parse_size(object_memory, "object_memory")
        self.object_directory = object_directory

        self.emit = discard
        self._session: Session | None = None
        self._error: BaseException | None = None
        self._own_tasks = itertools.count(-1, -1)

    def _check_launch_cmd(self, template: str) -> None:
        fields: dict[str, Any] = dict.fromkeys(launch.FIELDS, "")
        try:
            text = launch.launch_command("DIR", template, fields)
        except (KeyError, IndexError, ValueError) as e:
            raise ValueError(
                f"launch_cmd={template!r} has a field that there is not ({e}); there are {{command}}, {{blockfile}}, "
                + ", ".join(f"{{{name}}}" for name in fields)
            ) from None
        if "DIR/" not in text:
            raise ValueError(
                f"launch_cmd={template!r} starts no manager: put {{command}} where the manager's command line belongs. "
                "A manager takes its settings from its block file, not from options"
            )

    def __repr__(self) -> str:
        given = [f"{name}={getattr(self, name)!r}" for name in parameter_names(type(self)) if name in vars(self)]
        return f"{type(self).__name__}({', '.join(given)})"

    # --------------------------------------------------------------------------------------------------------- life

    @property
    def logdir(self) -> str:
        """Directory of the executor's logs."""
        return os.path.join(os.path.abspath(self.run_dir), self.label)

    @property
    def worker_logdir(self) -> str:
        """Directory of the logs of managers and workers, as the nodes see it."""
        return self.logdir if self.worker_logdir_root is None else os.path.join(self.worker_logdir_root, self.label)

    def start(self) -> None:
        """Start the interchange and the first blocks; waits for neither.

        Raises:
            ExecutorError: It is started already, or the interchange cannot be.
        """
        from flowlib.executors.high_throughput.session import Session

        if self._session is not None:
            raise ExecutorError(self.label, "is started already; shut it down first")
        self._error = None
        session = Session(self)
        session.start()
        self._session = session

    def shutdown(self) -> None:
        """End the managers, the interchange and the blocks; bounded, and harmless when repeated."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _here(self) -> Session:
        session = self._session
        if session is None:
            raise ExecutorError(self.label, "is not running: it was not started, or was shut down")
        return session

    # -------------------------------------------------------------------------------------------------------- tasks

    def launch(
        self, record: TaskRecord, attempt: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Start one attempt; see the base class.

        Raises:
            BadStateException: The executor is broken.
            SerializationError: The function or an argument cannot be sent.
        """
        session = self._session or self._here()
        name = record.app.name
        number = session.functions.number(func, name)
        payload = dump_apart(args, kwargs, name, session.objects.keeper)
        needs = None
        # A further try avoids the places of those before.
        if (
            attempt
            or record.walltime is not None
            or record.resource_specification
            or record.options.priority is not None
        ):
            needs = self._needs(record)
        if type(payload) is ApartCall:
            needs = session.objects.hold((record.id, attempt), payload, needs)
            payload = payload.payload
            if payload[:1] == APART:
                record.more().heavy = True
        if len(payload) > LIGHT:
            # Should its result be lost, it is not run again: its arguments would have to be kept for that.
            record.more().heavy = True
        session.client.launch(record, m.Task(record.id, attempt, number, payload, needs, record.depends))  # type: ignore[arg-type]

    def submit(
        self, func: Callable[..., Any], resource_specification: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Run ``func(*args, **kwargs)`` on a worker, outside of any workflow.

        Args:
            func: What to call.
            resource_specification: See ``validate_resources``; ``memory`` and ``disk`` are in megabytes here.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            A future of its value.

        Raises:
            BadStateException: The executor is broken.
            InvalidResourceSpecification: It cannot be honoured.
            SerializationError: The function or an argument cannot be sent.
        """
        session = self._here()
        resource_specification = specification_in_bytes(resource_specification)
        self.validate_resources(resource_specification)
        name = getattr(func, "__name__", type(func).__name__)
        number = session.functions.number(func, name)
        payload = dump_apart(args, kwargs, name, session.objects.keeper)
        needs = None
        if resource_specification:
            needs = self._needs_for(resource_specification)
        task = next(self._own_tasks)
        if type(payload) is ApartCall:
            needs = session.objects.hold((task, 0), payload, needs)
            payload = payload.payload
        direct = session.direct(func, task)
        direct.future.flowlib_executor_task_id = task  # type: ignore[attr-defined]
        session.client.launch(direct, m.Task(task, 0, number, payload, needs))  # type: ignore[arg-type]
        return direct.future

    def _needs(self, record: TaskRecord) -> m.Needs | None:
        """What a task asks for, for the wire."""
        return needs_of(record)

    def _needs_for(self, specification: dict[str, Any]) -> m.Needs:
        """The same of a bare specification that was validated."""
        return m.Needs(first_priority(specification), None, resources_of(specification))

    def cancel(self, record: TaskRecord, attempt: int) -> bool:
        """Withdraw an attempt that no worker has begun; see the base class."""
        session = self._session
        if session is None or not session.client.cancel((record.id, attempt)):
            return False
        session.objects.held.pop((record.id, attempt), None)
        return True

    def kill(self, record: TaskRecord, attempt: int, grace: float) -> bool:
        """End an attempt, and what it has started, by SIGTERM and SIGKILL; see the base class."""
        session = self._session
        return session is not None and session.client.kill((record.id, attempt), grace)

    def whereabouts(self, record: TaskRecord, attempt: int) -> Place | None:
        """Where an attempt is at this moment; see the base class."""
        session = self._session
        return None if session is None else session.whereabouts((record.id, attempt))

    def validate_resources(self, specification: dict[str, Any]) -> None:
        """Refuse what this executor can never honour: unknown names, and more than its largest node has.

        Before the first manager is there, nodes are taken to be what the parameters, the provider and, for blocks on
        this machine, this machine tell of them. What only turns out to be too much fails in the same way then.

        Raises:
            InvalidResourceSpecification: Names the keys.
        """
        if specification:
            who = f"{type(self).__name__} ({self.label})"
            check_specification(specification, who, self.labels)
            session = self._session
            if session is not None:
                # Nodes that are there are known better than those that will come.
                check_fits(specification, session.fleet.shapes() or [self.expected], who)
            else:
                check_fits(specification, [self.expected], who)

    def validate_walltime(self, walltime: float) -> None:
        """Refuse a task that has declared to take longer than a block has.

        Raises:
            InvalidResourceSpecification: It has; names both times.
        """
        check_time(walltime, self.provider, f"{type(self).__name__} ({self.label})")

    def validate_resource_spec(self, resource_specification: dict[str, Any]) -> None:
        """The name of ``validate_resources`` that scripts of the field call."""
        self.validate_resources(specification_in_bytes(resource_specification))

    # ------------------------------------------------------------------------------------------------- what there is

    def outstanding(self) -> int:
        """Tasks that were launched and have not ended."""
        session = self._session
        return 0 if session is None else session.client.outstanding

    def connected_managers(self) -> list[dict[str, Any]]:
        """The connected managers, as the interchange sees them.

        Returns:
            For each: ``manager``, ``block_id``, ``worker_count``, ``tasks``, ``idle_duration`` (seconds), ``active``
            (whether it gets tasks), ``draining``, ``flowlib_version``, ``python_version``, ``hostname``.

        Raises:
            ExecutorError: The executor is not running, or the interchange does not answer within 5 s.
        """
        managers: list[dict[str, Any]] = self._here().client.ask("managers")
        return managers

    def connected_managers_packages(self) -> dict[str, dict[str, str]]:
        """Versions of the packages that are installed where each connected manager runs."""
        return {facts.manager: dict(facts.packages) for facts in self._here().fleet.connected()}

    def connected_blocks(self) -> list[str]:
        """Ids of all blocks of which a manager ever connected, in that order."""
        return list(self._here().fleet.blocks)

    @property
    def workers_per_node(self) -> int:
        """Workers of a manager: that of the largest connected one, or a guess until the first is there."""
        session = self._session
        slots = [facts.slots for facts in session.fleet.connected()] if session is not None else []
        return max(slots, default=0) or self._guess_workers()

    @property
    def managers_per_block(self) -> int:
        """Managers that a complete block has: one on each node."""
        return getattr(self.provider, "nodes_per_block", 1)

    def _guess_workers(self) -> int:
        provider = self.provider
        cores = getattr(provider, "cores_per_node", None)
        memory = getattr(provider, "mem_per_node", None)
        if cores is None and getattr(provider, "label", "") == "local":
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        limits: list[float] = []
        if cores is not None:
            limits.append(cores // self.cores_per_worker)
        if memory is not None and self.mem_per_worker is not None:
            limits.append(memory // self.mem_per_worker)
        if self.available_accelerators and not self.shared_accelerators:
            limits.append(len(self.available_accelerators))
        if self.max_workers_per_node is not None and limits:
            limits.append(self.max_workers_per_node)
        return max(1, int(min(limits, default=1)))

    @property
    def usable(self) -> bool:
        """Whether it is not broken, and has workers or may start blocks that have some."""
        session = self._session
        if session is None or session.client.error is not None:
            return False
        return session.fleet.slots > 0 or getattr(self.provider, "max_blocks", 1) > 0

    @cached_property
    def expected(self) -> m.Register:
        """What a node will have at most, as far as that is known before one is there."""
        return expected_node(self)

    def _hold_block(self, block_id: str) -> list[str]:
        """Give the managers of a block no more tasks; returns their names."""
        held: list[str] = self._here().client.ask("hold_block", [block_id])
        return held

    def _hold_manager(self, manager: str) -> bool:
        """Give a manager no more tasks; whether there is one of that name."""
        held: bool = self._here().client.ask("hold_manager", [manager])
        return held

    # -------------------------------------------------------------------------------------------------------- blocks

    def scale_out(self, blocks: int = 1) -> list[str]:
        """Start more blocks, whatever the strategy thinks.

        Returns:
            Their ids.

        Raises:
            ScalingFailed: That would be more than ``max_blocks``.
        """
        return self._here().blocks.scale_out(blocks)

    def scale_in(self, blocks: int | Sequence[str], *, drain: bool = False) -> list[str]:
        """End blocks.

        Args:
            blocks: Their ids; or how many, and those that have been idle for longest are chosen.
            drain: Whether to let their tasks finish; otherwise these are lost and sent again.

        Returns:
            The ids of the blocks that were told to end.
        """
        session = self._here()
        if isinstance(blocks, int):
            idle = session.client.ask("load")["blocks"]
            alive = [block for block, status in session.blocks.status().items() if not status.state.terminal]
            blocks = sorted(alive, key=lambda b: -idle[b][1] if b in idle else 1.0)[:blocks]
        for block in blocks:
            # From here on, not only once its managers are dead: what is submitted next must not be lost with them.
            session.client.ask_later("hold_block", [block], lambda held: None)
        session.blocks.scale_in(list(blocks), drain=drain)
        return list(blocks)

    scale_out_facade = scale_out
    scale_in_facade = scale_in

    def status(self) -> dict[str, JobStatus]:
        """The status of every block so far, by id."""
        session = self._session
        return {} if session is None else session.blocks.status()

    @property
    def status_facade(self) -> dict[str, JobStatus]:
        """The same as an attribute."""
        return self.status()

    def handle_errors(self, status: dict[str, JobStatus]) -> None:
        """Call the ``block_error_handler`` with a status by block."""
        self.block_error_handler(self, status)

    @property
    def blocks_to_job_id(self) -> dict[str, Any]:
        """The provider's job ids by block id."""
        return {} if self._session is None else self._session.blocks.jobs()

    @property
    def job_ids_to_block(self) -> dict[Any, str]:
        """Block ids by the provider's job ids."""
        return {job: block for block, job in self.blocks_to_job_id.items()}

    # ------------------------------------------------------------------------------------------------------ bad state

    @property
    def bad_state_is_set(self) -> bool:
        """Whether the executor is broken."""
        return self._error is not None

    @property
    def executor_exception(self) -> BaseException | None:
        """What broke the executor."""
        return self._error

    def set_bad_state_and_fail_all(self, exception: BaseException) -> None:
        """Declare the executor broken: all its tasks fail with ``BadStateException``, and it takes no further ones.

        Args:
            exception: The reason.
        """
        session = self._session
        if session is not None:
            session.client.fail(exception)
