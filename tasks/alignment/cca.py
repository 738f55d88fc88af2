"""Regularised canonical correlation analysis with weighted canonical directions.

Sources: Hotelling 1936; Klein et al. 2015; Canonical Similarity Analysis (Li et al. 2024) for the weights Σ^p.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]


class Moments(NamedTuple):
    """Second moments of paired, centred features: Cx (dx, dx), Cy (dy, dy) and Cxy (dx, dy)."""

    xx: Wide
    yy: Wide
    xy: Wide


def moments(
    x: Array, y: Array, pairs: npt.NDArray[np.int64], weights: npt.NDArray[np.float64] | None = None
) -> Moments:
    """Weighted second moments over `pairs` (m, 2) of rows of `x` (nx, dx) and `y` (ny, dy).

    The rows of the pairs are never laid out: an item's weight is the sum over its pairs, and Cxy needs the sum of each
    left item's partners alone, so memory is that of `x` and `y`.
    """
    from scipy.sparse import csr_matrix

    w = np.ones(len(pairs)) if weights is None else weights
    w = w / w.sum()
    links = csr_matrix((w, (pairs[:, 0], pairs[:, 1])), shape=(len(x), len(y)))
    left = np.asarray(links.sum(1)).ravel()
    right = np.asarray(links.sum(0)).ravel()
    wide_x, wide_y = x.astype(np.float64), y.astype(np.float64)
    return Moments(
        (wide_x * left[:, None]).T @ wide_x,
        (wide_y * right[:, None]).T @ wide_y,
        wide_x.T @ np.asarray(links @ wide_y),
    )


def whitening(moment: Wide, ridge: float) -> Wide:
    """(C + ridge·c̄·I)^-½ with c̄ the mean eigenvalue of C (d, d).

    >>> whitening(np.diag([1.0, 3.0]), 0.5).round(3).tolist()
    [[0.707, 0.0], [0.0, 0.5]]
    """
    values, vectors = np.linalg.eigh(moment)
    floor = ridge * values.mean() + 1e-12
    return np.asarray((vectors / np.sqrt(np.maximum(values, 0) + floor)) @ vectors.T)


def canonical(m: Moments, rx: float, ry: float) -> tuple[Wide, Wide, Wide]:
    """Whitened directions Wx·U (dx, k), Wy·V (dy, k) and canonical correlations Σ (k,), largest first."""
    wx, wy = whitening(m.xx, rx), whitening(m.yy, ry)
    u, sigma, vt = np.linalg.svd(wx @ m.xy @ wy, full_matrices=False)
    sign = np.where(u[np.abs(u).argmax(0), np.arange(u.shape[1])] < 0, -1.0, 1.0)
    return wx @ (u * sign), wy @ (vt.T * sign), sigma


def fit_cca(m: Moments, *, rx: float, ry: float, p: float, dim: int) -> tuple[Array, Array]:
    """Heads A = Wx·U·Σ^p (dx, dim) and B = Wy·V·Σ^p (dy, dim); rank by the cosine of x·A and y·B."""
    a, b, sigma = canonical(m, rx, ry)
    weight = sigma[:dim] ** p
    return (a[:, :dim] * weight).astype(np.float32), (b[:, :dim] * weight).astype(np.float32)
