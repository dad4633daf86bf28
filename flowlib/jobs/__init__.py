"""States of blocks' jobs, and what to make of failed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from flowlib._aliases import submodules

    __getattr__ = submodules(__name__)
