"""Exact nearest neighbours by blocked matrix products: memory is one block, whatever the sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def top_k(scores: Array, k: int) -> tuple[Indices, Array]:
    """Columns and values of the `k` largest of each row of `scores` (n, m), best first; ties by the lower column.

    >>> top_k(np.array([[0.1, 0.9, 0.5]], np.float32), 2)[0].tolist()
    [[1, 2]]
    """
    k = min(k, scores.shape[1])
    if k < scores.shape[1]:
        part = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        part = np.broadcast_to(np.arange(k), scores.shape)
    values = np.take_along_axis(scores, part, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(part, order, 1).astype(np.int64), np.take_along_axis(values, order, 1)


def exact_top_k(queries: Array, gallery: Array, k: int, *, block: int = 1024) -> tuple[Indices, Array]:
    """The `k` gallery rows (m, d) with the largest dot product for each query (n, d): indices and scores, (n, k).

    For L2-normalised rows the dot product is the cosine.
    """
    k = min(k, len(gallery))
    indices = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), block):
        part = slice(start, start + block)
        indices[part], scores[part] = top_k(np.asarray(queries[part] @ gallery.T, np.float32), k)
    return indices, scores
