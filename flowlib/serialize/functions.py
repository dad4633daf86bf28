"""How functions travel: named where workers can import them, described where they cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowlib.errors import DeserializationError, SerializationError
from flowlib.serialize import pickling, plugins

if TYPE_CHECKING:
    from collections.abc import Callable


def encode_function(func: Callable[..., Any], name: str = "") -> bytes:
    """The body of a function, for ``decode_function`` in another process.

    A function of an importable module is sent as its name. Any other is sent as it is now, with the globals,
    closure variables and defaults that it uses; later changes to those are not seen.

    Args:
        func: A function, lambda, partial, bound method, callable object or built-in.
        name: The app's name, for the error; the function's own by default.

    Raises:
        SerializationError: Something that the function needs cannot be sent; the text names it.

    Example:
        >>> offset = 2
        >>> decode_function(encode_function(lambda x: x + offset))(3)
        5
    """
    if plugins.code:
        body = plugins.try_dump(plugins.code, func)
        if body is not None:
            return body
    try:
        return pickling.dumps(func, defining=True)
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # pickling runs user code (__reduce__, __getstate__)
        raise SerializationError(f"app {name or _name_of(func)}", _why(func, e)) from e


def decode_function(body: bytes | memoryview) -> Callable[..., Any]:
    """The function of a body. Not cached: callers keep what they got by the function's number.

    Raises:
        DeserializationError: It cannot be rebuilt here, for example because its module cannot be imported.
    """
    try:
        function: Callable[..., Any] = plugins.load(bytes(body))
    except DeserializationError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # importing the function's module runs user code, which may even exit
        raise DeserializationError(f"the function cannot be rebuilt in this process: {type(e).__name__}: {e}") from e
    if not callable(function):
        raise DeserializationError(f"the function's body holds a {type(function).__name__}, which cannot be called")
    return function


def _name_of(func: Any) -> str:
    name = getattr(func, "__name__", None)
    return name if isinstance(name, str) else repr(func)[:200]


def _why(func: Any, error: BaseException) -> str:
    from flowlib.serialize import explain

    found = explain.offender(iter([("the function", func)]), lambda part: pickling.dumps(part, defining=True))
    if found is not None:
        where = found[0].removeprefix("the function").removeprefix(", ")
        found = (where or "the function", found[1])
    return explain.reason(error, found)
