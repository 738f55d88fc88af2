"""Fixed batch shapes, so that a vector does not depend on its company: length buckets and rows a batch."""

from __future__ import annotations

from tasks.encoders.protocol import Runtime

BUCKETS = (8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
"""Padded lengths in tokens. An item's own length picks one; fine steps where captions lie, for padding costs time."""

_TOKENS = {"openvino": 256, "torch": 4096}


def bucket(length: int) -> int:
    """The padded length of an item of `length` tokens; longer items are cut to the last one.

    >>> bucket(7), bucket(16), bucket(17), bucket(999)
    (8, 16, 20, 256)
    """
    return next((size for size in BUCKETS if length <= size), BUCKETS[-1])


def shapes(modality: str, runtime: Runtime) -> list[tuple[int, int]]:
    """The compiled batch shapes of a runtime: `(rows, padded length)` a bucket for texts, `(rows, 0)` for others.

    Rows are what measured best (see README): OpenVINO works one item or 256 tokens a stream; bf16 on AMX likes 16 images.
    """
    if modality != "text":
        if runtime.device == "cuda":
            return [(64, 0)]
        return [(16 if runtime.dtype == "bfloat16" else 1, 0)]
    tokens = 8192 if runtime.device == "cuda" else _TOKENS[runtime.name]
    return [(max(tokens // size, 1), size) for size in BUCKETS]
