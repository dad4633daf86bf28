"""The version of this flowlib, for whoever needs it without the packaging machinery."""

from __future__ import annotations

VERSION = "0.1.0"
