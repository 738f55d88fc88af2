"""Mutual nearest neighbours of two modalities in a joint space, with score and margin."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.retrieval.hubness import csls, hubness_terms
from tasks.retrieval.knn import CELLS, blocks, top_k

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Matches(NamedTuple):
    """Row numbers of both sides (n,), by the left one; the similarity that ranked them; its lead over the next one."""

    left: Indices
    right: Indices
    score: Array
    margin: Array


def mutual_neighbours(
    a: Array,
    b: Array,
    *,
    k: int = 1,
    score: Literal["cosine", "csls"] = "csls",
    min_margin: float = 0.0,
    hubness_k: int = 10,
    cells: int = CELLS,
) -> Matches:
    """Pairs (i, j) of rows of `a` (n, d) and `b` (m, d), unit vectors, each in the other's top `k`.

    CSLS (Conneau et al. 2018) is 2·cos − r(i) − r(j), with r over the other side. The margin is how far the pair leads
    the best other candidate of its left item, below zero for all but the first one, and 0 where there is no other;
    pairs below `min_margin` are left out. `cells` bounds the scores that are held at once.

    >>> x = np.eye(3, dtype=np.float32)
    >>> mutual_neighbours(x, x[[1, 0, 2]], score="cosine").right.tolist()
    [1, 0, 2]
    """
    if not len(a) or not len(b):
        empty = np.empty(0, np.int64)
        return Matches(empty, empty, np.empty(0, np.float32), np.empty(0, np.float32))
    terms = np.zeros(len(a), np.float32), np.zeros(len(b), np.float32)
    if score == "csls":
        terms = hubness_terms(a, b, hubness_k, cells=cells), hubness_terms(b, a, hubness_k, cells=cells)
    near_b, score_b = _neighbours(a, b, terms, k + 1, score, cells)
    near_a, _ = _neighbours(b, a, terms[::-1], k, score, cells)
    left = np.repeat(np.arange(len(a)), min(k, near_b.shape[1]))
    right = near_b[:, :k].ravel()
    values = score_b[:, :k].ravel()
    mutual = (near_a[right] == left[:, None]).any(1)
    # the best candidate that is not this pair's own: the runner-up for the first, the first for the others
    first = near_b[left, 0] == right
    rival = np.where(first, score_b[left, min(1, score_b.shape[1] - 1)], score_b[left, 0])
    margin = values - rival if score_b.shape[1] > 1 else np.zeros_like(values)
    keep = mutual & (margin >= min_margin) if min_margin > 0 else mutual
    return Matches(left[keep], right[keep], values[keep], margin[keep].astype(np.float32))


def _neighbours(
    queries: Array, gallery: Array, terms: tuple[Array, Array], k: int, score: str, cells: int
) -> tuple[Indices, Array]:
    indices, scores = [], []
    for part in blocks(len(queries), len(gallery), cells):
        values = queries[part] @ gallery.T
        if score == "csls":
            values = csls(values, terms[0][part], terms[1])
        found = top_k(np.asarray(values, np.float32), k)
        indices.append(found[0])
        scores.append(found[1])
    return np.concatenate(indices), np.concatenate(scores)
