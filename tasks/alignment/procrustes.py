"""Orthogonal Procrustes: the rotation that lays one space on the other. Source: Schönemann 1966."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def rotate(xy: npt.NDArray[np.float64], *, dim: int) -> tuple[Array, Array]:
    """Heads A (dx, k) and B (dy, k) from Cxy (dx, dy), with x·A ≈ y·B, k ≤ min(dx, dy, dim).

    Features come in principal components, largest first, so the first k columns are the common width. A is the
    rotation that maximises the summed dot products, B the identity on these columns.
    """
    k = min(*xy.shape, dim)
    u, _, vt = np.linalg.svd(xy[:k, :k])
    a = np.zeros((xy.shape[0], k), np.float32)
    a[:k] = u @ vt
    return a, np.eye(xy.shape[1], k, dtype=np.float32)
