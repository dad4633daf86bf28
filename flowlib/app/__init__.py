"""Apps: functions whose calls become tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from flowlib._aliases import submodules

    # `import flowlib` is enough for flowlib.app.errors.AppTimeout and alike.
    __getattr__ = submodules(__name__)
