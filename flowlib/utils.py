"""Small helpers that the field's scripts import from here."""

from __future__ import annotations

from flowlib.dataflow.memoization import get_all_checkpoints as get_all_checkpoints
from flowlib.dataflow.memoization import get_last_checkpoint as get_last_checkpoint
from flowlib.representation import RepresentationMixin as RepresentationMixin

__all__ = ["RepresentationMixin", "get_all_checkpoints", "get_last_checkpoint"]
