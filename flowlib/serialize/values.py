"""How results travel, and the holder that keeps them pickled until somebody asks.

A result is user data that some task made; unpickling it runs code that the task chose.  So it is unpickled once in
the worker, where it can harm its own task only, and in the driver not before ``result()``; and a few names that end
or replace a process are refused outright.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from io import BytesIO
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NamedTuple

from flowlib.errors import AppTimeout, DeserializationError, GeneratorResult, SerializationError
from flowlib.serialize import definitions, known, pickling, plugins
from flowlib.serialize.pickling import is_plain
from flowlib.store import packing

NEVER = 1 << 62
"""A threshold that no result reaches."""
TRIAL_LIMIT = 1024 * 1024
"""Results of at most this many bytes are unpickled once in the worker."""

_ATOMS = frozenset({int, float, str, bytes, bool, type(None), complex})
_SHORT = 64
_LIVE = (GeneratorType, AsyncGeneratorType, CoroutineType)
_NONE = pickle.dumps(None, pickling.PROTOCOL)
_GLOBAL = b"\x93"
_SMALL = 4096

_SYSTEM = ("os", "posix", "nt")
_FORBIDDEN = frozenset(
    {
        *((m, n) for m in _SYSTEM for n in ("_exit", "abort", "kill", "killpg", "fork", "forkpty")),
        *((m, n) for m in _SYSTEM for n in ("execv", "execve", "execl", "execle", "execlp", "execvp", "execvpe")),
        ("sys", "exit"),
        ("_sitebuiltins", "Quitter"),
        ("builtins", "exit"),
        ("builtins", "quit"),
        ("signal", "raise_signal"),
        ("_signal", "raise_signal"),
        ("signal", "pthread_kill"),
        ("_signal", "pthread_kill"),
        ("_thread", "interrupt_main"),
    }
)


class _Unpickler(pickle.Unpickler):
    """Refuses the names that would end or replace the process that asks for a result."""

    def find_class(self, module: str, name: str, /) -> Any:
        """The object of that name."""
        if (module, name) in _FORBIDDEN:
            raise pickle.UnpicklingError(f"{module}.{name} is refused: unpickling a result must not end the process")
        return super().find_class(module, name)


class Packed(NamedTuple):
    """A large result, to be laid out by ``flowlib.store.packing.pack``.

    Attributes:
        body: Its pickle.
        buffers: What the pickle left out.
    """

    body: bytes
    buffers: list[memoryview]


def dump_value(value: Any) -> bytes:
    """Pickle a value of a task, in the worker, all of it.

    Raises:
        GeneratorResult: It is a generator or coroutine.
        SerializationError: It cannot be pickled.
        DeserializationError: It can be pickled but not unpickled.
    """
    payload = dump_result(value, NEVER)
    assert isinstance(payload, bytes)
    return payload


def dump_result(value: Any, threshold: int) -> bytes | Packed:
    """Pickle what a task returned, in the worker.

    Args:
        value: What it returned.
        threshold: Bytes from which on it is left to the caller where its buffers go.

    Raises:
        GeneratorResult: It is a generator or coroutine.
        SerializationError: It cannot be pickled.
        DeserializationError: It can be pickled but not unpickled.
    """
    if value is None:
        return _NONE
    kind = type(value)
    if kind in _ATOMS or ((kind is list or kind is tuple) and len(value) < _SHORT and is_plain(value)):
        payload = pickle.dumps(value, 5)
        return payload if len(payload) < threshold else Packed(payload, [])
    if kind in _LIVE:
        raise GeneratorResult(
            f"the app returned a {kind.__name__}, which lives in its process only; return list(...) of it"
        )
    if plugins.data:
        body = plugins.try_dump(plugins.data, value)
        if body is not None:
            return body
    buffers: list[memoryview] = []
    try:
        if threshold == NEVER:
            payload = pickling.dumps(value, refer=True)
        else:
            payload = pickling.dumps_apart(value, _apart(buffers, threshold), refer=True)
    except AppTimeout:
        # The walltime ended meanwhile; that is the cause to tell.
        raise
    except BaseException as e:  # pickling runs user code (__reduce__, __getstate__)
        raise SerializationError("the result", _why(value, e)) from e
    if buffers or len(payload) >= threshold:
        return Packed(payload, buffers)
    if _GLOBAL in payload and len(payload) <= TRIAL_LIMIT:
        load_value(payload, trial=True)
    return payload


def _apart(buffers: list[memoryview], threshold: int) -> Callable[[pickle.PickleBuffer], bool]:
    def apart(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < threshold:
            return True
        buffers.append(raw)
        return False

    return apart


def load_value(payload: bytes, *, trial: bool = False) -> Any:
    """Unpickle a result.

    Args:
        payload: What ``dump_value`` made.
        trial: Whether this is the worker's own trial, in which even a ``KeyboardInterrupt`` is the result's fault.

    Raises:
        DeserializationError: It cannot be rebuilt here.
    """
    try:
        if payload[:1] == plugins.MARK:
            return plugins.load(payload)
        if payload[:1] == packing.MARK:
            return _load_packed(memoryview(payload))
        if _GLOBAL not in payload:
            return pickle.loads(payload)
        return _Unpickler(BytesIO(payload)).load()
    except (DeserializationError, AppTimeout):
        raise
    except BaseException as e:  # user code runs while a result is unpickled; a result must not end its reader
        if isinstance(e, KeyboardInterrupt) and not trial:
            raise
        raise DeserializationError(f"the result cannot be rebuilt: {type(e).__name__}: {_text(e)}") from e


def load_packed(memory: memoryview) -> Any:
    """The value of a stored object; its arrays are views of ``memory``.

    Raises:
        DeserializationError: It cannot be rebuilt here.
    """
    try:
        return _load_packed(memory)
    except (DeserializationError, AppTimeout):
        raise
    except BaseException as e:  # user code runs while it is unpickled; an object must not end its reader
        if isinstance(e, KeyboardInterrupt):
            raise
        raise DeserializationError(f"the object cannot be rebuilt: {type(e).__name__}: {_text(e)}") from e


def _load_packed(memory: memoryview) -> Any:
    body, buffers = packing.unpack(memory)
    return _Unpickler(BytesIO(body), buffers=buffers).load()


class Pickled:
    """A result in pickled form: the ``Success`` of remote executors.

    Args:
        payload: What ``dump_value`` made in the worker.

    Example:
        >>> Pickled(dump_value([1, 2])).value()
        [1, 2]
    """

    __slots__ = ("_lock", "_payload", "_reason", "_value")

    def __init__(self, payload: bytes) -> None:
        self._payload: bytes | None = payload
        self._value: Any = None
        self._reason: tuple[str, BaseException | None] | None = None
        self._lock: threading.RLock | None = None  # type: ignore[valid-type,unused-ignore]

    @property
    def payload(self) -> bytes | None:
        """The pickled bytes; None once the value has been asked for."""
        return self._payload

    def parts(self) -> list[packing.Part] | None:
        """The value as an object is stored, not unpickled for it; None if it was, or only a plug-in can read it."""
        payload = self._payload
        if payload is None or payload[:1] == plugins.MARK:
            return None
        return [payload] if payload[:1] == packing.MARK else packing.pack(payload, [])

    def value(self) -> Any:
        """The value; unpickled on first use, the same object ever after.

        Raises:
            DeserializationError: It cannot be rebuilt in this process.
        """
        if self._payload is not None:
            with _lock_of(self):
                payload = self._payload
                if payload is not None:
                    try:
                        self._value = load_value(payload)
                    except DeserializationError as e:
                        self._reason = (e.reason, e.__cause__)
                    self._payload = None
            self._lock = None
        if self._reason is not None:
            raise DeserializationError(self._reason[0]) from self._reason[1]
        return self._value

    def if_plain(self) -> Any:
        """The value if that is a number or a short text, which takes no code to rebuild; this object otherwise."""
        payload = self._payload
        if payload is None:
            value = self._value
        elif len(payload) <= _SMALL and _GLOBAL not in payload and payload[:1] != plugins.MARK:
            value = pickle.loads(payload)
        else:
            return self
        return value if type(value) in _ATOMS and self._reason is None else self

    def __reduce__(self) -> tuple[Any, ...]:
        """Within arguments it becomes its value, unpickled by the receiver only."""
        payload = self._payload
        if payload is None:
            return definitions.same, (self.value(),)
        return definitions.load_value, (payload, known.mentioned(payload))


_guard = threading.Lock()


def _lock_of(pickled: Any) -> Any:
    with _guard:
        lock = pickled._lock
        if lock is None:
            lock = pickled._lock = threading.RLock()
        return lock


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a user's __str__; the type is named anyway
        return "(no text)"


def _why(value: Any, error: BaseException) -> str:
    from flowlib.serialize import explain

    if isinstance(error, RecursionError):
        return "it is nested too deeply to be pickled; flatten it or write it to a file"
    if isinstance(error, MemoryError):
        return "there is not enough memory to pickle it"
    return explain.reason(
        error, explain.offender(iter([("the result", value)]), lambda v: pickling.dumps(v, refer=True))
    )
