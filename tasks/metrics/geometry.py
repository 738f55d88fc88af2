"""The shape of a joint space: how far the modalities lie apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def modality_gap(a: Array, b: Array) -> float:
    """Distance between the mean vectors of two modalities, 0 to 2 for unit vectors (Liang et al. 2022).

    >>> modality_gap(np.array([[1.0, 0.0]], np.float32), np.array([[-1.0, 0.0]], np.float32))
    2.0
    """
    return float(np.linalg.norm(a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)))
