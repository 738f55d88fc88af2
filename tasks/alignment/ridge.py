"""Ridge regression in both directions, in one joint vector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import Moments

Array = npt.NDArray[np.float32]


def fit_ridge(m: Moments, *, rx: float, ry: float) -> tuple[Array, Array]:
    """Heads A = [Px, I] (dx, dy + dx) and B = [I, Py] (dy, dy + dx), each half scaled to unit mean square.

    Px = (Cx + rx·c̄)⁻¹·Cxy predicts y from x, Py the reverse. The dot product of x·A and y·B is then the sum of the
    similarities in either direction; the scaling takes the place of z-scores, which no single vector can hold.
    """
    px = np.linalg.solve(m.xx + rx * np.trace(m.xx) / len(m.xx) * np.eye(len(m.xx)), m.xy)
    py = np.linalg.solve(m.yy + ry * np.trace(m.yy) / len(m.yy) * np.eye(len(m.yy)), m.xy.T)
    a = np.concatenate([px / _size(px, m.xx), np.eye(len(m.xx)) / _size(np.eye(len(m.xx)), m.xx)], 1)
    b = np.concatenate([np.eye(len(m.yy)) / _size(np.eye(len(m.yy)), m.yy), py / _size(py, m.yy)], 1)
    return a.astype(np.float32), b.astype(np.float32)


def _size(head: npt.NDArray[np.float64], moment: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.trace(head.T @ moment @ head)))
