"""Every message of the high-throughput executor, and the only place that knows its bytes.

A message is a list of byte frames.  The first is a msgpack array that starts with the message's tag; the frames
after it are attachments: payloads too large to copy into the header.  A payload in a header is either bytes (inline)
or an int (the index of its attachment).  User data is opaque: nothing on the way unpickles it.

::

    driver  <-- socketpair, Link -->  interchange  <-- ZeroMQ + CURVE -->  manager  <-- socketpair, Link -->  worker

The same ``Tasks`` and ``Results`` travel all the way, so that each hop forwards payloads as it got them.  A task is
named by ``(task, attempt)`` everywhere; whoever sees an attempt that it does not know drops it.
"""

from __future__ import annotations

import platform
from enum import IntEnum
from typing import Any

import msgspec

PROTOCOL = 2
"""Number of this protocol; managers and interchanges with different numbers refuse each other."""

INLINE_LIMIT = 16 * 1024
"""Payloads above this many bytes travel as frames of their own."""

PYTHON = platform.python_version()


def same_python(one: str, other: str) -> bool:
    """Whether two versions of Python are the same to pickles of code: major and minor count.

    Example:
        >>> same_python("3.11.7", "3.11.10"), same_python("3.11.7", "3.12.0")
        (True, False)
    """
    return one.split(".")[:2] == other.split(".")[:2]


class Status(IntEnum):
    """How an attempt ended."""

    OK = 0
    """The payload is the pickled value."""
    RAISED = 1
    """The app failed; the payload is a ``flowlib.serialize.envelope.Failure``. Costs the user's retries."""
    WORKER_LOST = 2
    """The worker died while it ran this task; the payload is a ``Failure``. Costs the user's retries."""
    LOST = 3
    """Manager, node, block or interchange went away; ``Failure``. Costs the infrastructure budget."""
    WITHDRAWN = 4
    """Cancelled, or taken back before it started. No payload."""
    REFUSED = 5
    """Can never run here; ``Failure``. Not retried."""
    STORED = 6
    """OK, and the value is a stored object on the node; the payload is a ``StoredResult``."""


class Object(msgspec.Struct, array_like=True, gc=False):
    """A stored object (see ``flowlib.store``) that a task uses.

    Attributes:
        key: Its id.
        size: Its bytes.
    """

    key: bytes
    size: int


class StoredResult(msgspec.Struct, array_like=True, gc=False):
    """A result that stays on the node where it was made.

    Attributes:
        key: Id of the object.
        size: Its bytes.
        manager: Who has it.
        host: Where that is.
    """

    key: bytes
    size: int
    manager: str
    host: str


class Ranks(msgspec.Struct, array_like=True, omit_defaults=True):
    """The processes of an MPI task.

    Attributes:
        total: How many.
        per_node: Most on each of its nodes.
        options: For the end of the launcher's command line.
    """

    total: int
    per_node: int
    options: str = ""


class Needs(msgspec.Struct, array_like=True, omit_defaults=True):
    """What a task asks for beyond one worker slot; absent (None) for most tasks.

    Attributes:
        priority: Higher runs first; equal ones first in, first out.
        walltime: Seconds it may run; None for no limit.
        resources: Amounts by name ("cores", "memory" in bytes, "gpus", labels).
        environment: Variables to set while it runs.
        slots: Workers whose share it has; set by the interchange.
        gpus: Accelerators that it has; set by the interchange.
        avoid: Managers, with their hosts, where it failed before.
        firm: Whether it waits for a while for a place elsewhere.
        ranks: Its processes, if it starts an MPI program.
        nodes: Names of the nodes that it has; set by the interchange.
        objects: Stored objects that it uses.
        near: The manager that has the largest of them, if one has; "" otherwise.
        lasts: Seconds that it takes at most where it sees to that itself, as bash apps do; None for no limit.
        cpus: CPUs that it has for itself; set by the manager where workers are bound to CPUs.
    """

    priority: float = 0.0
    walltime: float | None = None
    resources: dict[str, Any] | None = None
    environment: dict[str, str] | None = None
    slots: int = 1
    gpus: list[str] | None = None
    avoid: list[tuple[str, str]] | None = None
    firm: bool = False
    ranks: Ranks | None = None
    nodes: list[str] | None = None
    objects: list[Object] | None = None
    near: str = ""
    lasts: float | None = None
    cpus: list[int] | None = None


