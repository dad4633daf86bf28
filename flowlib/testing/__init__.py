"""Tools for testing what runs on flowlib: a pretended Kubernetes cluster.

They are shipped because those who need them do not have flowlib's own tests. Nothing here needs more than flowlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowlib.testing.kube import FakeKubernetes as FakeKubernetes

_HOMES = {
    "FakeKubernetes": "flowlib.testing.kube",
}
"""Where each public name is; nothing is loaded before it is asked for."""

__all__ = ["FakeKubernetes"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
