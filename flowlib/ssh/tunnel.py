"""Ways back home: a port on the remote machine's loopback that leads to a port of this one.

The SSH server listens there and sends each connection through the SSH connection; two threads carry its bytes.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import paramiko

logger = logging.getLogger(__name__)

_CHUNK = 256 * 1024
_CONNECT = 5.0


class Tunnel:
    """The handler of forwarded connections, see paramiko's ``Transport.request_port_forward``.

    Args:
        home: Address and port of this machine to which they lead.
        name: Of the remote host; for threads and logs.
    """

    def __init__(self, home: tuple[str, int], name: str) -> None:
        self._home = home
        self._name = name

    def __call__(self, channel: paramiko.Channel, origin: Any, server: Any) -> None:
        """Take a connection; called by the thread that reads all of the SSH connection, so it only starts another."""
        threading.Thread(target=self._carry, args=(channel,), name=f"flowlib-tunnel-{self._name}", daemon=True).start()

    def _carry(self, channel: paramiko.Channel) -> None:
        try:
            sock = socket.create_connection(self._home, timeout=_CONNECT)
        except OSError as e:
            # The interchange is gone, or is just being replaced: the manager tries again.
            logger.debug("tunnel from %s: home does not answer: %s", self._name, e)
            end_channel(channel)
            return
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(
            target=_copy, args=(sock, channel), name=f"flowlib-tunnel-{self._name}-out", daemon=True
        )
        back.start()
        try:
            _copy(channel, sock)
            back.join()
        finally:
            end_channel(channel)
            sock.close()


def end_channel(channel: paramiko.Channel) -> None:
    """Close a channel, whose connection may be gone already."""
    with contextlib.suppress(OSError, EOFError):
        channel.close()


def _copy(source: Any, sink: Any) -> None:
    """Carry bytes until one side ends, then end the other one too."""
    try:
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    except (OSError, EOFError):
        pass  # one of them was closed or lost; which is the same to the other
    # Neither ZeroMQ nor a manager half-closes: what has ended in one direction has ended.
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except (OSError, EOFError):
            continue
