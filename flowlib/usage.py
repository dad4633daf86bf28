"""Levels of usage tracking, so that configurations which name one can be read: flowlib tracks nothing."""

from __future__ import annotations

DISABLED = 0
LEVEL_1 = 1
LEVEL_2 = 2
LEVEL_3 = 3
