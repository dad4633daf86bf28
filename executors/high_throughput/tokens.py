"""Keys that may be used once: which there are, for which block, and what became of them.

Where private files can travel only in a text that others may read later, such as the start-up data of a cloud machine,
a block gets a key that is good for one thing: to name a key of its own making.  From then on it is good for nothing.
Pure: keys are bytes.
"""

from __future__ import annotations


class Tokens:
    """The keys that may be used once.

    Example:
        >>> tokens = Tokens()
        >>> tokens.issue("3", b"once")
        >>> tokens.exchange("3", b"mine"), tokens.exchange("3", b"another's"), tokens.exchange("3", b"mine")
        (True, False, True)
        >>> tokens.block_of(b"once") is None
        True
    """

    def __init__(self) -> None:
        self._blocks: dict[bytes, str] = {}
        self._given: dict[str, bytes] = {}

    def __bool__(self) -> bool:
        """Whether one was ever issued."""
        return bool(self._blocks or self._given)

    def issue(self, block: str, key: bytes) -> None:
        """A key may be used once for a block; a former one of that block may not any more."""
        self._void(block)
        self._given.pop(block, None)
        self._blocks[key] = block

    def block_of(self, key: bytes) -> str | None:
        """The block that a key may still be used for."""
        return self._blocks.get(key)

    def exchange(self, block: str, new: bytes) -> bool:
        """Use a block's key to name a new one.

        Whoever was let in by the key may ask again, because its way home has several roads and answers get lost.

        Args:
            block: Whose key it is.
            new: The new key.

        Returns:
            Whether the new key is the block's: it is the first that was named.
        """
        if block in self._given:
            return self._given[block] == new
        if block not in self._blocks.values():
            return False
        self._void(block)
        self._given[block] = new
        return True

    def _void(self, block: str) -> None:
        self._blocks = {key: of for key, of in self._blocks.items() if of != block}
