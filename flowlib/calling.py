"""Calling a user's function: one way for threads, the inline executor and worker processes.

Whatever the function does, its end is a value or an ``Exception``: what is meant to end a program ends the task only.
"""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from flowlib.errors import AppAborted, GeneratorResult

_LIVE = frozenset({GeneratorType, AsyncGeneratorType, CoroutineType})


def run_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call ``func(*args, **kwargs)``; a coroutine is run to its end.

    Returns:
        The value.

    Raises:
        AppAborted: It raised SystemExit, KeyboardInterrupt or alike; that is the ``__cause__``.
        GeneratorResult: It returned a generator.
        Exception: What it raised.

    Example:
        >>> run_call(divmod, (7, 2), {})
        (3, 1)
    """
    try:
        value = func(*args, **kwargs)
        if type(value) in _LIVE:
            value = _finish(func, value)
    except Exception:
        raise
    except BaseException as e:
        # The boundary around user code: the task fails with a typed error, the thread or worker goes on.
        text = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
        raise AppAborted(f"the app raised {text}, which ends a program; the task failed, its worker goes on") from e
    return value


def _finish(func: Callable[..., Any], value: Any) -> Any:
    """The value of a coroutine; generators are refused."""
    if type(value) is CoroutineType:
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(value)
        return _in_thread(lambda: asyncio.run(value))
    name = getattr(func, "__name__", type(func).__name__)
    kind = "an async generator" if type(value) is AsyncGeneratorType else "a generator"
    if type(value) is GeneratorType:
        value.close()
    raise GeneratorResult(
        f"{name} returned {kind}, which cannot leave the process that it lives in: return list(...) of it"
    )


def _in_thread(call: Callable[[], Any]) -> Any:
    """Run a call in a thread of its own, for this one runs an event loop already."""
    import threading
    from contextvars import copy_context

    result: list[Any] = []

    def body() -> None:
        try:
            result.append((call(), None))
        except BaseException as e:  # noqa: BLE001  # raised again below, in the thread that waits
            result.append((None, e))

    thread = threading.Thread(target=copy_context().run, args=(body,), name="flowlib-coroutine", daemon=True)
    thread.start()
    # As long as the user's coroutine runs: the caller of a function waits for it.
    thread.join()
    value, error = result[0]
    if error is not None:
        raise error
    return value
