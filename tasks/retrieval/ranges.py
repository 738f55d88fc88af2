"""Exact nearest neighbours of what no memory holds: both sides are read by ranges, the best of each are merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tasks.retrieval.knn import CELLS, Array, Indices, blocks, top_k

HELD = 2**25
"""Numbers of one side that are held at once: 128 MB."""


class Rows(Protocol):
    """Vectors (n, d) float32 that are read by ranges: an array, or what lies on a disk."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, part: slice, /) -> Array:
        """Those of a range, in order."""


@dataclass(frozen=True)
class Mapped:
    """Rows of which each range goes through a function; it gets the range too."""

    rows: Rows
    each: Callable[[Array, slice], Array]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.rows)

    def __getitem__(self, part: slice, /) -> Array:
        """Those of a range, in order."""
        return self.each(self.rows[part], part)


class Search(Protocol):
    """A search of arrays, as `exact_top_k` and `fast_top_k` are."""

    def __call__(self, queries: Array, gallery: Array, k: int, *, cells: int) -> tuple[Indices, Array]:
        """The `k` best rows of the gallery for each query, and their scores; ties by the lower row."""


def top_k_by_ranges(
    queries: Rows, gallery: Rows, k: int, search: Search, *, cells: int = CELLS, held: int = HELD
) -> tuple[Indices, Array]:
    """What `search` gives for all of `queries` (n, d) and `gallery` (m, d): indices and scores, (n, k).

    Ties by the lower row, whatever the ranges. Beside the results two ranges of at most `held` numbers are held, and
    what the search of one in the other takes.

    >>> from tasks.retrieval.knn import exact_top_k
    >>> x = np.eye(3, dtype=np.float32)
    >>> top_k_by_ranges(x, x, 2, exact_top_k, held=3)[0].tolist()
    [[0, 1], [1, 0], [2, 0]]
    """
    k = min(k, len(gallery))
    indices = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    width = len(gallery) and gallery[:1].shape[1]
    for part in blocks(len(queries), width, held):
        asked = queries[part]
        best = np.empty((len(asked), 0), np.int64), np.empty((len(asked), 0), np.float32)
        for other in blocks(len(gallery), width, held):
            found, near = search(asked, gallery[other], k, cells=cells)
            rows = np.concatenate([best[0], found + other.start], 1)
            places, near = top_k(np.concatenate([best[1], near], 1), k)  # of equal scores the first is the lower row
            best = np.take_along_axis(rows, places, 1), near
        indices[part], scores[part] = best
    return indices, scores
