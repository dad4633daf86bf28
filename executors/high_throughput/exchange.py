"""How a manager changes a key that may be used once into one that only it knows.

The new key is made here, in memory; only its public half leaves the machine.  So whoever reads the block's file later,
in a cloud's start-up data say, holds nothing.
"""

from __future__ import annotations

import time
from typing import Any

import zmq

from flowlib.executors.high_throughput import messages as m
from flowlib.executors.high_throughput.block import Block

AGAIN = 2.0
"""Seconds after which it is asked again."""


def exchange(block: Block) -> None:
    """Give a block a key of its own.

    Args:
        block: Addresses and the key that may be used once; gets the new key.

    Raises:
        ValueError: The interchange could not be reached, or did not take the key.
    """
    public, secret = zmq.curve_keypair()
    context: zmq.Context[Any] = zmq.Context()
    sockets = [_connect(context, block, address) for address in block.addresses]
    try:
        _ask(sockets, m.encode(m.Exchange(public)), block)
    finally:
        for sock in sockets:
            sock.close(linger=0)
        context.term()
    block.client_public, block.client_secret, block.once = public.decode(), secret.decode(), False


def _connect(context: zmq.Context[Any], block: Block, address: str) -> zmq.Socket[bytes]:
    sock: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    sock.linger = 0
    sock.ipv6 = True
    sock.curve_serverkey = block.server_public.encode()
    sock.curve_publickey = block.client_public.encode()
    sock.curve_secretkey = block.client_secret.encode()
    sock.connect(address)
    return sock


def _ask(sockets: list[zmq.Socket[bytes]], question: bytes, block: Block) -> None:
    poller = zmq.Poller()
    for sock in sockets:
        poller.register(sock, zmq.POLLIN)
    deadline = time.monotonic() + block.address_probe_timeout
    while (left := deadline - time.monotonic()) > 0:
        for sock in sockets:
            try:
                sock.send(question, zmq.NOBLOCK)
            except zmq.Again:
                continue  # no road there yet
        until = time.monotonic() + min(AGAIN, left)
        while (pause := until - time.monotonic()) > 0:
            for sock, _ in poller.poll(int(pause * 1000) + 1):
                answer = m.decode(sock.recv())
                if isinstance(answer, m.Exchanged):
                    return
                if isinstance(answer, m.Rejected):
                    raise ValueError(answer.reason)
    where = ", ".join(block.addresses)
    raise ValueError(
        f"the key that may be used once was not taken within {block.address_probe_timeout:g} s at {where}: "
        f"no address can be reached from here, or the key was used before"
    )
