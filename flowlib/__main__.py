"""``python -m flowlib`` is the ``flowlib`` command, wherever the installed one is not on ``PATH``."""

from __future__ import annotations

import sys

from flowlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
