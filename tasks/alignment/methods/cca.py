"""Regularised CCA with Σ^p. In the eigenbasis a trial costs one small SVD. Sources: see `alignment.cca`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import solver, thin_svd
from tasks.alignment.maps import Linear, padded
from tasks.alignment.methods.search import Key, best_of
from tasks.alignment.problem import Choice, Fold, Maps, Problem

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

NAMES = ("rx", "ry", "p")
RIDGES_X = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
RIDGES_Y = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
POWERS = (0.5, 0.7, 0.85, 1.0, 1.5)


def choose(problem: Problem) -> Choice:
    """(rx, ry, p) by cross-validation over groups."""
    if "cca" not in problem.chosen:
        problem.chosen["cca"] = best_of(problem, NAMES, _trials)
    return problem.chosen["cca"]


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from pairs to heads. Cx and Cy are those of the problem's pairs, Cxy that of the pairs given."""
    m, rx, ry, p = problem.whole, choice["rx"], choice["ry"], choice["p"]
    solve = solver(m.xx, m.yy, rx=rx, ry=ry, p=p, dim=problem.plan.dim)

    def fit(pairs: Indices) -> Maps:
        a, b = solve(problem.cross(pairs))
        return Linear(padded(a)), Linear(padded(b))

    return fit


def _trials(fold: Fold, only: set[Key] | None) -> Iterator[tuple[Key, float]]:
    """Score each (rx, ry, p): the eigenbases are found once, a trial scales and decomposes Cxy in them."""
    m, dim = fold.moments, fold.problem.plan.dim
    (dx, vx), (dy, vy) = (np.linalg.eigh(one) for one in (m.xx, m.yy))
    inner, rows = vx.T @ m.xy @ vy, fold.rows.each(_turn(vx), _turn(vy))
    for rx, ry in product(RIDGES_X, RIDGES_Y):
        powers = [p for p in POWERS if only is None or (rx, ry, p) in only]
        if not powers:
            continue
        wx, wy = _scale(dx, rx), _scale(dy, ry)
        u, sigma, vt = thin_svd(wx[:, None] * inner * wy)
        for p in powers:
            weight = sigma[:dim] ** p
            a, b = wx[:, None] * u[:, :dim] * weight, wy[:, None] * vt.T[:, :dim] * weight
            yield (rx, ry, p), fold.score((Linear(a.astype(np.float32)), Linear(b.astype(np.float32))), rows)


def _turn(v: Wide) -> Callable[[Array], Array]:
    return lambda z: np.asarray(z @ v, np.float32)


def _scale(values: Wide, ridge: float) -> Wide:
    return np.asarray(1 / np.sqrt(np.maximum(values, 0) + ridge * values.mean() + 1e-12))