class Function(msgspec.Struct, array_like=True):
    """A function body, sent once to each process that runs it.

    Attributes:
        function: Number that tasks refer to it by; the driver gives equal bodies equal numbers.
        name: The app's name, for messages.
        body: Opaque bytes (see ``flowlib.serialize``).
    """

    function: int
    name: str
    body: bytes


class Task(msgspec.Struct, array_like=True, gc=False):
    """One attempt at one task.

    Attributes:
        task: Task number in its run.
        attempt: 0 for the first try.
        function: Number of its function.
        payload: Pickled ``(args, kwargs)``, inline or the index of its attachment.
        needs: What it asks for beyond one slot.
        early: Whether it goes before others of its priority: it uses what other tasks have made.
    """

    task: int
    attempt: int
    function: int
    payload: bytes | int
    needs: Needs | None = None
    early: bool = False


class Result(msgspec.Struct, array_like=True, gc=False):
    """How one attempt ended.

    Attributes:
        task: Task number.
        attempt: Which try.
        status: A ``Status`` value.
        payload: Pickled value, or an encoded ``Failure``; inline or the index of its attachment.
        started: Unix time at which the worker began it, 0 if it never did.
        ended: Unix time at which it ended.
        worker: Rank of the worker on its node, -1 if none.
    """

    task: int
    attempt: int
    status: int
    payload: bytes | int = b""
    started: float = 0.0
    ended: float = 0.0
    worker: int = -1


# -------------------------------------------------------------------------------------- both directions, all hops


class Tasks(msgspec.Struct, array_like=True, tag=1):
    """A batch of tasks, with the bodies that the receiver does not have yet.

    Attributes:
        tasks: The tasks.
        functions: The bodies.
        confirmed: From the interchange: the manager's ``Results`` up to this number have reached the driver.
        places: From the manager to a worker: where the objects that the tasks use are, as ``(id, path, size)``.
    """

    tasks: list[Task]
    functions: list[Function] = []
    confirmed: int = 0
    places: list[tuple[bytes, str, int]] = []


class Results(msgspec.Struct, array_like=True, tag=2):
    """A batch of results.

    Attributes:
        results: The results.
        manager: Its name; the interchange fills it in on the way to the driver.
        number: The manager's count of these messages; kept until it is confirmed.
    """

    results: list[Result]
    manager: str = ""
    number: int = 0


class Confirmed(msgspec.Struct, array_like=True, tag=9):
    """The manager's ``Results`` up to this number have reached the driver."""

    number: int


class Cancel(msgspec.Struct, array_like=True, tag=3):
    """Withdraw these ``(task, attempt)`` where they have not started; each is answered.

    A withdrawn one is answered by a ``Result`` with status WITHDRAWN, one that runs or is unknown by ``NotCancelled``.

    Attributes:
        tasks: The attempts.
        grace: Seconds between SIGTERM and SIGKILL for those that run; they are withdrawn when they are dead. None to
            let them run.
    """

    tasks: list[tuple[int, int]]
    grace: float | None = None


class NotCancelled(msgspec.Struct, array_like=True, tag=4):
    """These could not be withdrawn: they run, or ended."""

    tasks: list[tuple[int, int]]


class Heartbeat(msgspec.Struct, array_like=True, tag=5):
    """I am alive. Any message counts as one."""

    sent: float = 0.0


class Note(msgspec.Struct, array_like=True, tag=6):
    """Something said from inside a running task (progress, emitted values); delivered in order, never dropped.

    Attributes:
        task: Task number.
        attempt: Which try.
        kind: "progress" or "emit".
        body: msgpack for "progress" (``[done, total, message]``), pickle for "emit".
        time: Unix time.
    """

    task: int
    attempt: int
    kind: str
    body: bytes
    time: float


# Stored objects. Managers and driver ask each other for pieces; the interchange passes on and remembers nothing. In a
# message to or from a manager the interchange fills in that manager's name.


