"""TREC's files: a run (what a system ranks) and qrels (what is right), a line a query and item."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Keys = npt.NDArray[np.str_]


def order(scores: Array, relevant: Indices, depth: int) -> tuple[Indices, Array]:
    """The first `depth` items of each query by scores (n, m), and scores that fall without a tie: both (n, depth).

    `relevant` (n, r) is padded with -1. At equal scores a right item stands last, as in our own metrics; trec_eval
    looks at the scores alone, so equal ones are set apart by the least step of single precision.

    >>> places, falling = order(np.array([[0.5, 0.5, 0.1]], np.float32), np.array([[0]]), 2)
    >>> places.tolist(), bool(falling[0, 0] > falling[0, 1])
    ([[1, 0]], True)
    """
    right = np.zeros(scores.shape, np.bool_)
    rows, columns = np.nonzero(relevant >= 0)
    right[rows, relevant[rows, columns]] = True
    places = np.lexsort((right, -scores), axis=1)[:, :depth]
    falling = np.take_along_axis(scores, places, 1).copy()
    for column in range(1, falling.shape[1]):
        below = np.nextafter(falling[:, column - 1], np.float32(-np.inf))
        falling[:, column] = np.minimum(falling[:, column], below)
    return places.astype(np.int64), falling


def run_lines(queries: Keys, gallery: Keys, places: Indices, scores: Array, tag: str) -> Iterator[str]:
    """The lines of a run: query, Q0, item, rank, score, tag.

    >>> next(run_lines(np.array(["q"]), np.array(["a", "b"]), np.array([[1]]), np.array([[0.5]], np.float32), "us"))
    'q Q0 b 1 0.5 us'
    """
    for query, row, values in zip(queries.tolist(), places, scores, strict=True):
        for rank, (item, score) in enumerate(zip(gallery[row].tolist(), values, strict=True), 1):
            yield f"{query} Q0 {item} {rank} {score!s} {tag}"


def qrel_lines(queries: Keys, gallery: Keys, relevant: Indices) -> Iterator[str]:
    """The lines of qrels: query, 0, item, 1.

    >>> list(qrel_lines(np.array(["q"]), np.array(["a", "b"]), np.array([[1, -1]])))
    ['q 0 b 1']
    """
    for query, row in zip(queries.tolist(), relevant, strict=True):
        for item in gallery[row[row >= 0]].tolist():
            yield f"{query} 0 {item} 1"
