"""How a failure travels: readable by everybody on the way, unpickled only by the one who asks for the result."""

from __future__ import annotations

from typing import Any

import msgspec


class Failure(msgspec.Struct, array_like=True):
    """What is known of a failed attempt, readable without unpickling anything.

    Attributes:
        type_name: Qualified name of the exception's class ("builtins.ValueError", "flowlib.errors.WorkerLost").
        message: Its text.
        traceback: Remote traceback as text; "" where there is none.
        pickled: The pickled exception; b"" where it cannot be pickled.
        reason: Why ``pickled`` is empty, or more about the cause.
        host: Machine.
        worker: Rank of the worker, -1 if none.
        log: Path of the log to read.
        arguments: Positional arguments to build an error class of ``flowlib.errors`` named by ``type_name``; None for
            the app's own exceptions.
    """

    type_name: str
    message: str
    traceback: str = ""
    pickled: bytes = b""
    reason: str = ""
    host: str = ""
    worker: int = -1
    log: str = ""
    arguments: list[Any] | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Failure)


def encode_failure(failure: Failure) -> bytes:
    """The payload of a result whose status is not OK."""
    return _encoder.encode(failure)


def decode_failure(payload: bytes | memoryview) -> Failure:
    """The failure in such a payload."""
    return _decoder.decode(payload)
