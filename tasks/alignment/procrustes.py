"""Orthogonal Procrustes: the rotation that lays one space on the other. Source: Schönemann 1966."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import Moments

Array = npt.NDArray[np.float32]


def fit_procrustes(m: Moments, *, dim: int) -> tuple[Array, Array]:
    """Heads A (dx, k) and B (dy, k) with x·A ≈ y·B, k ≤ min(dx, dy, dim).

    Features come in principal components, largest first, so the first k columns are the common width. A is the
    rotation that maximises the summed dot products, B the identity on these columns.
    """
    k = min(m.xx.shape[0], m.yy.shape[0], dim)
    u, _, vt = np.linalg.svd(m.xy[:k, :k])
    a = np.zeros((m.xx.shape[0], k), np.float32)
    a[:k] = u @ vt
    return a, np.eye(m.yy.shape[0], k, dtype=np.float32)
