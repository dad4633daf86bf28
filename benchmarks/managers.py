"""Two thousand managers: how long until all are registered, and how fast tasks go through them.

The managers are pretended, many to a process, but their sockets, keys and messages are real: what is measured is the
interchange, beside a driver that does what it always does.  ``python -m benchmarks.managers BLOCKFILE COUNT`` is one
such process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from benchmarks.kernels import loaded, noop
from benchmarks.measured import Measured, scaled

MANAGERS = 2000
PROCESSES = 4
SLOTS = 64
TASKS = 50_000
LIMIT = 240.0


def many_managers(scale: float) -> Measured:
    """Seconds until all managers are registered; and tasks per second through all of them."""
    from flowlib.config import Config
    from flowlib.executors import HighThroughputExecutor
    from flowlib.providers import LocalProvider

    each = scaled(MANAGERS // PROCESSES, scale)
    executor = HighThroughputExecutor(
        label="many",
        address="127.0.0.1",
        max_workers_per_node=SLOTS,
        cores_per_worker=0.01,
        launch_cmd=f"{sys.executable} -m benchmarks.managers {{blockfile}} {each}",
        provider=LocalProvider(init_blocks=PROCESSES, max_blocks=PROCESSES, min_blocks=PROCESSES),
    )
    began = time.perf_counter()
    with loaded(Config(executors=[executor], strategy="none")):
        while len(executor._here().fleet.connected()) < PROCESSES * each:
            if time.perf_counter() - began > LIMIT:
                raise TimeoutError(f"{len(executor._here().fleet.connected())} managers within {LIMIT:.0f} s")
            time.sleep(0.05)
        registered = time.perf_counter() - began
        for future in [noop() for _ in range(1000)]:
            future.result()
        count = scaled(TASKS, scale)
        began = time.perf_counter()
        for future in [noop() for _ in range(count)]:
            future.result()
        return Measured(registered, "s", more={"tasks/s": count / (time.perf_counter() - began)})


class Pretended:
    """A manager that answers each task at once.

    Args:
        context: For the socket.
        block: The block file's content.
    """

    def __init__(self, context: Any, block: dict[str, Any]) -> None:
        import uuid

        import zmq

        from flowlib.executors.high_throughput import messages as m
        from flowlib.serialize.values import dump_value

        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        if block["server_public"]:
            self.socket.curve_serverkey = block["server_public"].encode()
            self.socket.curve_publickey = block["client_public"].encode()
            self.socket.curve_secretkey = block["client_secret"].encode()
        self.socket.connect(block["addresses"][0])
        self._value = dump_value(None)
        self._number = 0
        self._messages = m
        name, slots = uuid.uuid4().hex[:12], int(block["max_workers_per_node"])
        self.send(
            m.Register(m.PROTOCOL, m.PYTHON, "0", name, block["block"], name, os.getpid(), slots, block["prefetch"])
        )

    def send(self, message: Any) -> None:
        """Send a message."""
        self.socket.send(self._messages.encode(message))

    def answer(self) -> bool:
        """Answer what has come; False when it is told to end."""
        import zmq

        m = self._messages
        while True:
            try:
                message = m.decode(self.socket.recv_multipart(zmq.NOBLOCK)[0])
            except zmq.Again:
                return True
            if isinstance(message, m.Tasks):
                now = time.time()
                self._number += 1
                done = [m.Result(t.task, t.attempt, m.Status.OK, self._value, now, now, 0) for t in message.tasks]
                self.send(m.Results(done, number=self._number))
            elif isinstance(message, (m.Shutdown, m.Drain)):
                return False


def main(path: str, count: int) -> None:
    """Be many managers, until the driver is gone."""
    import zmq

    from flowlib.executors.high_throughput.messages import Heartbeat

    with open(path) as file:
        block = json.load(file)
    context: zmq.Context[Any] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2 * count + 100)
    lifeline = int(os.environ.get("FLOWLIB_LIFELINE", "-1"))
    poller = zmq.Poller()
    if lifeline >= 0:
        poller.register(lifeline, zmq.POLLIN)
    managers: dict[Any, Pretended] = {}
    for _ in range(count):
        manager = Pretended(context, block)
        managers[manager.socket] = manager
        poller.register(manager.socket, zmq.POLLIN)
    beat_at = time.monotonic() + block["heartbeat_period"]
    while managers:
        for ready, _ in poller.poll(1000):
            if ready == lifeline:
                os._exit(0)
            if not managers[ready].answer():
                os._exit(0)
        if time.monotonic() > beat_at:
            beat_at = time.monotonic() + block["heartbeat_period"]
            for manager in managers.values():
                manager.send(Heartbeat())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
