"""What a Kubernetes provider remembers of a pod, or of a request that may have made one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flowlib.jobs.states import JobState, JobStatus
from flowlib.providers import pods


@dataclass(frozen=True)
class PodEnd:
    """How a job ended."""

    state: JobState
    reason: str
    exit_code: int | None = None
    output: str | None = None


@dataclass(eq=False)
class PodJob:
    """A pod, or a call that may have made one.

    Attributes:
        name: Of the pod, and of its secret.
        job_name: The block's.
        manifest: What was asked for.
        secret: Its secret; None if there is none.
        path: Where the manifest was written.
        status: What is known.
        uid: The pod's; "" as long as it is not known whether there is one.
        owned: Whether the secret knows its pod.
        doubt: Why that is so.
        absent: How often in a row there was no such pod.
        stuck_since: Since when it has waited for something that may not come.
        cancelled: Whether it was told to end.
        over: Whether it ended.
    """

    name: str
    job_name: str
    manifest: pods.Json
    secret: pods.Json | None
    path: str | None
    status: JobStatus = field(default_factory=lambda: JobStatus(JobState.PENDING))
    uid: str = ""
    owned: bool = False
    doubt: str = ""
    absent: int = 0
    stuck_since: float | None = None
    cancelled: bool = False
    over: bool = False

    def told(self) -> JobStatus:
        """The status as callers see it."""
        if self.doubt and not self.over:
            return replace(self.status, state=JobState.UNKNOWN, message=self.doubt)
        return self.status

    def secret_bytes_gone(self) -> None:
        """Keep no key longer than it is needed."""
        if self.secret is not None:
            self.secret = {}
