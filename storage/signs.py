"""The signs of vectors, eight to a byte: what a binary index compares."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.tables import vector_column

Array = npt.NDArray[np.float32]


def sign_bits(vectors: Array) -> npt.NDArray[np.uint8]:
    """Signs of vectors (n, dim) after a fixed random rotation, eight to a byte: (n, ⌈dim / 8⌉).

    The share of unequal bits then estimates the angle (Charikar 2002). Without the rotation the many weak directions of
    a joint space would outvote the few strong ones.

    >>> sign_bits(np.array([[1.0, 0.0], [-2.0, 0.0]], np.float32)).sum(0).tolist()
    [192]
    """
    return np.packbits(vectors @ _rotation(vectors.shape[1]) > 0, axis=1)


def bits_column(vectors: Array) -> pa.Array:
    """The signs of vectors as a fixed-size list column."""
    return vector_column(sign_bits(vectors))


@lru_cache(maxsize=4)
def _rotation(dim: int) -> Array:
    """A random orthogonal matrix, always the same."""
    q, r = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))
    return np.asarray(q * np.sign(np.diag(r)), np.float32)
