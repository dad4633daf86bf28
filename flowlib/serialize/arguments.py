"""How the arguments of a call travel."""

from __future__ import annotations

import pickle
from typing import Any

from flowlib.errors import SerializationError
from flowlib.serialize import pickling, plugins
from flowlib.serialize.pickling import is_plain
from flowlib.serialize.values import Pickled

_NONE = pickle.dumps(((), {}), pickling.PROTOCOL)
_dumps = pickle.dumps


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any], name: str = "") -> bytes:
    """Pickle the arguments of a call.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        name: The app's name, for the error.

    Raises:
        SerializationError: One of them cannot be sent; the text names it.

    Example:
        >>> load_call(dump_call((1, [2]), {"k": "v"}))
        ((1, [2]), {'k': 'v'})
    """
    if not kwargs:
        if not args:
            return _NONE
        if is_plain(args):
            return _dumps((args, kwargs), 5)
    elif is_plain(args) and is_plain(kwargs.values()):
        return _dumps((args, kwargs), 5)
    if Pickled in map(type, args):
        # Results of other tasks: small ones are cheaper to rebuild here than to be sent as what rebuilds them there.
        args = tuple([value.if_plain() if type(value) is Pickled else value for value in args])
        if is_plain(args) and is_plain(kwargs.values()):
            return _dumps((args, kwargs), 5)
    if plugins.data:
        body = plugins.try_dump(plugins.data, (args, kwargs))
        if body is not None:
            return body
    try:
        return pickling.dumps((args, kwargs))
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # pickling runs user code (__reduce__, __getstate__)
        raise SerializationError(f"arguments of app {name}" if name else "arguments", _why(args, kwargs, e)) from e


def load_call(payload: bytes | memoryview) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments in a payload; whatever user code raises while they are unpickled comes through."""
    if payload == _NONE:
        return (), {}
    call: tuple[tuple[Any, ...], dict[str, Any]]
    call = plugins.load(payload) if payload[:1] == plugins.MARK else pickle.loads(payload)  # type: ignore[arg-type]
    return call


def _why(args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException) -> str:
    from flowlib.serialize import explain

    parts = [(f"argument {i}", value) for i, value in enumerate(args)]
    parts += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    return explain.reason(error, explain.offender(iter(parts), pickling.dumps))
