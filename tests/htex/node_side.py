"""A small interchange, to test managers without a driver: it admits one manager, sends tasks, collects answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from flowlib.executors.high_throughput import messages as m
from flowlib.serialize.arguments import dump_call
from flowlib.serialize.envelope import Failure, decode_failure
from flowlib.serialize.functions import encode_function
from flowlib.serialize.values import load_value

PATIENCE = 30.0


class FakeInterchange:
    """One ROUTER and the manager process that is connected to it.

    Args:
        tmp_path: For the block file and logs.
        encrypted: Whether to use CURVE.
    """

    def __init__(self, tmp_path: Path, *, encrypted: bool = False) -> None:
        self.tmp_path = tmp_path
        self.context: zmq.Context[Any] = zmq.Context()
        self.zap = self.context.socket(zmq.REP)
        self.zap.bind("inproc://zeromq.zap.01")
        self.router = self.context.socket(zmq.ROUTER)
        self.router.linger = 0
        self.router.router_handover = True
        self.router.router_mandatory = True
        self.keys: dict[str, str] = {}
        self.admitted = b""
        if encrypted:
            public, secret = zmq.curve_keypair()
            client_public, client_secret = zmq.curve_keypair()
            self.router.curve_secretkey = secret
            self.router.curve_server = True
            self.router.zap_domain = b"test"
            self.admitted = z85.decode(client_public)
            self.keys = {
                "server_public": public.decode(),
                "client_public": client_public.decode(),
                "client_secret": client_secret.decode(),
            }
        self.router.bind("tcp://127.0.0.1:*")
        self.address = self.router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.poller = zmq.Poller()
        self.poller.register(self.router, zmq.POLLIN)
        self.poller.register(self.zap, zmq.POLLIN)
        self.identity = b""
        self.register: m.Register | None = None
        self.results: dict[tuple[int, int], m.Result] = {}
        self.duplicates: list[tuple[int, int]] = []
        self.messages: list[Any] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._functions: dict[Callable[..., Any], int] = {}
        self._next_task = 0

    # ------------------------------------------------------------------------------------------------- the manager

    def start(
        self, *, environment: dict[str, str] | None = None, pass_fds: tuple[int, ...] = (), **settings: Any
    ) -> subprocess.Popen[bytes]:
        """Start a manager."""
        settings.setdefault("addresses", [self.address])
        settings.setdefault("max_workers_per_node", 1)
        settings.setdefault("cores_per_worker", 1e-9)
        # As the driver does: what can be imported here can be imported there.
        settings["sys_path"] = [*settings.get("sys_path", ()), *filter(None, sys.path)]
        document = {"logdir": str(self.tmp_path / "block"), "label": "test", "block": "7", **self.keys, **settings}
        path = self.tmp_path / f"block-{len(self.processes)}.json"
        path.write_text(json.dumps(document))
        process = subprocess.Popen(
            [sys.executable, "-m", "flowlib.executors.high_throughput.manager", str(path)],
            env={**os.environ, **(environment or {})},
            pass_fds=pass_fds,
            stderr=subprocess.PIPE,
            cwd=self.tmp_path,
        )
        self.processes.append(process)
        return process

    def log(self) -> str:
        """All logs of managers and workers."""
        return "\n".join(f"{p}:\n{p.read_text(errors='replace')}" for p in sorted(self.tmp_path.rglob("*.log")))

    def close(self) -> None:
        """End what was started."""
        if self.identity:
            self.send(m.Shutdown("the test is over"))
        deadline = time.monotonic() + 5
        for process in self.processes:
            try:
                if not self.identity:
                    process.send_signal(signal.SIGTERM)
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
            if process.stderr is not None:
                process.stderr.close()
        self.router.close()
        self.zap.close()
        self.context.term()

    # ---------------------------------------------------------------------------------------------------- messages

    def send(self, message: m.Message, *attachments: bytes) -> None:
        """Send to the manager; one that is gone hears nothing."""
        try:
            self.router.send_multipart([self.identity, m.encode(message), *attachments])
        except zmq.ZMQError as e:
            if e.errno != zmq.EHOSTUNREACH:
                raise

    def hear(self, timeout: float) -> bool:
        """Handle what arrives within ``timeout`` seconds; whether something did."""
        ready = dict(self.poller.poll(max(0, timeout) * 1000))
        if self.zap in ready:
            frames = self.zap.recv_multipart()
            good = frames[6] == self.admitted
            self.zap.send_multipart([b"1.0", frames[1], b"200" if good else b"400", b"", b"user", b""])
        if self.router in ready:
            identity, header, *attachments = self.router.recv_multipart()
            message = m.decode(header)
            self.messages.append(message)
            if isinstance(message, m.Register):
                self.identity, self.register = identity, message
                self.send(m.Registered(heartbeat_period=1, heartbeat_threshold=30))
            elif isinstance(message, m.Results):
                for result in message.results:
                    if isinstance(result.payload, int):
                        result.payload = attachments[result.payload]
                    key = (result.task, result.attempt)
                    if key in self.results:
                        self.duplicates.append(key)
                    self.results[key] = result
        return bool(ready)

    def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Handle messages until something is true."""
        deadline = time.monotonic() + patience
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"not within {patience} s; logs:\n{self.log()}"
            self.hear(min(left, 0.05))

    def heard(self, kind: type) -> list[Any]:
        """The messages of a kind."""
        return [message for message in self.messages if isinstance(message, kind)]

    # ------------------------------------------------------------------------------------------------------- tasks

    def task(
        self, func: Callable[..., Any], *args: Any, needs: m.Needs | None = None, **kwargs: Any
    ) -> tuple[int, int]:
        """Send one task; its key."""
        return self.tasks([(func, args, kwargs)], needs)[0]

    def tasks(
        self, calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]], needs: m.Needs | None = None
    ) -> list[tuple[int, int]]:
        """Send several tasks in one message."""
        self.until(lambda: self.identity)
        tasks, functions, attachments = [], [], []
        for func, args, kwargs in calls:
            number = self._functions.get(func)
            if number is None:
                number = self._functions[func] = len(self._functions) + 1
                functions.append(m.Function(number, func.__name__, encode_function(func)))
            payload: Any = dump_call(args, kwargs)
            if len(payload) > m.INLINE_LIMIT:
                attachments.append(payload)
                payload = len(attachments) - 1
            tasks.append(m.Task(self._next_task, 0, number, payload, needs))
            self._next_task += 1
        self.send(m.Tasks(tasks, functions), *attachments)
        return [(task.task, task.attempt) for task in tasks]

    def result(self, key: tuple[int, int], patience: float = PATIENCE) -> m.Result:
        """The answer to a task."""
        self.until(lambda: key in self.results, patience)
        return self.results[key]

    def value(self, key: tuple[int, int], patience: float = PATIENCE) -> Any:
        """The value of a task that must succeed."""
        result = self.result(key, patience)
        payload: Any = result.payload
        assert result.status == m.Status.OK, f"{m.Status(result.status)!r}: {payload!r}"
        return load_value(payload)

    def failure(self, key: tuple[int, int], status: m.Status, patience: float = PATIENCE) -> Failure:
        """The failure of a task that must end with ``status``."""
        result = self.result(key, patience)
        payload: Any = result.payload
        assert result.status == status, f"{m.Status(result.status)!r}: {payload!r}"
        return decode_failure(payload)

    def call(self, func: Callable[..., Any], *args: Any, needs: m.Needs | None = None) -> Any:
        """Run one task and return its value."""
        return self.value(self.task(func, *args, needs=needs))
