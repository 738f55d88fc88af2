"""Exact nearest neighbours by blocked matrix products: memory is one block, whatever the sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

CELLS = 2**23
"""Scores held at once: 32 MB, and up to six times that while the best of them are found, should all of them tie."""

GROUP = 16
"""Columns whose maximum stands for them: a maximum costs far less than a place in an order."""


def blocks(n: int, m: int, cells: int = CELLS) -> Iterator[slice]:
    """Slices that cut `n` rows, in order, so that their scores with `m` others are at most `cells`; at least one row.

    >>> list(blocks(5, 100, 200))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, cells // max(m, 1))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def top_k(scores: Array, k: int) -> tuple[Indices, Array]:
    """Columns and values of the `k` largest of each row of `scores` (n, m), best first; ties by the lower column.

    NaN stands last. All columns come where there are fewer than `k`.

    >>> top_k(np.array([[0.1, 0.9, 0.5]], np.float32), 2)[0].tolist()
    [[1, 2]]
    """
    k = min(k, scores.shape[1])
    n, m = scores.shape
    groups = m // GROUP
    if not k or groups < 4 * k:
        return _of_few(scores, k)
    # the best columns lie in the groups with the best maxima; group g is g, g + groups, g + 2·groups …
    maxima = np.fmax.reduce(scores[:, : groups * GROUP].reshape(n, GROUP, groups), axis=1)
    chosen = _of_few(maxima, k)[0]
    inside = (chosen[:, :, None] + np.arange(0, groups * GROUP, groups)).reshape(n, -1)
    rest = np.broadcast_to(np.arange(groups * GROUP, m), (n, m % GROUP))
    columns = np.sort(np.concatenate([inside, rest], axis=1), axis=1)
    places, values = _of_few(np.take_along_axis(scores, columns, 1), k)
    indices = np.take_along_axis(columns, places, 1)
    # a group beside them that reaches the last place may hold a lower column
    reach = ~(maxima < values[:, -1:])
    tied = np.flatnonzero(reach.sum(1) > np.take_along_axis(reach, chosen, 1).sum(1))
    if len(tied):
        indices[tied], values[tied] = _of_few(scores[tied], k)
    return indices, values


def _of_few(scores: Array, k: int) -> tuple[Indices, Array]:
    """As `top_k`, looking at all columns."""
    if 0 < k < scores.shape[1]:
        part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        # which of the columns that tie for the last place it takes is chance: such rows are sorted in full
        last = np.take_along_axis(scores, part, 1).min(1, keepdims=True)
        tied = np.flatnonzero((~(scores < last)).sum(1) > k)
        part[tied] = np.argsort(-scores[tied], axis=1, kind="stable")[:, :k]
        part.sort(axis=1)
    else:
        part = np.broadcast_to(np.arange(k), (len(scores), k))
    values = np.take_along_axis(scores, part, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(part, order, 1).astype(np.int64), np.take_along_axis(values, order, 1)


def exact_top_k(queries: Array, gallery: Array, k: int, *, cells: int = CELLS) -> tuple[Indices, Array]:
    """The `k` gallery rows (m, d) with the largest dot product for each query (n, d): indices and scores, (n, k).

    For L2-normalised rows the dot product is the cosine. `cells` bounds the scores that are held at once.
    """
    k = min(k, len(gallery))
    indices = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    for part in blocks(len(queries), len(gallery), cells):
        indices[part], scores[part] = top_k(np.asarray(queries[part] @ gallery.T, np.float32), k)
    return indices, scores
