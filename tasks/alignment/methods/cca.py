"""Regularised CCA with Σ^p: a trial costs two triangular solutions and one small SVD. Sources: see `alignment.cca`.

Where one side stands in a joint space already, both maps are moved to the other side: x·A·Σ^2p·Bᵀ against y as it is
ranks by the same dot products as x·A·Σ^p against y·B·Σ^p. There pairs are few as a rule, and the search starts from
`CALM`: neither side is whitened, so that no covariance is learned from them. A and B are then the singular vectors of
Cxy (Tucker 1958, inter-battery factor analysis), and the root of its singular values stands between Cxy itself and the
rotation of Procrustes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import product

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import directions, factor, solver, whitened
from tasks.alignment.maps import Linear, padded
from tasks.alignment.methods.search import FEW, Key, best_of, uphill
from tasks.alignment.problem import Choice, Fold, Maps, Problem, Rows

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

NAMES = ("rx", "ry", "p")
RIDGES_X = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
RIDGES_Y = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
POWERS = (0.5, 0.7, 0.85, 1.0, 1.5)
CALM = (10_000.0, 10_000.0, 0.25)
"""(rx, ry, p) that stand when binding, unless others are surely better: beside such ridges a covariance is nothing."""
_START, _MANY_START = (3, 3), (2, 2)
"""Where the walk begins, and where with `_MANY` pairs: the places of (3, 1) and of (1, 0.3)."""
_MANY = 10_000


def choose(problem: Problem) -> Choice:
    """(rx, ry, p) by cross-validation over groups; with many pairs the ridges are found by a walk uphill."""
    if "cca" not in problem.chosen:
        explore = None if len(problem.pairs) < FEW else _walk
        start = None if problem.rest is None else CALM
        problem.chosen["cca"] = best_of(problem, NAMES, trials, explore, start)
    return problem.chosen["cca"]


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from pairs to heads. Cx and Cy are those of the problem's pairs, Cxy that of the pairs given."""
    m, rx, ry, p = problem.whole, choice["rx"], choice["ry"], choice["p"]
    solve = solver(m.xx, m.yy, rx=rx, ry=ry, p=p, dim=problem.plan.dim)
    return lambda pairs: linear(problem, *solve(problem.cross(pairs)))


def linear(problem: Problem, a: Array, b: Array) -> Maps:
    """The maps of weighted directions A (dx, k) and B (dy, k); y that stands is mapped by the identity."""
    if problem.rest is None:
        return Linear(padded(a)), Linear(padded(b))
    return Linear(a @ b.T), Linear(np.eye(len(b), dtype=np.float32))


def trials(fold: Fold, only: set[Key] | None) -> Iterator[tuple[Key, Array]]:
    """Score each (rx, ry, p) of the grid, or those in `only`, among which `CALM` may be."""
    at = _scorer(fold)
    for rx, ry in product(RIDGES_X, RIDGES_Y):
        powers = [p for p in POWERS if only is None or (rx, ry, p) in only]
        if powers:
            yield from at(rx, ry, powers)
    if only and CALM in only:
        rx, ry, p = CALM
        yield from at(rx, ry, [p])


def _walk(fold: Fold) -> list[tuple[Key, Array]]:
    """The scores along a walk uphill over the ridges: with many pairs the surface is smooth."""
    at, out = _scorer(fold), []

    def best(row: int, column: int) -> float:
        found = list(at(RIDGES_X[row], RIDGES_Y[column], POWERS))
        out.extend(found)
        return max(float(values.mean()) for _, values in found)

    uphill(best, (len(RIDGES_X), len(RIDGES_Y)), _MANY_START if len(fold.train) > _MANY else _START)
    return out


def _scorer(fold: Fold) -> Callable[[float, float, Sequence[float]], Iterator[tuple[Key, Array]]]:
    """A function that scores (rx, ry) under several p, which cost next to nothing more than one.

    In single precision: a trial ranks values, the heads are computed anew.
    """
    dim, stands = fold.problem.plan.dim, fold.problem.rest is not None
    (xx, yy, xy), own, shares = _compact(fold)
    same = Linear(np.eye(len(yy), dtype=np.float32))
    right = cache(partial(_factor, yy, shares[1]))

    @cache
    def left(rx: float) -> tuple[Array, Array]:
        lx = _factor(xx, shares[0], rx)
        return lx, whitened(lx, xy)

    def scores(rx: float, ry: float, powers: Sequence[float]) -> Iterator[tuple[Key, Array]]:
        a, b, sigma = directions(*left(rx), right(ry), dim)
        rows = own.each(Linear(a).apply, same.apply if stands else Linear(b).apply)
        for p in powers:
            weigh = partial(np.multiply, sigma**p)
            there = Linear((b * sigma ** (2 * p)).T).apply if stands else weigh
            yield (rx, ry, p), fold.values_of(rows.each(there, same.apply if stands else weigh))

    return scores


def _compact(fold: Fold) -> tuple[tuple[Array, Array, Array], Rows, tuple[float, float]]:
    """The moments and the rows of a fold, and the share of the dimensions that they have.

    Where pairs are few they are given in the span of the pairs' features: Cxy knows of nothing else, so the directions
    lie there, and are found at the cost of as many dimensions as there are pairs.
    """
    xx, yy, xy = (one.astype(np.float32) for one in fold.moments)
    if fold.problem.rest is not None or 2 * len(fold.train) > min(xy.shape):
        return (xx, yy, xy), fold.rows, (1.0, 1.0)
    x, y = (
        np.linalg.qr(z[np.unique(fold.train[:, side])].T)[0] for side, z in enumerate((fold.problem.x, fold.problem.y))
    )
    rows = fold.rows.each(Linear(x).apply, Linear(y).apply)
    return (x.T @ xx @ x, y.T @ yy @ y, x.T @ xy @ y), rows, (x.shape[1] / len(xx), y.shape[1] / len(yy))


def _factor(moment: Array, share: float, ridge: float) -> Array:
    """The factor of a moment in a share of the dimensions; the ridge is relative to the mean over all of them."""
    return factor(moment, ridge * share)