class Want(msgspec.Struct, array_like=True, tag=10):
    """Asks for pieces of objects; each is answered by a ``Piece``, or all of an object by ``Found`` or ``Gone``.

    Attributes:
        pieces: ``(object, offset, length)``.
        manager: Who asks, or whom the driver asks.
        host: The machine of the asking side.
        copy: Whether ``Found`` will not do, because what it named could not be opened.
    """

    pieces: list[tuple[bytes, int, int]]
    manager: str = ""
    host: str = ""
    copy: bool = False


class Piece(msgspec.Struct, array_like=True, tag=11):
    """A piece of an object, which is the message's attachment.

    Attributes:
        key: The object.
        offset: Where the piece begins.
        manager: Whom it goes to or comes from.
    """

    key: bytes
    offset: int
    manager: str = ""


class Found(msgspec.Struct, array_like=True, tag=12):
    """An object can be opened on the asker's own machine.

    Attributes:
        key: The object.
        path: Where.
        manager: Whom this goes to or comes from.
    """

    key: bytes
    path: str
    manager: str = ""


class Gone(msgspec.Struct, array_like=True, tag=13):
    """Objects that were asked for cannot be had.

    Attributes:
        keys: The objects.
        reason: Why.
        manager: Whom this goes to or comes from.
    """

    keys: list[bytes]
    reason: str
    manager: str = ""


class Free(msgspec.Struct, array_like=True, tag=14):
    """Nobody will ask these managers for these objects any more."""

    keys: list[bytes]
    managers: list[str]


class Holding(msgspec.Struct, array_like=True, tag=15):
    """A manager has these objects; it says so on each new connection."""

    keys: list[bytes]
    manager: str = ""


class Drain(msgspec.Struct, array_like=True, tag=7):
    """To a manager: take no more tasks, finish what runs, return the rest, leave."""

    reason: str = ""


class Shutdown(msgspec.Struct, array_like=True, tag=8):
    """To an interchange or manager: kill what runs and end now."""

    reason: str = ""


# ------------------------------------------------------------------------------------------ manager <-> interchange


class Register(msgspec.Struct, array_like=True, tag=20):
    """A manager's first message on every connection.

    Attributes:
        protocol: Its ``PROTOCOL``.
        python: Its Python's "major.minor".
        version: Its flowlib's version.
        manager: Unique name.
        block: Block it belongs to.
        host: Machine name.
        pid: Its process.
        slots: Workers.
        prefetch: Most tasks it takes beyond its workers; -1 lets the interchange decide.
        cores: CPUs that its workers share.
        memory: Bytes it may use.
        gpus: Accelerator names.
        started: Unix time.
        packages: Versions of installed distributions by name.
        directory: Working directory.
        log: Its log file.
        running: Attempts it still has, when it registers again.
        share: Bytes of memory for each worker; 0 if that was not said.
        disk: Bytes of disk for tasks that ask for some.
        labels: Amounts of what the user has named.
        shared_gpus: Whether accelerators go to tasks that ask for them, and not to workers.
        nodes: Names of the nodes that it has for MPI tasks.
        needs: What those of ``running`` were given that asked for resources, as ``(task, attempt, needs)``.
        left: Seconds for which tasks may run until its job ends; None for no end.
        life: What that was when it started.
    """

    protocol: int
    python: str
    version: str
    manager: str
    block: str
    host: str
    pid: int
    slots: int
    prefetch: int = -1
    cores: float = 1
    memory: int = 0
    gpus: list[str] = []
    started: float = 0.0
    packages: dict[str, str] = {}
    directory: str = ""
    log: str = ""
    running: list[tuple[int, int]] = []
    share: float = 0.0
    disk: int = 0
    labels: dict[str, float] = {}
    shared_gpus: bool = False
    nodes: list[str] = []
    needs: list[tuple[int, int, Needs]] = []
    left: float | None = None
    life: float = 0.0


