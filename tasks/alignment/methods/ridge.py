"""Ridge regression in both directions, in one joint vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

from tasks.alignment.maps import Linear, padded
from tasks.alignment.methods.search import Key, best_of
from tasks.alignment.problem import Choice, Fold, Maps, Problem

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

NAMES = ("rx", "ry")
RIDGES = (0.1, 1.0, 10.0)


def choose(problem: Problem) -> Choice:
    """(rx, ry) by cross-validation over groups."""
    return best_of(problem, NAMES, _trials)


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from pairs to heads, with Cx and Cy of the problem's pairs."""
    m = problem.whole
    solve = solver(m.xx, m.yy, rx=choice["rx"], ry=choice["ry"])

    def fit(pairs: Indices) -> Maps:
        a, b = solve(problem.cross(pairs))
        return Linear(padded(a)), Linear(padded(b))

    return fit


def solver(xx: Wide, yy: Wide, *, rx: float, ry: float) -> Callable[[Wide], tuple[Array, Array]]:
    """A function from Cxy (dx, dy) to the heads A = [Px, I] (dx, dy + dx) and B = [I, Py] (dy, dy + dx).

    Px = (Cx + rx·c̄)⁻¹·Cxy predicts y from x, Py the reverse. The dot product of x·A and y·B is then the sum of the
    similarities in either direction. Each half is scaled to unit mean square in place of z-scores, which no single
    vector can hold.
    """
    lift_x, lift_y = (m + r * np.trace(m) / len(m) * np.eye(len(m)) for m, r in ((xx, rx), (yy, ry)))
    same_x, same_y = (np.eye(len(m)) / np.sqrt(np.trace(m)) for m in (xx, yy))

    def solve(xy: Wide) -> tuple[Array, Array]:
        px, py = np.linalg.solve(lift_x, xy), np.linalg.solve(lift_y, xy.T)
        a = np.concatenate([px / _size(px, xx), same_x], 1)
        b = np.concatenate([same_y, py / _size(py, yy)], 1)
        return a.astype(np.float32), b.astype(np.float32)

    return solve


def _trials(fold: Fold, only: set[Key] | None) -> Iterator[tuple[Key, float]]:
    m = fold.moments
    for key in product(RIDGES, repeat=2):
        if only is None or key in only:
            a, b = solver(m.xx, m.yy, rx=key[0], ry=key[1])(m.xy)
            yield key, fold.score((Linear(a), Linear(b)))


def _size(head: Wide, moment: Wide) -> float:
    return float(np.sqrt(np.trace(head.T @ moment @ head)))
