"""A network between a test and a server, on which connections can be made to fall silent."""

from __future__ import annotations

import selectors
import socket
import threading


class Network:
    """Connections to a port of the loopback through another one, ``port``.

    Args:
        to: The port to which they lead.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._other: dict[socket.socket, socket.socket] = {}
        self._dead: set[socket.socket] = set()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def swallow(self) -> None:
        """Let nothing more through on the connections that there are; new ones work."""
        self._dead |= set(self._other)

    def close(self) -> None:
        """End it, with all connections."""
        self._stop.close()
        self._thread.join(5)

    def _carry(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(10):
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock is self._stopped:
                        for each in (*self._other, self._server, self._stopped):
                            each.close()
                        return
                    if sock is self._server:
                        near, far = self._server.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                        self._other[near], self._other[far] = far, near
                        selector.register(near, selectors.EVENT_READ)
                        selector.register(far, selectors.EVENT_READ)
                    elif not self._pass_on(sock):
                        selector.unregister(sock)

    def _pass_on(self, sock: socket.socket) -> bool:
        """Carry what has come; whether more may."""
        try:
            data = sock.recv(65536)
            if sock in self._dead:
                return bool(data)
            if data:
                self._other[sock].sendall(data)
            else:
                self._other[sock].shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return bool(data)
