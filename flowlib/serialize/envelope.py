"""How a failure travels: readable by everybody on the way, unpickled only by the one who asks for the result.

``capture`` makes a ``Failure`` of an exception in the worker, ``rebuild`` makes an exception of it in the driver.
A user's exception comes back as itself, with its causes and notes, and the remote traceback as the last cause.  Where
its class makes that impossible, a ``RemoteError`` says all that was known of it.
"""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import msgspec

from flowlib import errors
from flowlib.serialize import pickling
from flowlib.serialize.remote import RemoteExceptionWrapper as RemoteExceptionWrapper
from flowlib.serialize.remote import RemoteTraceback as RemoteTraceback
from flowlib.serialize.values import load_value

if TYPE_CHECKING:
    from types import TracebackType


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
        bases: Qualified names of the classes that the exception's class is derived from, nearest first.
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
    bases: list[str] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Failure)

_MOST_TEXT = 256 * 1024
_MOST_CHAIN = 32
_PACKAGE = os.path.dirname(os.path.abspath(errors.__file__)) + os.sep


def encode_failure(failure: Failure) -> bytes:
    """The payload of a result whose status is not OK."""
    return _encoder.encode(failure)


def decode_failure(payload: bytes | memoryview) -> Failure:
    """The failure in such a payload."""
    return _decoder.decode(payload)


# --------------------------------------------------------------------------------------------------------- capture


def capture(error: BaseException, *, host: str = "", worker: int = -1, log: str = "") -> Failure:
    """Make a failure of an exception; never raises, whatever the exception's class does.

    Args:
        error: The exception. flowlib's own frames are cut off the start of its traceback.
        host: Machine.
        worker: Rank of the worker, -1 if none.
        log: Path of the log to read.
    """
    name, message = _name(error), _clip(_text(error))
    chain = _chain(error)
    for link in chain:
        _cut_own_frames(link)
    pickled, reason = _pickle_chain(chain)
    bases = [_name_of(kind) for kind in type(error).__mro__[1:-1]]
    return Failure(name, message, _clip(_format(error)), pickled, reason, host, worker, log, bases=bases)


def _name(error: BaseException) -> str:
    return _name_of(type(error))


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return _encodable(str(error))
    except BaseException as e:  # noqa: BLE001  # a user's __str__ may do anything; its text is all that is lost
        return f"(its text cannot be had: __str__ raised {type(e).__name__})"


def _encodable(text: str) -> str:
    # Lone surrogates (from undecodable file names) have no UTF-8 form.
    return text.encode("utf-8", "backslashreplace").decode()


def _clip(text: str) -> str:
    if len(text) <= _MOST_TEXT:
        return text
    half = _MOST_TEXT // 2
    return f"{text[:half]}\n... ({len(text) - 2 * half} characters left out) ...\n{text[-half:]}"


def _cut_own_frames(error: BaseException) -> None:
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        traceback = traceback.tb_next
    error.__traceback__ = traceback


def _format(error: BaseException) -> str:
    import traceback

    try:
        return _encodable("".join(traceback.format_exception(error)))
    except BaseException as e:  # noqa: BLE001  # formatting calls the user's __str__; the failure is told without it
        return f"{_name(error)}: {_text(error)} (no traceback: formatting it raised {type(e).__name__})"


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and those behind it, each once."""
    chain = [error]
    for link in chain:
        for behind in (link.__cause__, link.__context__):
            if behind is not None and len(chain) < _MOST_CHAIN and all(behind is not known for known in chain):
                chain.append(behind)
    return chain


def _pickle_chain(chain: list[BaseException]) -> tuple[bytes, str]:
    """Pickle each exception by itself, so that one that cannot be does not take the others with it.

    Returns:
        The pickled chain, or b"" and the reason why the first exception is not in it.
    """
    links = []
    for link in chain:
        body, reason = _pickle_one(link)
        if link is chain[0] and not body:
            return b"", reason
        cause, context = _position(link.__cause__, chain), _position(link.__context__, chain)
        links.append((body, _name(link), _text(link), reason, cause, context, link.__suppress_context__))
    return pickle.dumps(links, pickling.PROTOCOL), ""


def _position(error: BaseException | None, chain: list[BaseException]) -> int:
    return next((i for i, link in enumerate(chain) if link is error), -1)


def _pickle_one(error: BaseException) -> tuple[bytes, str]:
    """Pickle an exception and try whether it can be had back."""
    try:
        # A class whose __str__ fails must not be what the driver prints.
        str(error)
        body = pickling.dumps(error, refer=True)
        back = load_value(body, trial=True)
    except BaseException as e:  # noqa: BLE001  # the exception's class is user code; the reason is kept
        return b"", f"{type(e).__name__}: {_text(e)}"
    if type(back) is not type(error):
        return b"", f"unpickling it gives a {type(back).__name__}"
    return body, ""


# --------------------------------------------------------------------------------------------------------- rebuild


def rebuild(failure: Failure) -> BaseException:
    """Make an exception of a failure.

    Args:
        failure: What ``capture`` made, or what a manager or interchange wrote about a lost task.

    Returns:
        The user's exception, the class of ``flowlib.errors`` that the failure names, or a ``RemoteError``. Where
        there is a remote traceback, it is at the end of the ``__cause__`` chain.
    """
    error, attach = _own_error(failure), bool(failure.traceback)
    if error is None:
        error = _unpickle_chain(failure)
    if attach:
        _attach(error, RemoteTraceback(failure.traceback, failure.host, failure.worker, failure.log))
    return error


def _own_error(failure: Failure) -> BaseException | None:
    module, _, name = failure.type_name.rpartition(".")
    if failure.arguments is None or module != errors.__name__:
        return None
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.FlowlibError)):
        return None
    try:
        return kind(*failure.arguments)
    except TypeError:
        # Written by another version of flowlib: what it said is kept.
        return _remote_error(failure, "")


def _remote_error(failure: Failure, reason: str) -> errors.RemoteError:
    return errors.RemoteError(failure.type_name, failure.message, failure.traceback, failure.reason or reason)


def _unpickle_chain(failure: Failure) -> BaseException:
    if not failure.pickled:
        return _remote_error(failure, "")
    links = pickle.loads(failure.pickled)
    chain: list[BaseException] = []
    for body, name, message, reason, *_ in links:
        try:
            if not body:
                raise errors.DeserializationError(reason)
            error = load_value(body)
            if not isinstance(error, BaseException):
                raise errors.DeserializationError(f"unpickling it gives a {type(error).__name__}")
        except errors.DeserializationError as e:
            error = errors.RemoteError(name, message, "" if chain else failure.traceback, e.reason)
        chain.append(error)
    for error, (*_, cause, context, suppress) in zip(chain, links, strict=True):
        if cause >= 0:
            error.__cause__ = chain[cause]
        if context >= 0:
            error.__context__ = chain[context]
        error.__suppress_context__ = suppress
    return chain[0]


def _attach(error: BaseException, traceback: RemoteTraceback) -> None:
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    if not isinstance(error, RemoteTraceback):
        error.__cause__ = traceback
