"""Another process that runs tasks as a worker does, for tests; run as a module it is that process."""

from __future__ import annotations

import os
import pickle
import select
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEADLINE = 30.0
ROOT = Path(__file__).resolve().parents[2]


class Remote:
    """A worker process; close it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serialize.remote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(DEADLINE)

    def _read(self, size: int) -> bytes:
        assert self.process.stdout is not None
        data = b""
        while len(data) < size:
            assert select.select([self.process.stdout], [], [], DEADLINE)[0], "the worker does not answer"
            piece = os.read(self.process.stdout.fileno(), size - len(data))
            if not piece:
                raise EOFError(f"the worker ended with {self.process.wait(DEADLINE)}")
            data += piece
        return data

    def exchange(self, body: bytes, payload: bytes) -> tuple[int, bytes]:
        """Send an encoded function and arguments; get status and payload."""
        assert self.process.stdin is not None
        message = pickle.dumps((body, payload))
        self.process.stdin.write(struct.pack("<Q", len(message)) + message)
        self.process.stdin.flush()
        (size,) = struct.unpack("<Q", self._read(8))
        status, answer = pickle.loads(self._read(size))
        return status, answer

    def send(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a call there; its pickled value. Raises what the call raised."""
        from flowlib.serialize.arguments import dump_call
        from flowlib.serialize.envelope import decode_failure, rebuild
        from flowlib.serialize.functions import encode_function
        from flowlib.serialize.values import Pickled

        status, answer = self.exchange(encode_function(func), dump_call(args, kwargs))
        if status == 0:
            return Pickled(answer)
        raise rebuild(decode_failure(answer))

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a call there; its value. Raises what the call raised."""
        return self.send(func, *args, **kwargs).value()


def _serve() -> None:
    from flowlib.serialize.execute import RAISED, execute, report, set_place
    from flowlib.serialize.functions import decode_function

    set_place("testhost", 3, "/log/of/worker")
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    functions: dict[bytes, Any] = {}
    while len(head := source.read(8)) == 8:
        body, payload = pickle.loads(source.read(struct.unpack("<Q", head)[0]))
        try:
            func = functions.get(body) or functions.setdefault(body, decode_function(body))
            answer = execute(func, payload)
        except Exception as e:
            answer = RAISED, report(e)
        message = pickle.dumps(answer)
        sink.write(struct.pack("<Q", len(message)) + message)
        sink.flush()


if __name__ == "__main__":
    _serve()
