"""Ridge regression in both directions, in one joint vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from tasks.alignment.maps import Linear, padded
from tasks.alignment.methods.search import Key, best_of
from tasks.alignment.problem import Choice, Fold, Maps, Problem, Rows

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
    same_x, same_y = (np.eye(len(m)) / np.sqrt(np.trace(m)) for m in (xx, yy))

    def solve(xy: Wide) -> tuple[Array, Array]:
        a = np.concatenate([predictor(xx, xy, rx), same_x], 1)
        b = np.concatenate([same_y, predictor(yy, xy.T, ry)], 1)
        return a.astype(np.float32), b.astype(np.float32)

    return solve


def predictor(own: Any, cross: Any, ridge: float) -> Any:
    """P = (C + r·c̄)⁻¹·Cxy (d, e), scaled so that x·P has a unit mean square; in the precision of the moments."""
    more = ridge * np.trace(own) / len(own)
    p = linalg.solve(own + more * np.eye(len(own), dtype=own.dtype), cross, assume_a="pos", check_finite=False)
    return p / np.sqrt(np.vdot(p, cross - more * p))


def _trials(fold: Fold, only: set[Key] | None) -> Iterator[tuple[Key, Array]]:
    """In single precision; each ridge is solved, and the fold's rows of its side mapped, once."""
    xx, yy, xy = (one.astype(np.float32) for one in fold.moments)
    size_x, size_y = (np.sqrt(np.trace(one)) for one in (xx, yy))

    @cache
    def left(rx: float) -> Rows:
        p = predictor(xx, xy, rx)
        return fold.rows.each(lambda x: np.concatenate([x @ p, x / size_x], 1), _same)

    @cache
    def right(ry: float) -> Rows:
        p = predictor(yy, xy.T, ry)
        return fold.rows.each(_same, lambda y: np.concatenate([y / size_y, y @ p], 1))

    for rx, ry in product(RIDGES, repeat=2):
        if only is None or (rx, ry) in only:
            yield (rx, ry), fold.values_of(Rows.beside(left(rx), right(ry)))


def _same(z: Array) -> Array:
    return z
