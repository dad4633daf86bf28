"""How the processes of an executor keep their logs.

Plainly, or as the run's ``LogConfig`` says, which comes to them with their settings.
"""

from __future__ import annotations

import logging
import os
from typing import TextIO

FORMAT = "%(asctime)s %(levelname)-7s %(name)s %(message)s"

log = logging.getLogger("flowlib.logs")


def packed(setting: object) -> bytes:
    """A Config's ``initialize_logging`` for other processes; b"" if it is no ``LogConfig``.

    Raises:
        SerializationError: It cannot be pickled.
    """
    if setting is None or isinstance(setting, bool):
        return b""
    from flowlib.serialize.facade import serialize

    return serialize(setting)


def start(config: bytes, path: str, debug: bool, stream: TextIO | None = None) -> None:
    """Start the log of this process.

    Args:
        config: From ``packed``.
        path: The log's usual file. A ``LogConfig`` gets its directory, and its name without ending.
        debug: Whether to log more, without a ``LogConfig``.
        stream: What is written to instead of the file, without a ``LogConfig``.
    """
    if config and _as_configured(config, path):
        return
    level = logging.DEBUG if debug else logging.INFO
    if stream is not None:
        logging.basicConfig(stream=stream, level=level, format=FORMAT)
    else:
        logging.basicConfig(filename=path, level=level, format=FORMAT)


def _as_configured(config: bytes, path: str) -> bool:
    from flowlib.serialize.facade import deserialize

    directory, name = os.path.split(path)
    try:
        deserialize(config).initialize_logging(log_dir=directory, log_name=os.path.splitext(name)[0])
    except Exception:
        # Users' code, on a machine that it was not tried on: the log is plain then, and begins with the reason.
        logging.basicConfig(filename=path, level=logging.INFO, format=FORMAT)
        log.exception("the run's LogConfig fails in process %d, which logs plainly", os.getpid())
    return True
