"""The least that gets calls to two processes and back with ZeroMQ: what is left when a library has no features.

::

    driver PUSH -> PULL hop PUSH -> PULL worker     (two of them)
    driver PULL <- PUSH hop PULL <- PUSH worker

Each call is pickled by itself and travels in a batch, as in the library.  No futures, no errors, no heartbeats, no
encryption, nobody notices a death.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import zmq

BATCH = 64
_loads = pickle.loads


class Pipeline:
    """Two workers behind a hop; a context manager."""

    def __enter__(self) -> Pipeline:  # noqa: PYI034
        self._hop = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pipeline", "hop"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._hop.stdout is not None
        ports = self._hop.stdout.readline().split()
        self._context = zmq.Context()
        self._out = self._context.socket(zmq.PUSH)
        self._out.connect(f"tcp://127.0.0.1:{ports[0]}")
        self._in = self._context.socket(zmq.PULL)
        self._in.connect(f"tcp://127.0.0.1:{ports[3]}")
        self._workers = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.pipeline", "worker", ports[1], ports[2]],
                stdin=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        self.run([(int, ())] * 4 * BATCH)
        return self

    def __exit__(self, *error: object) -> None:
        for process in [*self._workers, self._hop]:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self._context.destroy(linger=0)

    def run(self, calls: Iterable[tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[Any]:
        """Send all calls, wait for all results, in any order."""
        sent = 0
        batch: list[bytes] = []
        results: list[Any] = []
        for call in calls:
            batch.append(pickle.dumps(call, 5))
            sent += 1
            if len(batch) == BATCH:
                self._out.send(pickle.dumps(batch, 5))
                batch = []
        if batch:
            self._out.send(pickle.dumps(batch, 5))
        while len(results) < sent:
            results += map(_loads, _loads(self._in.recv()))
        return results


def hop() -> None:
    """Pass batches on, unread, until the driver goes away."""
    context = zmq.Context()

    def bound(kind: int) -> tuple[zmq.Socket[bytes], int]:
        sock = context.socket(kind)
        return sock, sock.bind_to_random_port("tcp://127.0.0.1")

    (tasks_in, a), (tasks_out, b), (results_in, c), (results_out, d) = map(
        bound, (zmq.PULL, zmq.PUSH, zmq.PULL, zmq.PUSH)
    )
    print(a, b, c, d, flush=True)
    for pair in ((tasks_in, tasks_out), (results_in, results_out)):
        threading.Thread(target=zmq.proxy, args=pair, daemon=True).start()
    sys.stdin.read()


def worker(tasks: str, results: str) -> None:
    """Run batches until the driver goes away."""
    context = zmq.Context()
    source, sink = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    source.rcvhwm = 2  # so that the other worker gets its share
    source.connect(f"tcp://127.0.0.1:{tasks}")
    sink.connect(f"tcp://127.0.0.1:{results}")
    poller = zmq.Poller()
    poller.register(source, zmq.POLLIN)
    poller.register(sys.stdin, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if source not in ready:
            return
        out = []
        for blob in _loads(source.recv()):
            function, args = _loads(blob)
            out.append(pickle.dumps(function(*args), 5))
        sink.send(pickle.dumps(out, 5))


if __name__ == "__main__":
    if sys.argv[1] == "hop":
        hop()
    else:
        worker(*sys.argv[2:])
