"""A manager in a few lines, for tests of the other side: runs tasks one after the other in its own process.

Usage: ``python -m tests.htex.fake_manager BLOCKFILE``.  Ends at Shutdown, Drain or the driver's end-of-file.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import uuid
from collections import deque
from typing import Any

import zmq

from flowlib.executors.high_throughput import messages as m
from flowlib.serialize.execute import execute
from flowlib.serialize.functions import decode_function


class FakeManager:
    """The wire side of a manager: registers, and takes and answers messages.

    Args:
        address: The interchange's.
        server, public, secret: CURVE keys, "" for none.
        facts: Fields of the registration that differ.
    """

    def __init__(self, address: str, server: str = "", public: str = "", secret: str = "", **facts: Any) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 500
        if server:
            self.socket.curve_serverkey = server.encode()
            self.socket.curve_publickey, self.socket.curve_secretkey = public.encode(), secret.encode()
        self.socket.connect(address)
        given = {
            "protocol": m.PROTOCOL, "python": m.PYTHON, "version": "0", "manager": uuid.uuid4().hex[:12], "block": "0",
            "host": socket.gethostname(), "pid": os.getpid(), "slots": 1,
        }  # fmt: skip
        self.facts = m.Register(**{**given, **facts})

    def register(self, running: list[tuple[int, int]] | None = None) -> None:
        """Say hello."""
        self.facts.running = running or []
        self.send(self.facts)

    def send(self, message: m.Message, *attachments: bytes) -> None:
        """Send a message."""
        self.socket.send_multipart([m.encode(message), *attachments])

    def receive(self, timeout: float = 10.0) -> tuple[Any, list[bytes]] | None:
        """The next message and its attachments; None if there is none in time."""
        if not self.socket.poll(int(timeout * 1000)):
            return None
        header, *attachments = self.socket.recv_multipart()
        return m.decode(header), attachments

    def expect(self, kind: type, timeout: float = 10.0) -> Any:
        """The next message of a kind; heartbeats and others before it are dropped."""
        deadline = time.monotonic() + timeout
        while True:
            got = self.receive(max(0.0, deadline - time.monotonic()))
            assert got is not None, f"no {kind.__name__} in {timeout} s"
            if isinstance(got[0], kind):
                return got[0]

    def close(self) -> None:
        """Leave without a word."""
        self.socket.close()
        self.context.term()


def cancel(manager: FakeManager, queue: deque[Any], keys: set[tuple[int, int]]) -> deque[Any]:
    """Answer a request to cancel; what is left of the queue."""
    gone = {(t.task, t.attempt) for t, _ in queue} & keys
    manager.send(m.Results([m.Result(*key, m.Status.WITHDRAWN) for key in gone]))
    if keys - gone:
        manager.send(m.NotCancelled(sorted(keys - gone)))
    return deque(e for e in queue if (e[0].task, e[0].attempt) not in gone)


def main(path: str) -> None:
    """Serve a block file until told to end."""
    with open(path) as file:
        block = json.load(file)
    lifeline = int(os.environ.get("FLOWLIB_LIFELINE", "-1"))
    manager = FakeManager(
        block["addresses"][0], block["server_public"], block["client_public"], block["client_secret"],
        block=block["block"], prefetch=block["prefetch"], python=os.environ.get("FAKE_PYTHON", m.PYTHON),
    )  # fmt: skip
    manager.register()
    poller = zmq.Poller()
    poller.register(manager.socket, zmq.POLLIN)
    if lifeline >= 0:
        poller.register(lifeline, zmq.POLLIN)
    functions: dict[int, Any] = {}
    queue: deque[tuple[m.Task, bytes]] = deque()
    beat_at = 0.0
    while True:
        ready = dict(poller.poll(0 if queue else 1000 * block["heartbeat_period"]))
        if lifeline in ready:
            return
        if time.monotonic() > beat_at:
            beat_at = time.monotonic() + block["heartbeat_period"]
            manager.send(m.Heartbeat())
        while (got := manager.receive(0)) is not None:
            message, attachments = got
            if isinstance(message, m.Tasks):
                for function in message.functions:
                    functions[function.function] = decode_function(function.body)
                for task in message.tasks:
                    payload = task.payload if isinstance(task.payload, bytes) else attachments[task.payload]
                    queue.append((task, payload))
            elif isinstance(message, m.Cancel):
                queue = cancel(manager, queue, set(message.tasks))
            elif isinstance(message, (m.Shutdown, m.Drain)):
                manager.send(m.Results([m.Result(t.task, t.attempt, m.Status.WITHDRAWN) for t, _ in queue]))
                manager.send(m.Goodbye("told to"))
                manager.close()
                return
            elif isinstance(message, m.Rejected):
                sys.exit(f"rejected: {message.reason}")
        results: list[m.Result] = []
        large: list[bytes] = []
        while queue and len(results) < 50:
            task, payload = queue.popleft()
            began = time.time()
            status, value = execute(functions[task.function], payload)
            out: Any = value
            if len(value) > m.INLINE_LIMIT:
                out = len(large)
                large.append(value)
            results.append(m.Result(task.task, task.attempt, status, out, began, time.time(), 0))
        if results:
            manager.send(m.Results(results), *large)


if __name__ == "__main__":
    main(sys.argv[1])
