"""What all encoders do with raw outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, EncoderError


def unit(raw: Array, name: str) -> Array:
    """Rows of `raw` (n, dim) at unit length. Raises `EncoderError` for a vector that is zero or not finite.

    >>> unit(np.array([[3.0, 4.0]], np.float32), "x").round(2).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise EncoderError(f"{name} gave a vector that is zero or not finite")
    return np.ascontiguousarray(raw / norms, dtype=np.float32)


def filled(rows: Sequence[npt.NDArray[np.uint8]], size: int) -> list[npt.NDArray[np.uint8]]:
    """Inputs stacked to batches of exactly `size`; the last one is filled up by repeating its last row.

    >>> [b.ravel().tolist() for b in filled([np.array([1], np.uint8), np.array([2], np.uint8), np.array([3], np.uint8)], 2)]
    [[1, 2], [3, 3]]
    """
    out = []
    for start in range(0, len(rows), size):
        part = list(rows[start : start + size])
        part += [part[-1]] * (size - len(part))
        out.append(np.stack(part))
    return out
