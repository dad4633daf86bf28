"""Remote outcomes as the kernel gets them: nothing of the user's is unpickled until somebody asks."""

from __future__ import annotations

from flowlib.dataflow.outcomes import Blame, Failed
from flowlib.executors.high_throughput.messages import Status
from flowlib.serialize.values import Pickled as Pickled

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
    """

    __slots__ = ("_error", "_payload")

    def __init__(self, payload: bytes, status: int) -> None:
        self.blame = _BLAME.get(status, Blame.USER)
        self._payload = payload
        self._error: BaseException | None = None

    def text(self) -> str:
        """Class and text of the exception, which is not rebuilt for it."""
        payload = self._payload
        if not payload:
            return super().text()
        from flowlib.serialize.envelope import decode_failure

        failure = decode_failure(payload)
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
            if self._error is None:
                self._error = rebuilt
                self._payload = b""
        return self._error
