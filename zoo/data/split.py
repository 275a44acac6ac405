"""Which side of a split something goes to, by itself alone."""

import hashlib


def place(text: str) -> float:
    """A number in [0, 1) that belongs to a text: what is held out by it stays on its side, whatever else comes."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
