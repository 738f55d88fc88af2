"""Soft pseudo-pairs: an unpaired item and the barycentre of what lies near it in the other modality."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.retrieval.hubness import csls, hubness_terms
from tasks.retrieval.knn import CELLS, blocks, top_k

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Neighbours(NamedTuple):
    """Of each query the rows of what lies near it in a gallery, and their weights, which add up to 1: both (n, k)."""

    rows: Indices
    weight: Array

    @property
    def certainty(self) -> Array:
        """How much the weights agree on few of them: (n,), from 0 to 1."""
        return certainty(self.weight)


def soft_neighbours(
    queries: Array, gallery: Array, *, k: int = 10, temperature: float = 0.05, hubness_k: int = 10, cells: int = CELLS
) -> Neighbours:
    """Rows of `gallery` (m, dim) nearest to each of `queries` (n, dim) under CSLS, and their softmax weights: (n, k).

    Unit vectors in a joint space. `cells` bounds the scores that are held at once.
    """
    terms = (
        hubness_terms(queries, gallery, hubness_k, cells=cells),
        hubness_terms(gallery, queries, hubness_k, cells=cells),
    )
    k = min(k, len(gallery))
    near, weight = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    for part in blocks(len(queries), len(gallery), cells):
        near[part], scores = top_k(csls(queries[part] @ gallery.T, terms[0][part], terms[1]), k)
        likely = np.exp((scores - scores[:, :1]) / temperature)
        weight[part] = likely / likely.sum(1, keepdims=True)
    return Neighbours(near, weight)


def certainty(weights: Array) -> Array:
    """How much the weights (n, k) of neighbours agree on few of them: 1 − entropy / log k, from 0 to 1: (n,).

    >>> certainty(np.array([[1.0, 0.0], [0.5, 0.5]], np.float32)).round(3).tolist()
    [1.0, 0.0]
    """
    if weights.shape[1] < 2:
        return np.ones(len(weights), np.float32)
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    return np.asarray(1 + (weights * logs).sum(1) / np.log(weights.shape[1]), np.float32).clip(0, 1)


def barycentres(found: Neighbours, features: Array) -> Array:
    """Weighted means of the `features` (m, w) of each query's neighbours in the gallery: (n, w).

    >>> x = np.eye(2, dtype=np.float32)
    >>> barycentres(soft_neighbours(x, x), np.array([[1.0], [2.0]], np.float32)).round(2).ravel().tolist()
    [1.0, 2.0]
    """
    out = np.zeros((len(found.rows), features.shape[1]), np.float32)
    for place in range(found.rows.shape[1]):
        out += found.weight[:, place, None] * features[found.rows[:, place]]
    return out
