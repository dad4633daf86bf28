"""Who may talk to the interchange: only managers whose key the driver has issued.

ZeroMQ asks by its authentication protocol (RFC 27, "ZAP") before it lets a single byte of a connection through.  The
answers are given in the interchange's own loop: no thread, no directory of certificates, and what is true the moment
the driver says so.
"""

from __future__ import annotations

import struct
from typing import Any

import zmq
from zmq.utils import z85

from flowlib.executors.high_throughput.tokens import Tokens

_DOMAIN = "flowlib"
_ONCE = "once:"
"""Before the block's name in the User-Id of a connection that was opened with a key that may be used once."""


class Admission:
    """Answers ZeroMQ's questions about one context's connections.

    Args:
        context: Must not have sockets of its own yet: questions asked before there is anybody to answer are
            taken for a yes.

    Attributes:
        socket: To be polled; call ``answer`` when it is readable.
        tokens: Keys that may be used once.
    """

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")
        self._blocks: dict[bytes, str] = {}
        self.tokens = Tokens()

    def protect(self, router: zmq.Socket[Any], server_secret: bytes) -> None:
        """Let only admitted clients of CURVE connect to ``router``. Call before it is bound."""
        router.curve_secretkey = server_secret
        router.curve_server = True
        router.zap_domain = _DOMAIN.encode()
        router.zap_enforce_domain = 1

    def admit(self, block: str, public_key: bytes, once: bool = False) -> None:
        """Let in clients with this key (in Z85), as members of ``block``, or ``once`` to name another key."""
        key = z85.decode(public_key)
        if once:
            self.tokens.issue(block, key)
        else:
            self._blocks[key] = block

    def exchange(self, frame: zmq.Frame, public_key: bytes) -> str | None:
        """The sender of a frame, who came with a key that may be used once, names another one (in Z85).

        Returns:
            The block that the new key is admitted for; None if the old one was used before.

        Raises:
            ValueError: It is no key.
        """
        block = self.once_for(frame)
        try:
            key = z85.decode(public_key)
        except (KeyError, struct.error) as e:
            raise ValueError(f"no text in Z85: {e}") from None
        if len(key) != 32:
            raise ValueError(f"a key of {len(key)} bytes")
        if self._blocks.get(key, block) != block or block is None or not self.tokens.exchange(block, key):
            return None
        self._blocks[key] = block
        return block

    def once_for(self, frame: zmq.Frame) -> str | None:
        """The block of a sender who came with a key that may be used once; None for all others."""
        told = self._user(frame)
        return told[len(_ONCE) :] if told is not None and told.startswith(_ONCE) else None

    def block_of(self, frame: zmq.Frame) -> str | None:
        """The block that the sender of a received frame was admitted for."""
        return self._user(frame)

    @staticmethod
    def _user(frame: zmq.Frame) -> str | None:
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
                once = self.tokens.block_of(frames[6])
                block = block if once is None else f"{_ONCE}{once}"
            code, text = (b"400", b"unknown key") if block is None else (b"200", b"OK")
            self.socket.send_multipart([b"1.0", request, code, text, (block or "").encode(), b""])

    def close(self) -> None:
        """Answer no more."""
        self.socket.close()
