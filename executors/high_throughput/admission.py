"""Who may talk to the interchange: only managers whose key the driver has issued.

ZeroMQ asks by its authentication protocol (RFC 27, "ZAP") before it lets a single byte of a connection through.  The
answers are given in the interchange's own loop: no thread, no directory of certificates, and what is true the moment
the driver says so.
"""

from __future__ import annotations

from typing import Any

import zmq
from zmq.utils import z85

_DOMAIN = "flowlib"


class Admission:
    """Answers ZeroMQ's questions about one context's connections.

    Args:
        context: Must not have sockets of its own yet: questions asked before there is anybody to answer are
            taken for a yes.

    Attributes:
        socket: To be polled; call ``answer`` when it is readable.
    """

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")
        self._blocks: dict[bytes, str] = {}

    def protect(self, router: zmq.Socket[Any], server_secret: bytes) -> None:
        """Let only admitted clients of CURVE connect to ``router``. Call before it is bound."""
        router.curve_secretkey = server_secret
        router.curve_server = True
        router.zap_domain = _DOMAIN.encode()
        router.zap_enforce_domain = 1

    def admit(self, block: str, public_key: bytes) -> None:
        """Let in clients with this key (in Z85), as members of ``block``."""
        self._blocks[z85.decode(public_key)] = block

    def block_of(self, frame: zmq.Frame) -> str | None:
        """The block that the sender of a received frame was admitted for."""
        try:
            return str(frame.get("User-Id"))
        except zmq.ZMQError:
            return None

    def answer(self) -> None:
        """Answer what has been asked."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            request = frames[1] if len(frames) > 1 else b""
            block = None
            if len(frames) == 7 and frames[5] == b"CURVE":
                block = self._blocks.get(frames[6])
            code, text = (b"400", b"unknown key") if block is None else (b"200", b"OK")
            self.socket.send_multipart([b"1.0", request, code, text, (block or "").encode(), b""])

    def close(self) -> None:
        """Answer no more."""
        self.socket.close()
