"""Near-duplicates by embedding: within a set, and between the two sides of a split."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.retrieval.knn import CELLS
from tasks.retrieval.shortlist import fast_top_k
from tasks.sources.groups import components

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Near(NamedTuple):
    """Row numbers of both items of a pair (n,) and their cosine, the nearest pair first."""

    left: Indices
    right: Indices
    score: Array


def near_duplicates(x: Array, threshold: float, *, k: int = 10, cells: int = CELLS) -> Near:
    """Pairs left < right of rows of `x` (n, d), unit vectors of one modality, whose cosine is at least `threshold`.

    Of an item with more than `k` near-duplicates only the `k` nearest are found from its side: the pairs are at most
    n·k, however many items are the same.

    >>> near_duplicates(np.array([[1, 0], [0, 1], [1, 0]], np.float32), 0.9).right.tolist()
    [2]
    """
    rows, scores = fast_top_k(x, x, k + 1, cells=cells)
    near = (scores >= threshold) & (rows != np.arange(len(x))[:, None])
    near &= np.cumsum(near, axis=1) <= k
    place, column = np.nonzero(near)
    other, score = rows[place, column], scores[place, column]
    ends = np.stack([np.minimum(place, other), np.maximum(place, other)], axis=1)
    _, first = np.unique(ends, axis=0, return_index=True)
    return _by_score(ends[first, 0], ends[first, 1], score[first])


def leaks(held: Array, train: Array, threshold: float, *, cells: int = CELLS) -> Near:
    """Rows of `held` (n, d) whose nearest row of `train` (m, d) has a cosine of at least `threshold`, and that row.

    >>> leaks(np.eye(2, dtype=np.float32), np.array([[0, 1]], np.float32), 0.9).left.tolist()
    [1]
    """
    if not len(train):
        return Near(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    rows, scores = fast_top_k(held, train, 1, cells=cells)
    found = np.flatnonzero(scores[:, 0] >= threshold)
    return _by_score(found, rows[found, 0], scores[found, 0])


def first_alike(contents: Indices, x: Array, thresholds: Array) -> Indices:
    """For each of n rows, best first, the place of the row that stands for it: its own, or that of a former one.

    A row joins the former one that stands for itself and has the same number in `contents` (n,), else the nearest of
    those whose cosine in `x` (n, d), unit vectors, reaches its threshold (n,). Rows of width 0 have no cosine.

    >>> x = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    >>> first_alike(np.array([0, 1, 2, 1]), x, np.full(4, 0.9, np.float32)).tolist()
    [0, 1, 0, 1]
    """
    first = np.arange(len(contents))
    cosines = x @ x.T
    of_content: dict[int, int] = {}
    kept: list[int] = []
    for row, content in enumerate(contents.tolist()):
        place = of_content.get(content, -1)
        if place < 0 and kept:
            near = int(cosines[row, kept].argmax())
            place = kept[near] if cosines[row, kept[near]] >= thresholds[row] else -1
        if place < 0:
            kept.append(row)
            place = row
        of_content.setdefault(content, place)
        first[row] = place
    return first


def clusters(pairs: Near, n: int) -> Indices:
    """Sizes of the connected components with two or more of `n` items, the largest first.

    >>> clusters(Near(np.array([0, 1]), np.array([1, 4]), np.ones(2, np.float32)), 6).tolist()
    [3]
    """
    sizes = np.bincount(components(n, np.stack([pairs.left, pairs.right], axis=1)), minlength=1)
    return np.sort(sizes[sizes > 1])[::-1]


def _by_score(left: Indices, right: Indices, score: Array) -> Near:
    order = np.lexsort((right, left, -score))
    return Near(left[order], right[order], score[order])
