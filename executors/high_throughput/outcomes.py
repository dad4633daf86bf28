"""Remote outcomes as the kernel gets them: nothing of the user's is unpickled until somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowlib.dataflow.outcomes import Blame, Failed, annotate
from flowlib.executors.high_throughput.messages import Status
from flowlib.serialize.values import Pickled as Pickled

if TYPE_CHECKING:
    from flowlib.serialize.envelope import Failure

_BLAME = {
    int(Status.RAISED): Blame.USER,
    int(Status.WORKER_LOST): Blame.USER,
    int(Status.LOST): Blame.INFRASTRUCTURE,
    int(Status.REFUSED): Blame.REFUSED,
}


class RemoteFailed(Failed):
    """A failure in the form in which it travelled; its exception is rebuilt when it is first asked for.

    Args:
        payload: The encoded ``Failure``.
        status: A ``Status`` value other than OK and WITHDRAWN.
        manager: Name of the manager that had the task; "" for none.
    """

    __slots__ = ("_error", "_note", "_payload", "manager")

    def __init__(self, payload: bytes, status: int, manager: str = "") -> None:
        self.blame = _BLAME.get(status, Blame.USER)
        self.manager = manager
        self._payload = payload
        self._note = ""
        self._error: BaseException | None = None

    def text(self) -> str:
        """Class and text of the exception, which is not rebuilt for it."""
        failure = self._failure()
        if failure is None:
            return super().text()
        return f"{failure.type_name.rpartition('.')[2]}: {failure.message}"

    @property
    def error(self) -> BaseException:  # type: ignore[override]
        """The exception that ``result()`` raises; always the same one."""
        # Read before the check: it is emptied after the error is set.
        payload = self._payload
        if self._error is None:
            from flowlib.serialize.envelope import decode_failure, rebuild

            # Two threads may both rebuild it; the first one's is everybody's.
            rebuilt = rebuild(decode_failure(payload))
            if self._note:
                annotate(rebuilt, self._note)
            if self._error is None:
                self._error = rebuilt
                self._payload = b""
        return self._error

    def kinds(self) -> tuple[str, ...]:
        """Qualified names of the exception's class and of its bases; the exception is not rebuilt for it."""
        failure = self._failure()
        return super().kinds() if failure is None else (failure.type_name, *failure.bases)

    def host(self) -> str:
        """The machine where it happened."""
        failure = self._failure()
        return super().host() if failure is None else failure.host

    def memory(self) -> tuple[int, int]:
        """Bytes that the task might use, and the most that it did."""
        failure = self._failure()
        if failure is None:
            return super().memory()
        if failure.type_name != "flowlib.errors.OutOfMemory" or failure.arguments is None:
            return 0, 0
        return failure.arguments[2], failure.arguments[3]

    def add_note(self, note: str) -> None:
        """Let the exception carry a note when it is rebuilt."""
        if self._error is not None:
            super().add_note(note)
        else:
            self._note = note

    def _failure(self) -> Failure | None:
        """What is known without rebuilding; None once that was done."""
        payload = self._payload
        if not payload:
            return None
        from flowlib.serialize.envelope import decode_failure

        return decode_failure(payload)
