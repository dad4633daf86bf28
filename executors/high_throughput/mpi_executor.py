"""The executor for programs that span nodes: each block has one manager, which has all of the block's nodes.

Nodes are a resource of that manager as accelerators are: assigned by name, whole unless the task asks for a part,
packed and kept free for large requests by the interchange as everything else is.  A task finds the command line that
starts its program on its nodes in its environment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import structs

from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.executor import INTERCHANGE_PORTS, PORTS, HighThroughputExecutor
from flowlib.executors.high_throughput.mpi_prefixes import LAUNCHERS
from flowlib.executors.high_throughput.mpi_request import parse_request
from flowlib.executors.high_throughput.needs import check_fits, first_priority, needs_of
from flowlib.executors.high_throughput.parameters import Checks, known_options_only
from flowlib.launchers import SimpleLauncher, WrappedLauncher
from flowlib.suggest import nearest

if TYPE_CHECKING:
    from flowlib.dataflow.record import TaskRecord
    from flowlib.jobs.states import JobStatus


class MPIExecutor(HighThroughputExecutor):
    """Runs tasks that start MPI programs, on the nodes of batch jobs.

    Every task says how many nodes and processes it needs: ``resources={"nodes": 2, "ranks_per_node": 4}``, or
    ``flowlib_resource_specification={"num_nodes": 2, "ranks_per_node": 4}``; also ``ranks`` (``num_ranks``) and
    ``launcher_options``. Its command is a program behind ``$FLOWLIB_MPI_PREFIX``. A node has one task at a time,
    unless tasks ask for parts of one, such as ``{"nodes": 0.5, "ranks": 8}``.

    The nodes of a block are those that Slurm, PBS, LSF, Flux, Cobalt or Grid Engine name in its job, or that stand in
    ``hostfile``; otherwise the machine itself.

    Args:
        label: Unique name in its Config.
        provider: Where blocks come from. Its launcher must be ``SimpleLauncher()``, since a block has one manager; None
            for this machine.
        launch_cmd: As for ``HighThroughputExecutor``, like all that is not explained here.
        interchange_launch_cmd: Likewise.
        address: Likewise.
        loopback_address: Likewise.
        worker_port: Likewise.
        worker_port_range: Likewise.
        interchange_port_range: Likewise.
        storage_access: Likewise.
        working_dir: Likewise.
        worker_debug: Likewise.
        max_workers_per_block: Most tasks that run in a block at the same time.
        prefetch_capacity: Likewise.
        heartbeat_threshold: Likewise.
        heartbeat_period: Likewise.
        drain_period: Likewise.
        poll_period: Likewise.
        address_probe_timeout: Likewise.
        worker_logdir_root: Likewise.
        mpi_launcher: Whose command line ``FLOWLIB_MPI_PREFIX`` is: "srun", "mpiexec", "mpirun", "aprun", "jsrun" or
            "flux". Each has a variable of its own too, such as ``FLOWLIB_SRUN_PREFIX``.
        block_error_handler: Likewise.
        encrypted: Likewise.
        remote_monitoring_radio: Likewise.
        worker_python: Likewise.
        lease: Likewise.
        kill_grace: Likewise.
        hostfile: File with the name of a node on each line, as the first node of a block sees it; None for those of
            the scheduler.

    Raises:
        TypeError: An argument is unknown or has the wrong type, or the provider's launcher starts several managers.
        ValueError: An argument cannot work.

    Example:
        >>> executor = MPIExecutor(max_workers_per_block=2, mpi_launcher="mpirun")
        >>> executor.validate_resources({"nodes": 2, "ranks_per_node": 4})
    """

    enable_mpi_mode = True
    wants_resources = True

    @known_options_only
    def __init__(
        self,
        label: str = "MPIExecutor",
        provider: Any = None,
        launch_cmd: str | None = None,
        interchange_launch_cmd: str | Sequence[str] | None = None,
        address: str | None = None,
        loopback_address: str = "127.0.0.1",
        worker_port: int | None = None,
        worker_port_range: tuple[int, int] = PORTS,
        interchange_port_range: tuple[int, int] = INTERCHANGE_PORTS,
        storage_access: Sequence[Any] | None = None,
        working_dir: str | None = None,
        worker_debug: bool = False,
        max_workers_per_block: int = 1,
        prefetch_capacity: int = 0,
        heartbeat_threshold: float = 120,
        heartbeat_period: float = 30,
        drain_period: float | None = None,
        poll_period: int = 10,
        address_probe_timeout: float | None = None,
        worker_logdir_root: str | None = None,
        mpi_launcher: str = "mpiexec",
        block_error_handler: bool | Callable[[Any, dict[str, JobStatus]], None] = True,
        encrypted: bool = True,
        remote_monitoring_radio: Any = None,
        worker_python: str | None = None,
        lease: float = 30,
        kill_grace: float = 5.0,
        hostfile: str | None = None,
    ) -> None:
        check = Checks(type(self).__name__)
        check.number("max_workers_per_block", max_workers_per_block, least=1, whole=True)
        check.text("hostfile", hostfile, none=True)
        if mpi_launcher not in LAUNCHERS:
            raise ValueError(
                f"{type(self).__name__}(mpi_launcher={mpi_launcher!r}): give one of {', '.join(LAUNCHERS)}"
                f"{nearest(str(mpi_launcher), LAUNCHERS)}"
            )
        if provider is None:
            from flowlib.providers import LocalProvider

            provider = LocalProvider(launcher=SimpleLauncher())
        launcher = getattr(provider, "launcher", None)
        if launcher is not None and not isinstance(launcher, (SimpleLauncher, WrappedLauncher)):
            raise TypeError(
                f"{type(self).__name__}: the provider's launcher is {launcher!r}, which starts several managers; "
                f"here one manager has all nodes: give {type(provider).__name__}(launcher=SimpleLauncher(), ...)"
            )
        if isinstance(interchange_launch_cmd, str):
            interchange_launch_cmd = interchange_launch_cmd.split()
        super().__init__(
            label=label,
            provider=provider,
            launch_cmd=launch_cmd,
            interchange_launch_cmd=interchange_launch_cmd,
            address=address,
            loopback_address=loopback_address,
            worker_port=worker_port,
            worker_port_range=worker_port_range,
            interchange_port_range=interchange_port_range,
            storage_access=storage_access,
            working_dir=working_dir,
            worker_debug=worker_debug,
            # As many workers as are asked for: they only start programs, whatever the first node's cores.
            cores_per_worker=1e-9,
            max_workers_per_node=max_workers_per_block,
            prefetch_capacity=prefetch_capacity,
            heartbeat_threshold=heartbeat_threshold,
            heartbeat_period=heartbeat_period,
            drain_period=drain_period,
            poll_period=poll_period,
            address_probe_timeout=address_probe_timeout,
            worker_logdir_root=worker_logdir_root,
            block_error_handler=block_error_handler,
            encrypted=encrypted,
            remote_monitoring_radio=remote_monitoring_radio,
            worker_python=worker_python,
            lease=lease,
            kill_grace=kill_grace,
        )
        self.max_workers_per_block = max_workers_per_block
        self.mpi_launcher = mpi_launcher
        self.hostfile = hostfile

    @property
    def _name(self) -> str:
        return f"{type(self).__name__} ({self.label})"

    @property
    def managers_per_block(self) -> int:
        """One, on its first node."""
        return 1

    def validate_resources(self, specification: dict[str, Any]) -> None:
        """Refuse what no block of this executor can ever honour, and tasks that do not say what they need.

        Raises:
            InvalidResourceSpecification: Names the keys.
        """
        request = parse_request(specification, self._name)
        session = self._session
        if session is not None:
            check_fits({"nodes": request.nodes}, session.fleet.connected(), self._name)

    def launch(
        self, record: TaskRecord, attempt: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Start one attempt; see the base class.

        Raises:
            BadStateException: The executor is broken.
            InvalidResourceSpecification: The task does not say what it needs.
            SerializationError: The function or an argument cannot be sent.
        """
        if not record.resource_specification:
            parse_request({}, self._name)
        super().launch(record, attempt, func, args, kwargs)

    def _needs(self, record: TaskRecord) -> m.Needs | None:
        return self._with_ranks(record.resource_specification, needs_of(record))

    def _needs_for(self, specification: dict[str, Any]) -> m.Needs:
        return self._with_ranks(specification, m.Needs(first_priority(specification)))

    def _with_ranks(self, specification: dict[str, Any], needs: m.Needs | None) -> m.Needs:
        request = parse_request(specification, self._name)
        ranks = m.Ranks(request.ranks, request.ranks_per_node, request.launcher_options)
        assert needs is not None
        return structs.replace(needs, resources={"nodes": request.nodes}, ranks=ranks)

    def _guess_workers(self) -> int:
        return self.max_workers_per_block