class Registered(msgspec.Struct, array_like=True, tag=21):
    """The interchange takes the manager in.

    Attributes:
        heartbeat_period: Seconds between heartbeats, both ways.
        heartbeat_threshold: Seconds of silence after which the other side counts as gone.
    """

    heartbeat_period: float
    heartbeat_threshold: float


class Rejected(msgspec.Struct, array_like=True, tag=22):
    """The interchange refuses the manager, which prints why and ends."""

    reason: str


class Goodbye(msgspec.Struct, array_like=True, tag=23):
    """A manager's last message: it has nothing left and ends."""

    reason: str = ""


class Begun(msgspec.Struct, array_like=True, tag=24):
    """From a manager: workers have been running these for a while. Of the shortest tasks nothing is said.

    Should the manager be lost, they have been lost with it, and those that had not begun have not.
    """

    tasks: list[tuple[int, int]]


# ------------------------------------------------------------------------------------------ driver <-> interchange


class Setup(msgspec.Struct, array_like=True, tag=40):
    """The driver's first message to a fresh interchange.

    Attributes:
        label: Executor label.
        bind: ZeroMQ addresses to bind, without port ("tcp://*", "tcp://127.0.0.1").
        ports: Port to bind, or ``(low, high)`` to choose from; ``(0, 0)`` for any.
        server_public: CURVE public key of the interchange, b"" for no encryption.
        server_secret: Its secret key.
        heartbeat_period: Seconds.
        heartbeat_threshold: Seconds.
        selector: How managers are preferred: "spread", "pack" or "block".
        log: Log file.
        debug: Whether to log every message.
        driver_python: The version of the driver's Python.
        local: Name of the socket for managers on the same machine, "" for none; see ``local``.
        recovering: It takes the place of one that died: what managers say they have was given to them by that one.
        log_config: The run's LogConfig, from ``far_logs.packed``.
    """

    label: str
    bind: list[str]
    ports: tuple[int, int]
    server_public: bytes
    server_secret: bytes
    heartbeat_period: float
    heartbeat_threshold: float
    selector: str
    log: str
    debug: bool
    driver_python: str
    local: str = ""
    recovering: bool = False
    log_config: bytes = b""


class Bound(msgspec.Struct, array_like=True, tag=41):
    """The interchange listens.

    Attributes:
        port: On this TCP port.
        error: "" or why it cannot.
    """

    port: int
    error: str = ""


class Admit(msgspec.Struct, array_like=True, tag=42):
    """Let managers with this CURVE public key register, as members of this block.

    From the interchange: this key has taken the place of the one that could be used once.

    Attributes:
        block: The block.
        public_key: The key, in Z85.
        once: It may only be used to name another one; see ``tokens``.
    """

    block: str
    public_key: bytes
    once: bool = False


class Exchange(msgspec.Struct, array_like=True, tag=25):
    """A manager whose key may be used once names a new one, in Z85; answered by ``Exchanged`` or ``Rejected``."""

    public_key: bytes


class Exchanged(msgspec.Struct, array_like=True, tag=26):
    """The new key is good, the old one is not any more."""


class ManagerChanged(msgspec.Struct, array_like=True, tag=43):
    """Tells the driver what became of a manager.

    Attributes:
        manager: Its name.
        change: "registered", "draining", "drained", "lost", "rejected".
        block: Its block.
        host: Its machine.
        slots: Its workers.
        reason: For the changes that have one.
        details: The whole registration, for "registered".
    """

    manager: str
    change: str
    block: str
    host: str
    slots: int
    reason: str = ""
    details: Register | None = None


class Command(msgspec.Struct, array_like=True, tag=44):
    """A question or order from the driver, answered by one ``Reply`` with the same number.

    Names: "managers" (list of dicts), "hold_block" ``[block]``, "hold_manager" ``[manager]``,
    "drain_blocks" ``[blocks]``, "block_ended" ``[block, why]``, "idle" (seconds idle by block), "load" (``{"running":
    tasks at managers, "blocks": {block: [slots taken there, seconds idle]}, "asked": [[amounts, waiting tasks that ask
    for them]], "extra": slots that tasks at managers take beyond one each}``).
    """

    number: int
    name: str
    arguments: list[Any] = []


