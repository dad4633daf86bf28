"""The interchange as a process, between a driver's link and managers on real sockets."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.keys import KeyPair, make_key_pair
from flowlib.executors.high_throughput.launch import child_environment
from flowlib.executors.high_throughput.link import Link, LinkClosed
from flowlib.serialize.envelope import decode_failure

from .fake_manager import FakeManager

DEADLINE = 10.0
_MODULE = "flowlib.executors.high_throughput.interchange"
_MAIN = f"\nimport sys\nfrom {_MODULE} import main\nmain(sys.argv[1:])"


class Driver:
    """The driver's end: an interchange process and its link."""

    def __init__(self, log: Path, encrypted: bool = False, before: str = "", **setup: Any) -> None:
        self.server = make_key_pair(encrypted)
        self.log = log
        ours, theirs = socket.socketpair()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *(["-c", before + _MAIN] if before else ["-m", _MODULE]), str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=child_environment(),
            )
        theirs.close()
        self.link = Link(ours)
        self.early: list[tuple[Any, list[bytes]]] = []
        given = {
            "label": "test", "bind": ["tcp://127.0.0.1"], "ports": (0, 0), "server_public": self.server.public,
            "server_secret": self.server.secret, "heartbeat_period": 0.5, "heartbeat_threshold": 60.0,
            "selector": "spread", "log": "", "debug": False, "driver_python": m.PYTHON,
        }  # fmt: skip
        self.send(m.Setup(**{**given, **setup}))
        self.managers: list[FakeManager] = []

    def send(self, message: m.Message, *attachments: bytes) -> None:
        deadline = time.monotonic() + DEADLINE
        done = self.link.send([m.encode(message), *attachments])
        while not done:
            assert select.select([], [self.link], [], max(0.0, deadline - time.monotonic()))[1], "cannot send"
            done = self.link.flush()

    def expect(self, kind: type, timeout: float = DEADLINE) -> Any:
        """The next message of a kind; what comes before stays for later."""
        deadline = time.monotonic() + timeout
        while True:
            for i, (message, _) in enumerate(self.early):
                if isinstance(message, kind):
                    return self.early.pop(i)[0]
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self.link], [], [], left)[0], f"no {kind.__name__} within {timeout} s"
            for header, *attachments in self.link.receive():
                message = m.decode(header)
                if isinstance(message, m.Results):
                    for result in message.results:
                        if isinstance(result.payload, int):
                            result.payload = attachments[result.payload]
                self.early.append((message, attachments))

    def results(self, number: int) -> list[m.Result]:
        """So many results."""
        found: list[m.Result] = []
        while len(found) < number:
            found += self.expect(m.Results).results
        assert len(found) == number
        return found

    def change(self, change: str) -> m.ManagerChanged:
        """The next change of a manager, which must be this one."""
        told: m.ManagerChanged = self.expect(m.ManagerChanged)
        assert told.change == change, told
        return told

    def ask(self, name: str, *arguments: Any) -> Any:
        self.send(m.Command(1, name, list(arguments)))
        return self.expect(m.Reply).value

    def port(self) -> int:
        bound: m.Bound = self.expect(m.Bound)
        assert bound.error == ""
        self._port = bound.port
        return bound.port

    def manager(self, register: bool = True, keys: KeyPair | None = None, **facts: Any) -> FakeManager:
        """Connect a manager; it registers and is welcomed."""
        port = getattr(self, "_port", None) or self.port()
        pair = keys or KeyPair()
        new = FakeManager(
            f"tcp://127.0.0.1:{port}", self.server.public.decode(), pair.public.decode(), pair.secret.decode(), **facts
        )
        self.managers.append(new)
        if register:
            new.register()
            new.expect(m.Registered)
            self.change("registered")
        return new

    def tasks(self, *numbers: int, payload: bytes = b"args", body: bool = True, **fields: Any) -> None:
        functions = [m.Function(1, "f", b"body")] if body else []
        self.send(m.Tasks([m.Task(n, 0, 1, payload, **fields) for n in numbers], functions))

    def close(self) -> None:
        self.link.close()
        for manager in self.managers:
            if not manager.context.closed:
                manager.socket.linger = 0
                manager.close()
        try:
            self.process.wait(3)
        finally:
            self.process.kill()
            self.process.wait(5)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts interchanges."""
    drivers: list[Driver] = []

    def begin(**options: Any) -> Driver:
        drivers.append(Driver(tmp_path / f"interchange-{len(drivers)}.log", **options))
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.close()


def run(manager: FakeManager, count: int = 1) -> tuple[list[m.Task], list[m.Function]]:
    """Take so many tasks and answer each with its payload."""
    tasks: list[m.Task] = []
    functions: list[m.Function] = []
    while len(tasks) < count:
        got: m.Tasks = manager.expect(m.Tasks)
        tasks += got.tasks
        functions += got.functions
        manager.send(m.Results([m.Result(t.task, t.attempt, m.Status.OK, t.payload, 1.0, 1.001) for t in got.tasks]))
    return tasks, functions


def test_tasks_and_results(start: Any) -> None:
    """Tasks reach a manager with the function's body once, results come back with the manager's name."""
    driver = start()
    driver.tasks(1, 2)
    manager = driver.manager(slots=2)
    tasks, functions = run(manager, 2)
    assert [t.task for t in tasks] == [1, 2] and [f.body for f in functions] == [b"body"]
    answer = driver.expect(m.Results)
    assert answer.manager == manager.facts.manager
    assert [(r.task, r.status, r.payload) for r in answer.results] == [(1, 0, b"args"), (2, 0, b"args")]
    driver.tasks(3, body=False)
    assert run(manager)[1] == []
    assert driver.results(1)[0].task == 3
    other = driver.manager(slots=1)
    manager.send(m.Drain("I leave"))
    driver.change("draining")
    driver.tasks(4, body=False)
    assert [f.body for f in run(other)[1]] == [b"body"], "another manager needs the body as well"


def test_failed_tasks_avoid_their_node_but_not_for_ever(start: Any) -> None:
    """A task waits for another node than the one that failed it; when that has no room for long, it runs there."""
    driver = start(before="from flowlib.executors.high_throughput import avoidance as a\na.PATIENCE = 0.4")
    bad, good = driver.manager(host="x"), driver.manager(host="y")
    avoid = [(bad.facts.manager, "x")]
    driver.tasks(1, needs=m.Needs(avoid=avoid, firm=True))
    assert [t.task for t in good.expect(m.Tasks).tasks] == [1]
    driver.tasks(2, needs=m.Needs(avoid=avoid, firm=True))
    driver.tasks(3, body=False)
    assert [t.task for t in bad.expect(m.Tasks).tasks] == [3], "the one that waits holds up nobody"
    bad.send(m.Results([m.Result(3, 0, m.Status.OK, b"")]))
    began = time.monotonic()
    assert [t.task for t in bad.expect(m.Tasks).tasks] == [2]
    assert time.monotonic() - began > 0.2


def test_large_payloads_pass(start: Any) -> None:
    """Payloads above the limit travel beside the header in both directions, in the right places."""
    driver = start()
    manager = driver.manager(slots=3)
    big, bigger = os.urandom(100_000), os.urandom(3_000_000)
    driver.send(
        m.Tasks([m.Task(1, 0, 1, 1), m.Task(2, 0, 1, b"small"), m.Task(3, 0, 1, 0)], [m.Function(1, "f", b"")]),
        big,
        bigger,
    )
    got, attachments = manager.receive() or (None, [])
    assert isinstance(got, m.Tasks)
    payloads = {t.task: attachments[t.payload] if isinstance(t.payload, int) else t.payload for t in got.tasks}
    assert payloads == {1: bigger, 2: b"small", 3: big}
    manager.send(m.Results([m.Result(2, 0, 0, 0), m.Result(1, 0, 0, b"x"), m.Result(3, 0, 0, 1)]), bigger, big)
    assert {r.task: r.payload for r in driver.results(3)} == {2: bigger, 1: b"x", 3: big}


def test_only_admitted_keys_are_let_in(start: Any) -> None:
    """With encryption, a manager whose key the driver did not issue gets no answer; an admitted one does."""
    driver = start(encrypted=True)
    stranger = driver.manager(register=False, keys=make_key_pair())
    stranger.register()
    pair = make_key_pair()
    driver.send(m.Admit("7", pair.public))
    driver.manager(keys=pair, block="7")
    assert stranger.receive(0.5) is None
    assert [f["block_id"] for f in driver.ask("managers")] == ["7"]


def test_plain_text_is_not_let_in(start: Any) -> None:
    """With encryption, a client without it gets no answer, and does no harm."""
    driver = start(encrypted=True)
    plain = FakeManager(f"tcp://127.0.0.1:{driver.port()}")
    driver.managers.append(plain)
    plain.register()
    with socket.create_connection(("127.0.0.1", driver._port)) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n" + os.urandom(1000))
        assert plain.receive(0.5) is None
    assert driver.ask("managers") == []


def test_key_of_another_block(start: Any) -> None:
    """A manager cannot claim to be of another block than its key was issued for."""
    driver = start(encrypted=True)
    pair = make_key_pair()
    driver.send(m.Admit("7", pair.public))
    manager = driver.manager(register=False, keys=pair, block="8")
    manager.register()
    assert "block" in manager.expect(m.Rejected).reason


@pytest.mark.parametrize(
    "junk",
    [b"", b"\x00", b"\xc1" * 50, b"\x93\x01\x02\x03", m.encode(m.Ready(1)), os.urandom(64)],
    ids=["nothing", "zero", "never used", "incomplete", "another's", "random"],
)
def test_malformed_messages_are_dropped(start: Any, junk: bytes) -> None:
    """Whatever a manager sends, before or after its registration, the interchange goes on, for it and for others."""
    driver = start()
    manager = driver.manager(register=False)
    manager.socket.send(junk)
    manager.register()
    manager.expect(m.Registered)
    manager.socket.send_multipart([junk, b"more", junk])
    manager.send(m.Results([m.Result(1, 0, 0, 5)]))
    driver.tasks(1)
    run(manager)
    assert driver.results(1)[0].task == 1


@pytest.mark.parametrize("facts", [{"python": "2.7"}, {"protocol": 99}])
def test_other_versions_are_refused(start: Any, facts: dict[str, Any]) -> None:
    """A manager with another Python or protocol is told why it is refused, and so is the driver."""
    driver = start()
    manager = driver.manager(register=False, **facts)
    manager.register()
    assert "Python" in manager.expect(m.Rejected).reason
    told = driver.change("rejected")
    assert told.details is not None and str(next(iter(facts.values()))) in told.reason


def test_unreadable_registration_is_refused(start: Any) -> None:
    """A registration of a protocol that has other fields is answered, too."""
    import msgspec

    driver = start()
    manager = driver.manager(register=False)
    manager.socket.send(msgspec.msgpack.encode([20, 12, {"new": "fields"}]))
    assert "protocol" in manager.expect(m.Rejected).reason


def test_silent_manager_is_lost(start: Any) -> None:
    """A manager that says nothing is given up, with its tasks; when it comes back its results are dropped."""
    driver = start(heartbeat_threshold=1.0, heartbeat_period=0.2)
    manager = driver.manager(slots=2)
    driver.tasks(1, 2, 3)
    manager.expect(m.Tasks)
    began = time.monotonic()
    results = driver.results(2)
    assert 0.5 < time.monotonic() - began < 5
    assert [r.status for r in results] == [m.Status.LOST] * 2
    failure = decode_failure(results[0].payload)  # type: ignore[arg-type]
    assert failure.type_name == "flowlib.errors.ManagerLost" and failure.arguments is not None
    assert failure.arguments[0] == manager.facts.manager
    driver.change("lost")
    manager.send(m.Results([m.Result(1, 0, m.Status.OK, b"late")]))
    driver.change("registered")
    assert sorted(manager.expect(m.Cancel).tasks) == [(1, 0), (2, 0)]
    assert [t.task for t in manager.expect(m.Tasks).tasks] == [3], "the other late task still has a worker"
    manager.send(m.Results([m.Result(3, 0, m.Status.OK), m.Result(2, 0, m.Status.OK)]))
    assert [r.task for r in driver.results(1)] == [3]


def test_heartbeats_keep_a_manager(start: Any) -> None:
    """Signs of life go both ways, and keep an idle manager for longer than the threshold."""
    driver = start(heartbeat_threshold=1.0, heartbeat_period=0.2)
    manager = driver.manager()
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        manager.expect(m.Heartbeat)
        manager.send(m.Heartbeat())
    driver.send(m.Heartbeat(12.5))
    assert driver.expect(m.Heartbeat).sent == 12.5
    assert len(driver.ask("managers")) == 1


def test_reconnected_manager_goes_on(start: Any) -> None:
    """A manager on a new connection keeps what it has, what it does not have had not begun, and new work comes."""
    driver = start()
    manager = driver.manager(slots=2)
    driver.tasks(1, 2, 3)
    manager.expect(m.Tasks)
    again = driver.manager(register=False, slots=2, manager=manager.facts.manager)
    manager.close()
    again.register(running=[(1, 0)])
    again.expect(m.Registered)
    driver.change("registered")
    (lost,) = driver.results(1)
    assert (lost.task, lost.status) == (2, m.Status.WITHDRAWN)
    again.send(m.Results([m.Result(1, 0, m.Status.OK)]))
    got = again.expect(m.Tasks)
    assert [t.task for t in got.tasks] == [3] and len(got.functions) == 1
    assert driver.results(1)[0].task == 1


def test_goodbye_with_tasks(start: Any) -> None:
    """A manager that leaves with tasks that never reached it loses nothing: another gets them; one without just leaves."""
    driver = start()
    manager, other = driver.manager(slots=1), driver.manager(slots=1)
    driver.tasks(1)
    poller = zmq.Poller()
    poller.register(manager.socket, zmq.POLLIN)
    poller.register(other.socket, zmq.POLLIN)
    both = {manager.socket: manager, other.socket: other}
    owner = None
    deadline = time.monotonic() + DEADLINE
    while owner is None:
        assert time.monotonic() < deadline
        for ready, _ in poller.poll(1000):
            got = both[ready].receive(0)
            if got is not None and isinstance(got[0], m.Tasks):
                owner = both[ready]
    idle = other if owner is manager else manager
    idle.send(m.Goodbye("done"))
    assert driver.change("drained").manager == idle.facts.manager
    owner.send(m.Goodbye("walltime is over"))
    assert driver.change("lost").reason == "walltime is over"
    assert [(t.task, t.attempt) for t in driver.manager(slots=1).expect(m.Tasks).tasks] == [(1, 0)]


def test_cancel(start: Any) -> None:
    """Waiting tasks are withdrawn at once, others as their manager says, unknown ones cannot be."""
    driver = start()
    manager = driver.manager(slots=2)
    driver.tasks(1, 2, 3)
    manager.expect(m.Tasks)
    driver.send(m.Cancel([(3, 0), (99, 0)]))
    assert [(r.task, r.status) for r in driver.results(1)] == [(3, m.Status.WITHDRAWN)]
    assert driver.expect(m.NotCancelled).tasks == [(99, 0)]
    driver.send(m.Cancel([(1, 0), (2, 0)]))
    assert manager.expect(m.Cancel).tasks == [(1, 0), (2, 0)]
    manager.send(m.NotCancelled([(1, 0)]))
    manager.send(m.Results([m.Result(2, 0, m.Status.WITHDRAWN)]))
    assert driver.expect(m.NotCancelled).tasks == [(1, 0)]
    assert [(r.task, r.status) for r in driver.results(1)] == [(2, m.Status.WITHDRAWN)]


def test_drain(start: Any) -> None:
    """A drained block's managers are told, get nothing more, and what they give back goes elsewhere."""
    driver = start()
    leaving = driver.manager(slots=2, block="0")
    driver.tasks(1, 2)
    leaving.expect(m.Tasks)
    assert driver.ask("drain_blocks", ["0"]) == [leaving.facts.manager]
    driver.change("draining")
    leaving.expect(m.Drain)
    leaving.send(m.Results([m.Result(2, 0, m.Status.WITHDRAWN)]))
    leaving.send(m.Results([m.Result(1, 0, m.Status.OK)]))
    leaving.send(m.Goodbye())
    assert [r.task for r in driver.results(1)] == [1]
    driver.change("drained")
    staying = driver.manager(block="1")
    assert [t.task for t in staying.expect(m.Tasks).tasks] == [2]
    late = driver.manager(block="0")
    assert late.expect(m.Drain)


