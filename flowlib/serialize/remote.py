"""What of a remote exception can be carried without rebuilding it: its text, and a wrapper to raise it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn


class RemoteTraceback(Exception):
    """Stands at the end of a remote exception's ``__cause__`` chain, so that a printed traceback shows what happened.

    Args:
        text: The traceback as the worker saw it.
        host: The machine.
        worker: Rank of the worker, -1 if none.
        log: Path of the log to read.
    """

    def __init__(self, text: str, host: str = "", worker: int = -1, log: str = "") -> None:
        super().__init__(text, host, worker, log)
        self.text = text
        self.host = host
        self.worker = worker
        self.log = log

    def __str__(self) -> str:
        place = [f"host {self.host}"] if self.host else []
        if self.worker >= 0:
            place.append(f"worker {self.worker}")
        if self.log:
            place.append(f"log {self.log}")
        where = f"on {', '.join(place)}:\n" if place else ""
        return f"\n{where}{self.text}".rstrip()


class RemoteExceptionWrapper:
    """An exception with the chain behind it, kept as a value to be raised later.

    Args:
        e_type: Its class.
        e_value: The exception.
        traceback: Its traceback, where there is one.

    Example:
        >>> try:
        ...     1 / 0
        ... except ZeroDivisionError as e:
        ...     kept = RemoteExceptionWrapper(type(e), e, e.__traceback__)
        >>> type(kept.get_exception()).__name__
        'ZeroDivisionError'
    """

    def __init__(
        self, e_type: type[BaseException], e_value: BaseException | None, traceback: TracebackType | None = None
    ) -> None:
        self.e_type = e_type
        self.e_value = e_value if e_value is not None else e_type()
        self.e_traceback = traceback

    def get_exception(self) -> BaseException:
        """The exception, with its causes and traceback."""
        if self.e_traceback is not None:
            return self.e_value.with_traceback(self.e_traceback)
        return self.e_value

    def reraise(self) -> NoReturn:
        """Raise the exception."""
        raise self.get_exception()

    def __reduce__(self) -> tuple[object, ...]:
        from flowlib.serialize.envelope import capture, encode_failure

        return _rewrap, (encode_failure(capture(self.get_exception())),)


def _rewrap(payload: bytes) -> RemoteExceptionWrapper:
    from flowlib.serialize.envelope import decode_failure, rebuild

    error = rebuild(decode_failure(payload))
    return RemoteExceptionWrapper(type(error), error)
