"""One run of a high-throughput executor, from its start to its shutdown.

Everything that must not outlive a run is here: the client, the blocks, keys, what is known of managers.  The executor
makes a new one for each start.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.crew import Crew
from flowlib.dataflow.outcomes import Failed
from flowlib.errors import ExecutorError, VersionMismatch
from flowlib.events.schema import Code
from flowlib.executors.blocks import BlockManager, job_name
from flowlib.executors.high_throughput import far_logs, keys, launch, node, reach, safe_path
from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.client import Client
from flowlib.executors.high_throughput.facts import OBJECT_SHARE
from flowlib.executors.high_throughput.fleet import Fleet
from flowlib.executors.high_throughput.functions import Functions
from flowlib.executors.high_throughput.hooks import Ended, Hooks
from flowlib.executors.high_throughput.local import new_name
from flowlib.executors.high_throughput.objects import Objects
from flowlib.executors.high_throughput.whereabouts import place_of
from flowlib.jobs.error_handlers import noop_error_handler, simple_error_handler
from flowlib.providers.base import safe_name
from flowlib.scaling import Load, Settings
from flowlib.serialize.envelope import decode_failure

if TYPE_CHECKING:
    from flowlib.executors.blocks import ErrorHandler
    from flowlib.executors.high_throughput.executor import HighThroughputExecutor
    from flowlib.explain.place import Place

logger = logging.getLogger(__name__)

SHUTDOWN = 5.0
"""Seconds that a shutdown takes at most."""
BRING_HOME = 8.0
"""Seconds that the fetching of large results takes at most before that."""
_PORT_WAIT = 60.0
_TEXT = 2000
_PATIENCE = 3.0
_TRY_ENDED = int(Code.TRY_ENDED)
_OK = int(m.Status.OK)
_WORKER_LOST = int(m.Status.WORKER_LOST)
_RUNNING = int(Code.TASK_RUNNING)


class Direct:
    """A call that came by ``submit``, without a kernel.

    Attributes:
        future: Its future.
        task: Its number.
        func: Kept, so that its body stays known as long as the call is out.
    """

    __slots__ = ("func", "future", "task")

    def __init__(self, func: Callable[..., Any], task: int) -> None:
        self.task = task
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()
        self.func = func

    def end(self, outcome: Any) -> None:
        """Set the future; unpickles what the worker sent."""
        try:
            if isinstance(outcome, Failed):
                raise outcome.error
            value = outcome.value()
        except Exception as e:  # noqa: BLE001
            # The boundary to the user's code and to what it made: its failure is the future's.
            self.future.set_exception(e)
        else:
            self.future.set_result(value)


def _task_of(owner: Any) -> int:
    task: int = owner.task if type(owner) is Direct else owner.id
    return task


def _handling(handler: bool | ErrorHandler) -> bool | ErrorHandler:
    """What the blocks are told: they do by themselves what the two handlers stand for that an executor shows."""
    if handler is simple_error_handler:
        return True
    return False if handler is noop_error_handler else handler


class Session:
    """A run of an executor.

    Args:
        executor: Its parameters are read once; see ``HighThroughputExecutor.start``.

    Attributes:
        client: Talks to the interchange.
        blocks: Has the blocks.
        functions: Numbers of functions.
        fleet: What is known of the managers.
    """

    def __init__(self, executor: HighThroughputExecutor) -> None:
        self._executor = executor
        self.label = executor.label
        self.fleet = Fleet()
        self._emit = executor.emit
        self._index = executor.event_index
        self._server = keys.KeyPair()
        self._local = new_name() if executor.short_way else ""
        self._admitted: dict[str, m.Admit] = {}
        self._drained: dict[str, None] = {}
        self._directs: Crew | None = None
        self._pressed_above = 0
        os.makedirs(executor.logdir, mode=0o700, exist_ok=True)
        module = "flowlib.executors.high_throughput.interchange"
        objects = Objects(
            self._send,
            executor.object_threshold,
            executor.object_memory or int(node.count_memory(os.environ) * OBJECT_SHARE),
            executor.object_directory,
        )
        self.client = Client(
            label=self.label,
            command=executor.interchange_launch_cmd or [sys.executable, *safe_path.options(), "-m", module],
            environment=launch.child_environment(),
            log=os.path.join(executor.logdir, "interchange.log"),
            setup=self._setup,
            heartbeat_period=executor.heartbeat_period,
            heartbeat_threshold=executor.heartbeat_threshold,
            restarts=executor.interchange_restarts,
            hooks=Hooks(
                report=self._report,
                ended=self._on_ended,
                manager_changed=self._on_manager,
                noted=self._on_note,
                running=self._on_running,
                pressed=self._on_pressed,
                broken=self._on_broken,
                replaced=self._on_replaced,
                objects=objects,
                exchanged=self._on_exchanged,
            ),
        )
        self.functions = Functions(self.client.send)
        self.objects = objects
        provider = executor.provider
        self.blocks = BlockManager(
            label=self.label,
            provider=provider,
            settings=Settings.of(
                provider,
                strategy=executor.strategy,
                max_idletime=executor.max_idletime,
                strategy_period=executor.strategy_period,
                slots_per_block=executor.workers_per_node * executor.managers_per_block,
                managers_per_block=executor.managers_per_block,
            ),
            launch_command=self._launch_command,
            load=self._load,
            on_bad_state=self.client.fail,
            on_block_ended=self._on_block_ended,
            emit=self._emit_block,
            block_error_handler=_handling(executor.block_error_handler),
            executor=executor,
            drain=self._drain,
            script_dir=os.path.join(os.path.abspath(executor.run_dir), "submit_scripts"),
            run_id=executor.run_id or "",
        )

    def _send(self, message: Any) -> None:
        self.client.send(message)

    def start(self) -> None:
        """Start the interchange and the first blocks; waits for neither."""
        self.client.start()
        self.objects.start()
        self._emit((int(Code.INTERCHANGE), time.time(), self._index, "started", self.client.pid, "", ""))
        self.blocks.start()

    def close(self) -> None:
        """End everything; takes ``SHUTDOWN`` seconds at most."""
        if self.client.error is None and threading.main_thread().is_alive():
            # At the interpreter's end nobody will ask any more.
            self.objects.bring_home(BRING_HOME)
        deadline = time.monotonic() + SHUTDOWN
        # The managers end while the blocks are being cancelled.
        self.client.end()
        left = self.blocks.close(deadline)
        for owner, _ in self.client.close(deadline):
            if type(owner) is Direct:
                owner.end(Failed(ExecutorError(self.label, "was shut down before the task ended")))
        if self._directs is not None:
            self._directs.close(max(0.0, deadline - time.monotonic()))
        self.objects.close()
        self._emit((int(Code.INTERCHANGE), time.time(), self._index, "ended", self.client.pid, "", ""))
        if left:
            logger.error("%s: blocks %s are not known to have ended", self.label, ", ".join(left))

    def direct(self, func: Callable[..., Any], task: int) -> Direct:
        """A call without a kernel."""
        if self._directs is None:
            self._directs = Crew(f"flowlib-submit-{self.label}", 1)
        return Direct(func, task)

    def whereabouts(self, key: tuple[int, int]) -> Place | None:
        """Where an attempt is, by the interchange and the provider; None if they cannot tell."""
        try:
            told = self.client.ask("where", [key], _PATIENCE)
        except ExecutorError as e:
            # Broken, or being replaced: what is known is in the event log.
            logger.debug("%s: nobody can tell where attempt %s is: %s", self.label, key, e)
            return None
        return None if told is None else place_of(self.label, told, 0, self.blocks.status())

    # ------------------------------------------------------------------------------------------- what the client says

    def _setup(self) -> m.Setup:
        executor = self._executor
        self._server = keys.make_key_pair(executor.encrypted)
        port = executor.worker_port
        return m.Setup(
            label=self.label,
            bind=reach.binds(executor.address, executor.loopback_address, executor.provider),
            ports=executor.worker_port_range if port is None else (port, port),
            server_public=self._server.public,
            server_secret=self._server.secret,
            heartbeat_period=executor.heartbeat_period,
            heartbeat_threshold=executor.heartbeat_threshold,
            selector=executor.manager_selector.kind,
            log=os.path.join(executor.logdir, "interchange.log"),
            debug=executor.worker_debug,
            driver_python=m.PYTHON,
            local=self._local,
            log_config=far_logs.packed(executor.log_config),
        )

    def _report(self, batch: list[Ended]) -> None:
        if self.objects.held:
            self.objects.release(batch, _task_of)
        directs = self._directs
        if directs is not None:
            for owner, _, outcome in batch:
                if type(owner) is Direct:
                    directs.put(owner.end, outcome)
            batch = [ended for ended in batch if type(ended[0]) is not Direct]
            if not batch:
                return
        self._executor.report(batch)

    def _on_ended(self, manager: str, results: list[m.Result]) -> None:
        emit, now, number = self._emit, time.time(), self.fleet.number_of(manager)
        for result in results:
            if result.status == _OK:
                emit(
                    (
                        *(_TRY_ENDED, now, result.task, result.attempt, 0, result.started, result.ended),
                        *(number, result.worker, "", ""),
                    )
                )
            else:
                self._emit_failure(now, number, result)

    def _emit_failure(self, now: float, number: int, result: m.Result) -> None:
        kind = text = ""
        if result.payload:
            failure = decode_failure(result.payload)  # type: ignore[arg-type]
            kind, text = failure.type_name, failure.message[:_TEXT]
        self._emit(
            (
                *(_TRY_ENDED, now, result.task, result.attempt, result.status, result.started, result.ended),
                *(number, result.worker, kind, text),
            )
        )
        if result.status == _WORKER_LOST:
            self._emit(
                (int(Code.WORKER_LOST), now, self._index, number, result.worker, result.task, result.attempt, text)
            )

    def _on_note(self, note: m.Note) -> None:
        self._emit((int(Code.NOTE), note.time, note.task, note.attempt, note.kind, note.body))

    def _on_running(self, told: m.Running) -> None:
        number = self.fleet.number_of(told.manager)
        for task, attempt in told.tasks:
            self._emit((_RUNNING, told.since, task, attempt, number))

    def _on_manager(self, change: m.ManagerChanged) -> None:
        member = self.fleet.changed(change)
        self.objects.manager_changed(change)
        details: dict[str, Any] = {}
        facts = change.details
        if facts is not None:
            names = ("pid", "cores", "memory", "gpus", "python", "version", "directory", "log", "started")
            details = {name: getattr(facts, name) for name in names}
        self._emit(
            (
                *(int(Code.MANAGER), time.time(), self._index, member.number, change.manager, change.change),
                *(change.block, change.host, change.slots, change.reason, details),
            )
        )
        if change.change == "registered":
            self._pressed_above = max(self._pressed_above, self.fleet.slots)
            self.blocks.block_registered(change.block)
        elif change.change in ("lost", "drained"):
            self._pressed_above = 0
            self.blocks.manager_lost(change.block)
        elif change.change == "quarantined":
            logger.error("%s: host %s gets no more tasks: %s", self.label, change.host, change.reason)
        elif change.change == "rejected":
            self._on_rejected(change)

    def _on_rejected(self, change: m.ManagerChanged) -> None:
        facts = change.details
        if facts is None or self.fleet.connected():
            logger.error("%s: manager %s was refused: %s", self.label, change.manager, change.reason)
            return
        ours = f"Python {m.PYTHON}, protocol {m.PROTOCOL}"
        self.client.fail(VersionMismatch(ours, f"Python {facts.python}, protocol {facts.protocol}"))

    def _on_pressed(self, outstanding: int) -> int:
        """There is more to do than the workers can take, or nothing any more; returns when to be told again."""
        self.blocks.poke()
        if outstanding:
            self._pressed_above = max(self.fleet.slots, 2 * outstanding)
        else:
            self._pressed_above = self.fleet.slots
        return self._pressed_above

    def _on_broken(self, error: BaseException) -> None:
        self._executor._error = error
        logger.error("%s is in a bad state: %s", self.label, error)
        self._emit((int(Code.INTERCHANGE), time.time(), self._index, "lost", self.client.pid, "", str(error)[:_TEXT]))
        self.blocks.halt()
        self.blocks.scale_in([block for block, status in self.blocks.status().items() if not status.state.terminal])

    # ---------------------------------------------------------------------------------------- what the blocks ask for

    def _launch_command(self, block: str) -> str:
        """The command line that starts a manager of a block; in the block thread."""
        executor = self._executor
        port = self.client.port(_PORT_WAIT)
        client = keys.make_key_pair(executor.encrypted)
        provider = executor.provider
        once = executor.encrypted and bool(getattr(provider, "keys_are_read_by_others", False))
        if executor.encrypted:
            admit = self._admitted[block] = m.Admit(block, client.public, once)
            self.client.send(admit)
        logdir = os.path.join(executor.worker_logdir, f"block-{block}")
        worker_init = getattr(provider, "worker_init", "") or ""
        side = reach.remote_side(provider, (executor.loopback_address, port), executor.worker_python, logdir)
        if side is None:
            settings = self._settings(self._addresses(port), logdir)
            script = launch.manager_script(executor.worker_python, worker_init)
        else:
            far_log = side.logdir if side.logdir and executor.worker_logdir_root is None else logdir
            settings = self._settings(list(side.addresses) or self._addresses(port), far_log)
            settings["local"] = ""
            script = launch.manager_script(executor.worker_python, worker_init, side.python)
        settings["once"] = once
        content = keys.block_file(settings, server=self._server, client=client, block=block)
        files = {keys.BLOCK_FILE: content, launch.SCRIPT: script}
        if hasattr(provider, "deliver"):
            directory = provider.deliver(files, job_name(self.label, block, executor.run_id or ""))
        else:
            directory = os.path.join(executor.logdir, safe_name(f"{self.label}-block-{block}"))
            for file, data in files.items():
                keys.write_private(directory, file, data)
        debug = "--debug" if executor.worker_debug else ""
        values = {"block_id": block, "logdir": logdir, "debug": debug, "python": sys.executable}
        return launch.launch_command(directory, executor.launch_cmd, values)

    def _addresses(self, port: int) -> list[str]:
        executor = self._executor
        hosts = reach.addresses(executor.address, executor.loopback_address, executor.provider)
        return [f"tcp://{reach.bracketed(host)}:{port}" for host in hosts]

    def _settings(self, addresses: list[str], logdir: str) -> dict[str, Any]:
        executor = self._executor
        here = os.getcwd()
        return {
            "addresses": addresses,
            "local": self._local,
            "label": self.label,
            "logdir": logdir,
            "heartbeat_period": executor.heartbeat_period,
            "heartbeat_threshold": executor.heartbeat_threshold,
            "lease": executor.lease,
            "cores_per_worker": executor.cores_per_worker,
            "mem_per_worker": executor.mem_per_worker,
            "enforce_memory": executor.enforce_memory,
            "kill_grace": executor.kill_grace,
            "max_tasks_per_worker": executor.max_tasks_per_worker,
            "max_memory_per_worker": executor.max_memory_per_worker,
            "max_workers_per_node": executor.max_workers_per_node,
            "prefetch": executor.prefetch_capacity or -1,
            "cpu_affinity": executor.cpu_affinity,
            "accelerators": executor.available_accelerators,
            "shared_accelerators": executor.shared_accelerators,
            "disk": executor.disk_per_node,
            "labels": executor.labels,
            "mpi_launcher": executor.mpi_launcher if executor.enable_mpi_mode else "",
            "hostfile": executor.hostfile,
            "object_threshold": executor.object_threshold or 0,
            "object_memory": executor.object_memory or 0,
            "object_directory": executor.object_directory or "",
            "walltime": getattr(executor.provider, "walltime_s", None) or None,
            "drain_period": executor.drain_period,
            "address_probe_timeout": executor.address_probe_timeout or 30,
            "debug": executor.worker_debug,
            "sys_path": [os.path.abspath(path) if path else here for path in sys.path],
            "environment": {},
            "driver_python": m.PYTHON,
            "cwd": None,
            "log_config": b64encode(far_logs.packed(executor.log_config)).decode(),
        }

    def _load(self) -> Load:
        if self.fleet.may_ask():
            self.client.ask_later("load", [], self._on_load)
        return self.fleet.load(self.client.outstanding, self.fleet.demand(self._expected))

    def _expected(self) -> m.Register:
        return self._executor.expected

    def _on_load(self, answer: Any) -> None:
        before = self.fleet.demand(self._expected)
        self.fleet.take_load(answer)
        if self.fleet.demand(self._expected) > before:
            # Few tasks may ask for much: what is decided by their number alone is not enough.
            self.blocks.poke()

    def _on_replaced(self, cause: BaseException) -> list[m.Message]:
        """The interchange was replaced: what the new one must know."""
        logger.error("%s: another interchange takes over; %s", self.label, cause)
        self._emit(
            (int(Code.INTERCHANGE), time.time(), self._index, "replaced", self.client.pid, "", str(cause)[:_TEXT])
        )
        self.fleet.forget_question()
        messages: list[m.Message] = [*self._admitted.values(), m.Tasks([], self.functions.all())]
        if self._drained:
            messages.append(m.Command(0, "drain_blocks", [list(self._drained)]))
        return messages

    def _on_exchanged(self, admit: m.Admit) -> None:
        """A block has a key of its own making; another interchange must not take the old one again."""
        if admit.block in self._admitted:
            self._admitted[admit.block] = admit

    def _drain(self, blocks: Sequence[str]) -> None:
        self._drained.update(dict.fromkeys(blocks))
        self.client.ask_later("drain_blocks", [list(blocks)], lambda drained: None)

    def _on_block_ended(self, block: str, why: str) -> None:
        # The interchange would otherwise wait for a dead manager's next sign of life.
        self._admitted.pop(block, None)
        self._drained.pop(block, None)
        if block in self.fleet.blocks:
            self.client.ask_later("block_ended", [block, why], lambda managers: None)

    def _emit_block(self, block: str, change: str, job: str, reason: str) -> None:
        self._emit((int(Code.BLOCK), time.time(), self._index, block, change, job, reason))
