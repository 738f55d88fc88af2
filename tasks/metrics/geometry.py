"""The shape of a joint space: how far the modalities lie apart, and how well an index finds what is near."""

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


def neighbour_recall(found: npt.NDArray[np.str_], exact: npt.NDArray[np.str_]) -> float:
    """Share of the exact neighbours (n, k) that stand among the found ones (n, m), of any order.

    >>> neighbour_recall(np.array([["a", "b"]]), np.array([["b", "c"]]))
    0.5
    """
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in zip(found, exact, strict=True)]))
