"""Keys, and the private file that tells a block's managers how to reach the interchange.

Each run has a key pair for its interchange and each block one of its own.  They travel in files that nobody else can
read, never on a command line.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

BLOCK_FILE = "block.json"
"""Name of the file that a manager is given."""


class KeyPair(NamedTuple):
    """A CURVE key pair, in Z85; empty without encryption."""

    public: bytes = b""
    secret: bytes = b""


def make_key_pair(encrypted: bool = True) -> KeyPair:
    """A new key pair, or the empty one."""
    if not encrypted:
        return KeyPair()
    import zmq

    return KeyPair(*zmq.curve_keypair())


def block_file(settings: dict[str, Any], *, server: KeyPair, client: KeyPair, block: str) -> bytes:
    """The contents of a block's file.

    Args:
        settings: What is the same for all blocks of the executor, as it stands in the file.
        server: The interchange's keys; only the public one is written.
        client: The block's keys.
        block: The block's id.
    """
    document = {
        **settings,
        "server_public": server.public.decode(),
        "client_public": client.public.decode(),
        "client_secret": client.secret.decode(),
        "block": block,
    }
    return json.dumps(document, indent=1).encode()


def write_private(directory: str, name: str, content: bytes) -> str:
    """Write a file that only its owner can read, in a directory that only its owner can enter.

    Returns:
        Its path.

    Raises:
        OSError: It cannot be written.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
    return path
