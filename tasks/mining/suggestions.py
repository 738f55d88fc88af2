"""Which items to label next: those that stand for many, and that nothing known stands for yet.

The criterion is facility location (Nemhauser, Wolsey and Fisher 1978; for active learning Wei, Iyer and Bilmes 2015):
an item is covered as well as the nearest known or chosen one is similar to it. It is submodular, so that the greedy
choice covers at least 1 − 1/e of the best one, and near-duplicates of what is chosen gain nothing: the choice is
diverse. Weights by uncertainty did not add to it where both were measured, and the most uncertain items alone taught no
more than random ones (figures: `tasks/README.md`).
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.retrieval.knn import CELLS, blocks
from tasks.retrieval.shortlist import fast_top_k

Array = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Picks(NamedTuple):
    """Rows that were chosen, in order, and the share of all that each newly covers: (k,)."""

    rows: Indices
    gain: Values


def guesses(queries: Array, gallery: Array, terms: Array, k: int, *, cells: int = CELLS) -> tuple[Indices, Values]:
    """The `k` best of `gallery` (m, dim) for each of `queries` (n, dim) under 2·cos − `terms`, and the first's lead.

    Unit vectors in a joint space; `terms` (m,) are the gallery's hubness terms. Of a single item the lead is 0.

    >>> x = np.eye(2, dtype=np.float32)
    >>> guesses(x, x, np.zeros(2, np.float32), 1)
    (array([[0],
           [1]]), array([2., 2.]))
    """
    left = np.concatenate([2 * queries, np.ones((len(queries), 1), np.float32)], axis=1)
    right = np.concatenate([gallery, -terms[:, None]], axis=1)
    rows, scores = fast_top_k(left, right, max(k, 2), cells=cells)
    lead = scores[:, 0] - scores[:, 1] if scores.shape[1] > 1 else np.zeros(len(queries))
    return rows[:, :k], lead.astype(np.float64)


def suggest(x: Array, known: Array, count: int, *, cells: int = CELLS) -> Picks:
    """At most `count` rows of `x` (n, d), greedily: the one that adds most to the summed cover; of equals the lower.

    Rows of `x` and of what is `known` already (m, d) are unit vectors of one modality. An item's cover is its largest
    cosine with a known or chosen one, at least 0; the chosen cover themselves. It ends early when nothing is left to
    gain. Memory is `cells` scores; time n²·d for the first choice, little for the others.

    >>> x = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> suggest(x, np.empty((0, 2), np.float32), 3).rows.tolist()
    [0, 2]
    """
    cover = np.zeros(len(x))
    if len(known) and len(x):
        cover = np.maximum(fast_top_k(x, known, 1, cells=cells)[1][:, 0].astype(np.float64), 0)
    # a gain never rises as more is chosen: an old one that is still the largest after a fresh look is the best
    waiting: list[tuple[float, int]] = []
    for part in blocks(len(x), len(x), cells):
        waiting += zip((-_gains(x[part], x, cover)).tolist(), range(part.start, part.stop), strict=True)
    heapq.heapify(waiting)
    rows: list[int] = []
    gain: list[float] = []
    while waiting and len(rows) < count:
        row = heapq.heappop(waiting)[1]
        fresh = float(_gains(x[row : row + 1], x, cover)[0])
        if waiting and (-fresh, row) > waiting[0]:
            heapq.heappush(waiting, (-fresh, row))
            continue
        if fresh <= 1e-6 * len(x):
            break
        cover = np.maximum(cover, _near(x[row : row + 1], x)[0])
        rows.append(row)
        gain.append(fresh / len(x))
    return Picks(np.array(rows, np.int64), np.array(gain))


def _near(some: Array, x: Array) -> Values:
    return np.asarray(some @ x.T, np.float64)


def _gains(some: Array, x: Array, cover: Values) -> Values:
    """What each of `some` (b, d) would add to the cover of `x` (n, d): (b,)."""
    return np.asarray(np.maximum(_near(some, x) - cover, 0).sum(1))