def test_commands(start: Any) -> None:
    """Questions are answered; held managers get nothing; a block known to have ended is given up at once."""
    driver = start()
    manager = driver.manager(block="3", slots=2)
    (facts,) = driver.ask("managers")
    assert (facts["block_id"], facts["worker_count"], facts["tasks"], facts["active"]) == ("3", 2, 0, True)
    assert list(driver.ask("idle")) == ["3"]
    driver.tasks(1)
    manager.expect(m.Tasks)
    assert driver.ask("load") == {"running": 1, "blocks": {"3": [1, 0.0]}, "asked": [], "extra": 0}
    assert driver.ask("hold_block", "3") == [manager.facts.manager]
    assert driver.ask("hold_manager", "nobody") is False
    driver.tasks(2)
    assert driver.ask("managers")[0]["active"] is False
    assert driver.ask("nonsense") is None
    assert driver.ask("block_ended", "3", "the job was killed") == [manager.facts.manager]
    (lost,) = driver.results(1)
    assert lost.task == 1 and b"the job was killed" in lost.payload  # type: ignore[operator]
    driver.change("lost")


def test_notes_pass_in_order(start: Any) -> None:
    """What running tasks say reaches the driver unchanged and before their results."""
    driver = start()
    manager = driver.manager()
    driver.tasks(1)
    manager.expect(m.Tasks)
    for n in range(3):
        manager.send(m.Note(1, 0, "emit", b"%d" % n, 1.0))
    manager.send(m.Results([m.Result(1, 0, m.Status.OK)]))
    driver.results(1)
    assert [driver.early[i][0].body for i in range(3)] == [b"0", b"1", b"2"]


