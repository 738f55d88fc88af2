"""Do two encoders find the same things alike? Mutual k-NN alignment, before anything is trained.

Source: Huh, Cheung, Wang and Isola 2024, The Platonic Representation Hypothesis.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.metrics.bootstrap import group_weights, interval, resampled_means
from tasks.retrieval.shortlist import fast_top_k

Array = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]


class Agreement(NamedTuple):
    """Mean share of common neighbours, its interval, what independent neighbours would share, k and items."""

    value: float
    low: float
    high: float
    chance: float
    k: int
    items: int


def mutual_knn(x: Array, y: Array, k: int) -> Values:
    """Share of each item's `k` nearest others in `x` (n, d) that are also nearest in `y` (n, e): (n,), 0 to 1.

    Row i of both is the same item; rows are unit vectors, nearness is the cosine, ties go to the lower row; 0 < k < n.

    >>> x = np.array([[1, 0], [0.9, 0.436], [0, 1], [-1, 0]], np.float32)
    >>> mutual_knn(x, x[[0, 1, 3, 2]], 1).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    near = [_others(fast_top_k(one, one, k + 1)[0], k) for one in (x, y)]
    common = sum((near[0] == near[1][:, place, None]).sum(1) for place in range(k))
    return np.asarray(common / k)


def chance(n: int, k: int) -> float:
    """What the neighbours of n items share on average if both k are drawn at random: k / (n − 1).

    >>> chance(101, 10)
    0.1
    """
    return k / (n - 1)


def agreement(
    x: Array, y: Array, *, k: int = 10, draws: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Agreement:
    """Mean of `mutual_knn` with its bootstrap interval over the items; with few items k is a quarter of the others.

    The neighbourhoods are those of the whole set in each draw: a drawn item beside its own copy would find itself.
    Raises `ValueError` for fewer than five items.
    """
    n = len(x)
    if n < 5:
        raise ValueError(f"{n} pairs are too few to compare neighbourhoods")
    k = max(1, min(k, (n - 1) // 4))
    values = mutual_knn(x, y, k)
    means = resampled_means(values, np.arange(n), group_weights(n, draws, seed))
    return Agreement(float(values.mean()), *interval(means, confidence), chance(n, k), k, n)


def _others(near: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    """The first `k` of each row's k + 1 neighbours that are not the row itself."""
    own = near == np.arange(len(near))[:, None]
    own[~own.any(1), k] = True  # an item that many equal is not among its own nearest
    return np.asarray(near[~own].reshape(len(near), k))
