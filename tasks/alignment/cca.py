"""Regularised canonical correlation analysis with weighted canonical directions.

Sources: Hotelling 1936; Klein et al. 2015; Canonical Similarity Analysis (Li et al. 2024) for the weights Σ^p.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, eigh, solve_triangular

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
    xy = wide_x.T @ np.asarray(links[used_x][:, used_y] @ wide_y)
    # a matrix with its own transpose takes BLAS half the work
    wide_x *= np.sqrt(left[used_x, None])
    wide_y *= np.sqrt(right[used_y, None])
    return Moments(wide_x.T @ wide_x, wide_y.T @ wide_y, xy)


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


def factor(moment: Real, ridge: float) -> Real:
    """Lower L (d, d) with L·Lᵀ = C + ridge·c̄·I, c̄ the mean eigenvalue of C (d, d), in the precision of C.

    L⁻¹ whitens as (C + ridge·c̄·I)^-½ does, up to a rotation that no head keeps, and costs a tenth.

    >>> factor(np.diag([1.0, 3.0]), 0.5).round(3).tolist()
    [[1.414, 0.0], [0.0, 2.0]]
    """
    floor = ridge * np.trace(moment) / len(moment) + 1e-12
    raised = moment + floor * np.eye(len(moment), dtype=moment.dtype)
    return np.asarray(cholesky(raised, lower=True, overwrite_a=True, check_finite=False))


def thin_svd(m: Real, most: int) -> tuple[Real, Real, Real]:
    """U (dx, k), Σ (k,) largest first and Vᵀ (k, dy) of m (dx, dy), k = min(dx, dy, most), by the smaller Gram matrix.

    Several times faster than a full decomposition, in the precision of `m`. Directions with Σ below 4·√ε of the largest
    (6e-8, in single precision 1e-3) are rounding noise, and are set to zero.

    >>> u, sigma, vt = thin_svd(np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]), 2)
    >>> sigma.round(3).tolist(), np.abs(u @ np.diag(sigma) @ vt).round(3).tolist()
    ([2.0, 1.0], [[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    """
    if m.shape[0] < m.shape[1]:
        u, sigma, vt = thin_svd(m.T, most)
        return vt.T, sigma, u.T
    size = m.shape[1]
    values, v = eigh(m.T @ m, subset_by_index=(max(size - most, 0), size - 1), check_finite=False)
    sigma, v = np.sqrt(np.maximum(values[::-1], 0)), v[:, ::-1]
    sound = sigma > 4 * np.sqrt(np.finfo(m.dtype).eps) * max(float(sigma[0]), 1e-300)
    inverse = np.where(sound, 1 / np.where(sound, sigma, 1), 0).astype(m.dtype)
    return (m @ v) * inverse, np.where(sound, sigma, 0).astype(m.dtype), v.T


def whitened(factor: Real, cross: Real) -> Real:
    """L⁻¹·C (dx, dy) of a `factor` L (dx, dx) and of C (dx, dy)."""
    return np.asarray(solve_triangular(factor, cross, lower=True, check_finite=False))


def directions(lx: Real, half: Real, ly: Real, dim: int) -> tuple[Real, Real, Real]:
    """Canonical directions A (dx, k) and B (dy, k), and correlations (k,), from both `factor`s and Lx⁻¹·Cxy (dx, dy).

    They are the first k = min(dx, dy, dim). A = Lx⁻ᵀ·U and B = Ly⁻ᵀ·V with UΣVᵀ = Lx⁻¹·Cxy·Ly⁻ᵀ. The largest entry of
    each column of A is positive.
    """
    u, sigma, vt = thin_svd(whitened(ly, half.T).T, dim)
    a, b = (solve_triangular(one, z, lower=True, trans="T", check_finite=False) for one, z in ((lx, u), (ly, vt.T)))
    sign = np.where(a[np.abs(a).argmax(0), np.arange(a.shape[1])] < 0, -1, 1).astype(a.dtype)
    return a * sign, b * sign, sigma


def solver(xx: Wide, yy: Wide, *, rx: float, ry: float, p: float, dim: int) -> Callable[[Wide], tuple[Array, Array]]:
    """A function from Cxy (dx, dy) to the heads A·Σ^p (dx, dim) and B·Σ^p (dy, dim); rank by the cosine of x·A and y·B.

    A, B are the canonical directions and Σ the correlations. (C + r·c̄·I)^-½ in place of the factors gives the same.
    """
    lx, ly = factor(xx, rx), factor(yy, ry)

    def solve(xy: Wide) -> tuple[Array, Array]:
        a, b, sigma = directions(lx, whitened(lx, xy), ly, dim)
        return (a * sigma**p).astype(np.float32), (b * sigma**p).astype(np.float32)

    return solve
