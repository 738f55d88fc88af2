"""Hubness: some items are near to everything. Its measure and its corrections.

Sources: Conneau et al. 2018, Word translation without parallel data (CSLS); Bogolin et al. 2022 (QB-Norm).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.retrieval.knn import CELLS, blocks

Array = npt.NDArray[np.float32]
_EDGES = (0, 1, 2, 3, 5, 10, 20, 50, 100)  # lower ends of a histogram's bins: counts spread over decades


def hubness_terms(gallery: Array, bank: Array, k: int = 10, *, cells: int = CELLS) -> Array:
    """r(g): mean of the `k` largest similarities of each gallery item (n, d) to a bank of queries (b, d): (n,).

    A bank of fewer than `k` is averaged whole. `cells` bounds the similarities that are held at once.

    >>> hubness_terms(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), k=1).tolist()
    [1.0, 1.0]
    """
    k = min(k, len(bank))
    out = np.empty(len(gallery), np.float32)
    for part in blocks(len(gallery), len(bank), cells):
        scores = gallery[part] @ bank.T
        scores.partition(len(bank) - k, axis=1)
        out[part] = scores[:, -k:].mean(1)
    return out


def corrected(scores: Array, terms: Array) -> Array:
    """S' = 2·S − r(gallery) for scores (n, m) and terms (m,): hubs are pushed back."""
    out = np.multiply(scores, 2, dtype=np.float32)
    out -= terms
    return out


def csls(scores: Array, query_terms: Array, gallery_terms: Array) -> Array:
    """CSLS: 2·S − r(query) − r(gallery) for scores (n, m). Ranks like `corrected`, and compares across queries."""
    return np.asarray(2 * scores - query_terms[:, None] - gallery_terms[None], np.float32)


def inverted_softmax(scores: Array, bank_scores: Array, beta: float = 10.0) -> Array:
    """Scores (n, m) softmaxed over the bank's queries (b, m) instead of the gallery: log of exp(β·S) over their sum."""
    scaled = beta * bank_scores.astype(np.float64)
    top = scaled.max(0)
    weight = top + np.log(np.exp(scaled - top).sum(0))
    return np.asarray(beta * scores.astype(np.float64) - weight[None], np.float32)


def k_occurrence(neighbours: npt.NDArray[np.int64], n_gallery: int) -> npt.NDArray[np.int64]:
    """N_k: how often each gallery item stands in the top k lists `neighbours` (n, k): (n_gallery,)."""
    return np.bincount(neighbours.ravel(), minlength=n_gallery).astype(np.int64)


def skewness(counts: npt.NDArray[np.int64]) -> float:
    """Skewness of the k-occurrence: 0 for none, large where few hubs take all (Radovanović et al. 2010).

    >>> skewness(np.array([1, 1, 1]))
    0.0
    """
    centred = counts - counts.mean()
    spread = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean() / spread**3) if spread > 0 else 0.0


def occurrence_shares(*counts: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """A histogram of k-occurrences: one row a bin `from` … `to` (None: and more), and in `shares` what share of the
    items of each of `counts` (n_gallery,) lies in it.

    >>> occurrence_shares(np.array([0, 0, 3, 120]))[0], occurrence_shares(np.array([0, 0, 3, 120]))[-1]
    ({'from': 0, 'to': 0, 'shares': [0.5]}, {'from': 100, 'to': None, 'shares': [0.25]})
    """
    edges = np.array(_EDGES)
    binned = [np.bincount(np.searchsorted(edges, one, side="right") - 1, minlength=len(edges)) for one in counts]
    ends = [*(edges[1:] - 1).tolist(), None]
    return [
        {"from": low, "to": high, "shares": [float(one[place] / one.sum()) for one in binned]}
        for place, (low, high) in enumerate(zip(_EDGES, ends, strict=True))
    ]
