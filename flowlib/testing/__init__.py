"""Tools for testing what runs on flowlib: fake schedulers, a pretended cluster, the tests that every provider passes.

They are shipped because those who need them do not have flowlib's own tests: a centre that keeps a site file, a
project that runs on five machines, the author of a provider.  Nothing here needs more than flowlib, except
``flowlib.testing.provider_suite``, which is for pytest.

Example:
    >>> from flowlib.testing import fake_scheduler
    >>> with fake_scheduler("slurm", queues=["debug"]) as slurm:
    ...     provider = slurm.provider(partition="debug")
    ...     job = provider.submit("echo hello", 1)
    ...     len(slurm.jobs())
    1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowlib.testing.kube import FakeKubernetes as FakeKubernetes
    from flowlib.testing.schedulers import KINDS as KINDS
    from flowlib.testing.schedulers import FakeJob as FakeJob
    from flowlib.testing.schedulers import FakeScheduler as FakeScheduler
    from flowlib.testing.schedulers import fake_scheduler as fake_scheduler
    from flowlib.testing.waiting import status_of as status_of
    from flowlib.testing.waiting import wait_for_state as wait_for_state
    from flowlib.testing.waiting import wait_until as wait_until

_HOMES = {
    "KINDS": "flowlib.testing.schedulers",
    "FakeJob": "flowlib.testing.schedulers",
    "FakeKubernetes": "flowlib.testing.kube",
    "FakeScheduler": "flowlib.testing.schedulers",
    "fake_scheduler": "flowlib.testing.schedulers",
    "status_of": "flowlib.testing.waiting",
    "wait_for_state": "flowlib.testing.waiting",
    "wait_until": "flowlib.testing.waiting",
}
"""Where each public name is; nothing is loaded before it is asked for."""

__all__ = [
    "KINDS",
    "FakeJob",
    "FakeKubernetes",
    "FakeScheduler",
    "fake_scheduler",
    "status_of",
    "wait_for_state",
    "wait_until",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
