"""Regularised canonical correlation analysis with weighted canonical directions.

Sources: Hotelling 1936; Klein et al. 2015; Canonical Similarity Analysis (Li et al. 2024) for the weights Σ^p.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Real = TypeVar("Real", Array, Wide)


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
    links = _links(x, y, pairs, weights)
    left, right = (np.asarray(links.sum(axis)).ravel() for axis in (1, 0))
    used_x, used_y = np.flatnonzero(left), np.flatnonzero(right)
    wide_x, wide_y = x[used_x].astype(np.float64), y[used_y].astype(np.float64)
    return Moments(
        (wide_x * left[used_x, None]).T @ wide_x,
        (wide_y * right[used_y, None]).T @ wide_y,
        wide_x.T @ np.asarray(links[used_x][:, used_y] @ wide_y),
    )


def cross_moment(x: Array, y: Array, pairs: npt.NDArray[np.int64]) -> Wide:
    """Cxy (dx, dy) alone, over `pairs` (m, 2)."""
    links = _links(x, y, pairs, None)
    return np.asarray(x.T.astype(np.float64) @ np.asarray(links @ y.astype(np.float64)))


def without(whole: Moments, part: Moments, share: float) -> Moments:
    """The moments over the pairs of `whole` that are not in `part`; `share` is the part's share of the pairs.

    >>> whole, part = (Moments(*(np.array([[v]]) for v in vs)) for vs in ((2.0, 4.0, 1.0), (4.0, 8.0, 0.0)))
    >>> without(whole, part, 0.25).xx.round(3).tolist()
    [[1.333]]
    """
    return Moments(*((a - share * b) / (1 - share) for a, b in zip(whole, part, strict=True)))


def _links(x: Array, y: Array, pairs: npt.NDArray[np.int64], weights: npt.NDArray[np.float64] | None) -> Any:
    """The pairs as a sparse matrix (nx, ny) of weights that sum to 1."""
    from scipy.sparse import csr_matrix

    w = np.ones(len(pairs)) if weights is None else weights
    return csr_matrix((w / w.sum(), (pairs[:, 0], pairs[:, 1])), shape=(len(x), len(y)))


def whitening(moment: Wide, ridge: float) -> Wide:
    """(C + ridge·c̄·I)^-½ with c̄ the mean eigenvalue of C (d, d).

    >>> whitening(np.diag([1.0, 3.0]), 0.5).round(3).tolist()
    [[0.707, 0.0], [0.0, 0.5]]
    """
    values, vectors = np.linalg.eigh(moment)
    floor = ridge * values.mean() + 1e-12
    return np.asarray((vectors / np.sqrt(np.maximum(values, 0) + floor)) @ vectors.T)


def thin_svd(m: Real) -> tuple[Real, Real, Real]:
    """U (dx, k), Σ (k,) largest first and Vᵀ (k, dy) of m (dx, dy), k = min(dx, dy), through the smaller Gram matrix.

    Several times faster than a full decomposition, in the precision of `m`. Directions with Σ below 4·√ε of the largest
    (6e-8, in single precision 1e-3) are rounding noise, and are set to zero.

    >>> u, sigma, vt = thin_svd(np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]))
    >>> sigma.round(3).tolist(), np.abs(u @ np.diag(sigma) @ vt).round(3).tolist()
    ([2.0, 1.0], [[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    """
    if m.shape[0] < m.shape[1]:
        u, sigma, vt = thin_svd(m.T)
        return vt.T, sigma, u.T
    values, v = np.linalg.eigh(m.T @ m)
    sigma, v = np.sqrt(np.maximum(values[::-1], 0)), v[:, ::-1]
    sound = sigma > 4 * np.sqrt(np.finfo(m.dtype).eps) * max(float(sigma[0]), 1e-300)
    inverse = np.where(sound, 1 / np.where(sound, sigma, 1), 0).astype(m.dtype)
    return (m @ v) * inverse, np.where(sound, sigma, 0).astype(m.dtype), v.T


def solver(xx: Wide, yy: Wide, *, rx: float, ry: float, p: float, dim: int) -> Callable[[Wide], tuple[Array, Array]]:
    """A function from Cxy (dx, dy) to the heads A = Wx·U·Σ^p (dx, dim) and B = Wy·V·Σ^p (dy, dim).

    UΣVᵀ is the decomposition of Wx·Cxy·Wy; Σ are the canonical correlations. Rank by the cosine of x·A and y·B.
    """
    wx, wy = whitening(xx, rx), whitening(yy, ry)

    def solve(xy: Wide) -> tuple[Array, Array]:
        u, sigma, vt = thin_svd(wx @ xy @ wy)
        sign = np.where(u[np.abs(u).argmax(0), np.arange(u.shape[1])] < 0, -1.0, 1.0)
        weight = (sign * sigma**p)[:dim]
        a, b = wx @ (u[:, :dim] * weight), wy @ (vt.T[:, :dim] * weight)
        return a.astype(np.float32), b.astype(np.float32)

    return solve
