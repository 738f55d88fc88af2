"""Hard negatives: near to a query and not its own, with a guard against those that are positives in truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.retrieval.knn import CELLS, blocks
from tasks.retrieval.shortlist import fast_top_k

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Negatives(NamedTuple):
    """Row numbers of queries and of their negatives (n,), by query and the nearest first; their similarities."""

    query: Indices
    negative: Indices
    score: Array


def hard_negatives(
    queries: Array,
    gallery: Array,
    positives: Indices,
    query_groups: Indices,
    gallery_groups: Indices,
    *,
    range_min: int = 0,
    range_max: int = 100,
    max_score: float = np.inf,
    margin: float = 0.05,
    count: int = 10,
    guide: tuple[Array, Array] | None = None,
    cells: int = CELLS,
) -> Negatives:
    """At most `count` negatives of each query (n, d) in a gallery (m, d), unit vectors; `positives` (n,) are its rows.

    Candidates are the gallery's rows of other groups, ranked by similarity from 0: those from `range_min` up to, not
    with, `range_max` are looked at, and of them those of at most `max_score`. A candidate j is called a false negative,
    and left out, if similarity(i, j) > s − |s|·`margin`, with s that of query i and its positive, both as the `guide`
    sees them: vectors of the two sides (n, e) and (m, e) by another model, else those given. `cells` bounds the memory.
    Source: Solatorio 2024 (GISTEmbed); de Souza Moreira et al. 2024 (NV-Retriever).

    >>> x = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    >>> hard_negatives(x, x, np.arange(3), np.arange(3), np.arange(3), count=1).negative.tolist()
    [1, 2, 1]
    """
    found = [Negatives(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    # a query's own group may stand before the last rank that is looked at
    own = int(np.unique(gallery_groups, return_counts=True)[1].max()) if len(gallery) else 0
    width = min(range_max + own, len(gallery))
    judges = (queries, gallery) if guide is None else guide
    for part in blocks(len(queries), width, cells):
        rows, scores = fast_top_k(queries[part], gallery, width, cells=cells)
        other = gallery_groups[rows] != query_groups[part, None]
        rank = np.cumsum(other, axis=1) - 1
        keep = other & (rank >= range_min) & (rank < range_max) & (scores <= max_score)
        judged = scores if guide is None else _judged(judges, part, rows, cells)
        truth = np.einsum("nd,nd->n", judges[0][part], judges[1][positives[part]])
        keep &= judged <= (truth - np.abs(truth) * margin)[:, None]
        keep &= np.cumsum(keep, axis=1) <= count
        places, columns = np.nonzero(keep)
        found.append(Negatives(places + part.start, rows[places, columns], scores[places, columns]))
    return Negatives(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _judged(judges: tuple[Array, Array], part: slice, rows: Indices, cells: int) -> Array:
    """What the guide says of queries of a part and their candidates `rows` (n, w): (n, w)."""
    queries, gallery = judges
    out = np.empty(rows.shape, np.float32)
    for few in blocks(len(rows), rows.shape[1] * gallery.shape[1], cells):
        out[few] = np.einsum("nd,nwd->nw", queries[part][few], gallery[rows[few]])
    return out
