"""Finding a port for the interchange."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

import zmq


def bind(router: zmq.Socket[bytes], addresses: Sequence[str], ports: tuple[int, int]) -> int:
    """Bind all addresses to one port.

    Args:
        router: What to bind.
        addresses: Without port.
        ports: The range to choose from, both ends included; ``(0, 0)`` for any.

    Returns:
        The port.

    Raises:
        OSError: None is free, or an address is not this machine's.
    """
    low, high = ports
    candidates: list[int] = [0] * 10
    if low:
        # Runs that start at the same moment should not all try the same ports in the same order.
        first = low + (os.getpid() * 7919) % (high - low + 1)
        candidates = [*range(first, high + 1), *range(low, first)]
    reason = ""
    for candidate in candidates:
        bound: list[str] = []
        port, address = candidate, ""
        try:
            for address in addresses:
                _set_family(router, address)
                router.bind(f"{address}:{port}")
                bound.append(router.getsockopt_string(zmq.LAST_ENDPOINT))
                port = int(bound[-1].rpartition(":")[2])
        except zmq.ZMQError as e:
            reason = f"{address}:{port}: {e.strerror}"
            for endpoint in bound:
                router.unbind(endpoint)
            if e.errno not in (zmq.EADDRINUSE, errno.EACCES):
                break
            continue
        return port
    where = f"in {low}-{high}" if low != high else f"{low}" if low else "of any number"
    raise OSError(
        f"the interchange cannot listen on {', '.join(addresses)}, port {where} ({reason}); "
        "give an address of this machine, and a free port (worker_port) or range (worker_port_range)"
    )


def _set_family(router: zmq.Socket[bytes], address: str) -> None:
    """Let "*" mean both families where the machine has both."""
    router.ipv6 = ":" in address.removeprefix("tcp://") or ("*" in address and socket.has_dualstack_ipv6())
