"""A manager's connection to one of several addresses."""

from __future__ import annotations

import time

import zmq

from flowlib.executors.high_throughput.block import Block
from flowlib.executors.high_throughput.connection import Connection


def test_several_addresses_answer_at_once() -> None:
    """The first is taken, the others are closed, whether or not they had answered as well."""
    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    address = f"tcp://127.0.0.1:{port}"
    up: list[bool] = []
    watched: set[int] = set()

    def watch(fd: int, call: object) -> None:
        watched.add(fd)

    connection = Connection(
        Block(addresses=[address] * 3, label="test", block="0"), "m", watch, watched.discard,
        lambda: up.append(True), lambda: up.append(False),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while not up and time.monotonic() < deadline:
            time.sleep(0.3)  # time for all three
            connection.follow()
        assert connection.address == address and up == [True] and len(watched) == 2
    finally:
        connection.close(0)
        server.close(linger=0)
        context.term()