class Reply(msgspec.Struct, array_like=True, tag=45):
    """Answer to a ``Command``."""

    number: int
    value: Any


class Forget(msgspec.Struct, array_like=True, tag=46):
    """These functions are not used any more; their bodies may be dropped."""

    functions: list[int]


class Running(msgspec.Struct, array_like=True, tag=55):
    """From the interchange: a manager's workers have been running these for a second or more.

    Attributes:
        manager: Its name.
        since: Unix time of their begin, to about ten milliseconds.
        tasks: The attempts.
    """

    manager: str
    since: float
    tasks: list[tuple[int, int]]


# ---------------------------------------------------------------------------------------------- manager <-> worker


class WorkerSetup(msgspec.Struct, array_like=True, tag=60):
    """What a fresh worker needs to know.

    Attributes:
        rank: Its number on the node.
        slots: How many workers there are.
        block: The block's name.
        manager: The manager's name.
        sys_path: Directories to append to ``sys.path``.
        environment: Variables to set for good.
        cores: CPUs to bind to; [] for all.
        log: File for its stdout and stderr.
        debug: Whether to log more.
        label: Label of the executor.
        gpus: Accelerators of its own.
        most_tasks: Tasks after which it ends; None for no limit.
        most_memory: Bytes of memory that it may keep after a task; None for no limit.
        launcher: What starts MPI programs; "" if its tasks start none.
        flavours: What ``mpiexec`` and ``mpirun`` are; see ``mpi_prefixes``.
        large: Bytes from which on a result is stored as an object; 0 for never.
        ends: Unix time at which its tasks are ended, because the job ends; 0 for never.
        log_config: The run's LogConfig, from ``far_logs.packed``.
    """

    rank: int
    slots: int
    block: str
    manager: str
    sys_path: list[str]
    environment: dict[str, str]
    cores: list[int]
    log: str
    debug: bool
    label: str = ""
    gpus: list[str] = []
    most_tasks: int | None = None
    most_memory: int | None = None
    launcher: str = ""
    flavours: dict[str, str] = {}
    large: int = 0
    ends: float = 0.0
    log_config: bytes = b""


class Reserve(msgspec.Struct, array_like=True, tag=63):
    """A worker asks for memory for a result; answered by ``Reserved``."""

    size: int


class Reserved(msgspec.Struct, array_like=True, tag=64):
    """Memory for a result.

    Attributes:
        key: Id of the new object; b"" if there is no room.
        path: Where it can be opened.
    """

    key: bytes = b""
    path: str = ""


class Ready(msgspec.Struct, array_like=True, tag=61):
    """A worker can run tasks."""

    pid: int


class Retiring(msgspec.Struct, array_like=True, tag=62):
    """A worker ends after its last result, because it cannot be cleaned or has done enough: replace it."""

    reason: str


Message = (
    Tasks
    | Results
    | Confirmed
    | Cancel
    | NotCancelled
    | Heartbeat
    | Note
    | Drain
    | Shutdown
    | Register
    | Registered
    | Rejected
    | Goodbye
    | Begun
    | Setup
    | Bound
    | Admit
    | Exchange
    | Exchanged
    | ManagerChanged
    | Command
    | Reply
    | Forget
    | Running
    | WorkerSetup
    | Ready
    | Retiring
    | Want
    | Piece
    | Found
    | Gone
    | Free
    | Holding
    | Reserve
    | Reserved
)

_encoder = msgspec.msgpack.Encoder()
_stored: msgspec.msgpack.Decoder[StoredResult] = msgspec.msgpack.Decoder(StoredResult)
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The header frame of ``message``; its attachments are the caller's."""
    return _encoder.encode(message)


def decode(header: bytes | bytearray | memoryview) -> Message:
    """The message of a header frame.

    Raises:
        msgspec.DecodeError: The bytes are no message of this protocol.
    """
    return _decoder.decode(header)


def encode_stored(stored: StoredResult) -> bytes:
    """The payload of a result with status STORED."""
    return _encoder.encode(stored)


def decode_stored(payload: bytes | memoryview) -> StoredResult:
    """What such a payload says."""
    return _stored.decode(payload)
