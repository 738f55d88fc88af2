"""Keys of rows that storage makes by itself."""

from __future__ import annotations

import hashlib


def quarantine_key(collection: str, locator: str, stage: str) -> str:
    """Key of a quarantined thing: blake2b of where it stands and at which stage it failed.

    >>> quarantine_key("c", "a.jpg", "decode") == quarantine_key("c", "a.jpg", "preprocess")
    False
    """
    state = hashlib.blake2b(digest_size=16)
    for part in (collection, locator, stage):
        data = part.encode("utf-8", "surrogateescape")
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()
