"""The kernel: tasks, their graph, their futures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from flowlib._aliases import submodules

    __getattr__ = submodules(__name__)
