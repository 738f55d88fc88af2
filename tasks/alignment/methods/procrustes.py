"""Orthogonal Procrustes: the rotation that lays one space on the other. Source: Schönemann 1966."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tasks.alignment.maps import Linear, padded
from tasks.alignment.methods.search import Key, best_of
from tasks.alignment.problem import Choice, Fold, Maps, Problem

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def choose(problem: Problem) -> Choice:
    """Nothing is to be chosen; the held-out rsum is that of the only way."""

    def trial(fold: Fold, _only: set[Key] | None) -> list[tuple[Key, Array]]:
        a, b = rotate(fold.moments.xy, dim=problem.plan.dim)
        return [((), fold.values((Linear(a), Linear(b))))]

    return best_of(problem, (), trial)


def prepare(problem: Problem, _choice: Choice) -> Callable[[Indices], Maps]:
    """A function from pairs to heads."""

    def fit(pairs: Indices) -> Maps:
        a, b = rotate(problem.cross(pairs), dim=problem.plan.dim)
        return Linear(padded(a)), Linear(padded(b))

    return fit


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