def test_driver_dies(start: Any) -> None:
    """When the driver is gone, managers are told to end, and the interchange ends within two seconds."""
    driver = start()
    manager = driver.manager()
    driver.link.close()
    assert manager.expect(m.Shutdown, 2.0)
    driver.process.wait(2.0)
    assert driver.process.returncode == 0


def test_shutdown(start: Any) -> None:
    """Told to end, the interchange tells its managers, closes the link and is gone."""
    driver = start()
    manager = driver.manager()
    driver.tasks(1)
    driver.send(m.Shutdown("over"))
    assert manager.expect(m.Shutdown, 2.0)
    driver.process.wait(2.0)
    assert driver.process.returncode == 0
    with pytest.raises(LinkClosed):
        driver.expect(m.Results, 2.0)


def test_port_range(start: Any) -> None:
    """A port in the range is bound; with none free the driver is told which address and ports were tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bound = start(ports=(port, port)).expect(m.Bound)
        assert str(port) in bound.error and "127.0.0.1" in bound.error and "worker_port" in bound.error
        assert start(ports=(port, min(port + 20, 65535))).port() != port
    assert "address" in start(bind=["tcp://203.0.113.1"]).expect(m.Bound).error


def test_stopped_interchange_blames_no_manager(start: Any) -> None:
    """After the interchange itself stood still for longer than the threshold, its managers are not given up for that."""
    driver = start(heartbeat_threshold=1.0, heartbeat_period=0.2)
    manager = driver.manager()
    driver.process.send_signal(signal.SIGSTOP)
    select.select([], [], [], 1.5)
    manager.send(m.Heartbeat())
    driver.process.send_signal(signal.SIGCONT)
    assert len(driver.ask("managers")) == 1
    assert not [message for message, _ in driver.early if isinstance(message, m.ManagerChanged)]


def test_bad_hosts_are_quarantined(start: Any) -> None:
    """A host whose workers die with tasks that others finish gets none any more, unless no other is left."""
    driver = start()
    bad = driver.manager(manager="bad", host="bad", slots=1, prefetch=0)
    good = driver.manager(manager="good", host="good", slots=1, prefetch=0)
    driver.tasks(*range(40))
    for manager, status, times in ((good, m.Status.OK, 6), (bad, m.Status.WORKER_LOST, 5)):
        for _ in range(times):
            tasks = manager.expect(m.Tasks).tasks
            manager.send(m.Results([m.Result(t.task, t.attempt, status, b"") for t in tasks]))
        driver.results(times)
    change = driver.change("quarantined")
    assert (change.manager, change.host) == ("bad", "bad") and "lost their worker there" in change.reason
    assert driver.ask("where")["quarantined"] == {"bad": change.reason}
    again = driver.manager(register=False, manager="bad-2", host="bad", slots=1, prefetch=0)
    again.register()
    driver.change("registered")
    assert driver.change("quarantined").manager == "bad-2"
    good.send(m.Goodbye("it leaves"))
    assert {driver.change("lost").manager} == {"good"}
    assert {driver.change("released").manager for _ in range(2)} == {"bad", "bad-2"}


def test_where_attempts_are(start: Any) -> None:
    """Asked for attempts, it says where each is; of what has run for a second it tells by itself, with its begin."""
    driver = start()
    manager = driver.manager(manager="only", host="node1", slots=1, prefetch=0)
    driver.tasks(0, 1)
    began = time.time()
    key = manager.expect(m.Tasks).tasks[0]
    manager.send(m.Begun([(key.task, key.attempt)]))
    told = driver.expect(m.Running)
    assert (told.manager, told.tasks) == ("only", [(key.task, key.attempt)])
    assert began <= told.since <= time.time() - 0.9
    first, second, third = driver.ask("where", (0, 0), (1, 0), (9, 0))["attempts"]
    assert (first["manager"], first["host"], first["begun"]) == ("only", "node1", True)
    assert (second, third) == ({"position": 1}, None)


def test_short_tasks_are_not_told(start: Any) -> None:
    """Of a task that has ended within the second, no begin is told."""
    driver = start()
    manager = driver.manager(slots=1, prefetch=0)
    driver.tasks(0)
    manager.expect(m.Tasks)
    manager.send(m.Begun([(0, 0)]))
    manager.send(m.Results([m.Result(0, 0, m.Status.OK, b"")]))
    driver.results(1)
    select.select([], [], [], 2.2)
    driver.ask("managers")
    assert not [message for message, _ in driver.early if isinstance(message, m.Running)]
