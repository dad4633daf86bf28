"""Files, as arguments and outputs of apps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from flowlib._aliases import submodules

    # `import flowlib` is enough for flowlib.data_provider.files.File and alike.
    __getattr__ = submodules(__name__)
