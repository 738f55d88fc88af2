"""Small array steps that all encoders share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, EncoderError, EncoderSpec


def unit(vectors: npt.NDArray[Any], name: str) -> Array:
    """Each row of `(n, d)` divided by its length: float32, C-contiguous.

    Raises `EncoderError` naming the encoder when a row is not finite or has no direction.

    >>> unit(np.array([[3, 4]], np.float32), "x").tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    wide = vectors.astype(np.float64)  # so that the norm is 1 to the last float32 bit, and no square overflows
    norms = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    if not np.isfinite(norms).all() or (norms == 0).any():
        bad = int((~np.isfinite(norms) | (norms == 0)).sum())
        raise EncoderError(f"{name} gave {bad} of {len(vectors)} vectors without a direction", "check its weights")
    return np.ascontiguousarray(wide / norms, dtype=np.float32)


def finished(raw: Array, spec: EncoderSpec) -> npt.NDArray[Any]:
    """What an encoder gives, from its raw output (n, …): unit vectors (n, dim), tokens in half precision."""
    vectors = unit(raw.reshape(len(raw), -1), spec.name)
    return vectors.astype(np.float16) if spec.tokens else vectors


def filled(inputs: Sequence[Any], rows: int) -> Iterator[npt.NDArray[Any]]:
    """Batches of exactly `rows` inputs, stacked; the last is filled up with copies of the last input.

    >>> [batch.tolist() for batch in filled([1, 2, 3], 2)]
    [[1, 2], [3, 3]]
    """
    for start in range(0, len(inputs), rows):
        part = list(inputs[start : start + rows])
        yield np.stack(part + [part[-1]] * (rows - len(part)))
