"""Nearest items of a table: exact below a size, by its index beyond. No Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import neighbours
from storage.ann import Index
from storage.filters import Filter
from storage.tables import Store, matrix
from tasks.retrieval.knn import top_k
from tasks.retrieval.shortlist import fast_top_k
from tasks.retrieval.similarity import Score, factors, to_similarity

Array = npt.NDArray[np.float32]

_ROWS = 2**16  # of the table held at once


class Nearest(NamedTuple):
    """Keys and similarities (n, k) of each query's nearest items, best first; "" and -inf where there are fewer."""

    keys: npt.NDArray[np.str_]
    scores: Array


def nearest(
    store: Store,
    table: str,
    queries: Array,
    k: int,
    index: Index,
    *,
    where: Filter | None = None,
    exact_below: int = 50_000,
) -> Nearest:
    """The `k` items of `table` nearest to each query (n, dim), under the metric of its index.

    With fewer than `exact_below` rows that satisfy `where`, or without an index, they are compared one and all, a block
    of rows in memory at a time. The similarity is the cosine, or minus the squared Euclidean distance.
    """
    if index.kind == "exact" or store.count(table, where) < exact_below:
        return _exact(store, table, queries, k, index, where)
    found = neighbours.nearest(store.dataset(table), queries, k, index, where=where, columns=["key"])
    out = _nothing(len(queries), k)
    keys = out.keys.tolist()
    for row, one in enumerate(found):
        keys[row][: len(one)] = one["key"].to_pylist()
        out.scores[row, : len(one)] = to_similarity(one["_distance"].to_numpy(), index.metric)
    return Nearest(np.asarray(keys, dtype=np.str_).reshape(len(queries), k), out.scores)


def _exact(store: Store, table: str, queries: Array, k: int, index: Index, where: Filter | None) -> Nearest:
    score: Score = "cosine" if index.metric == "cosine" else "euclidean"
    best = _nothing(len(queries), k)
    for rows in _blocks(store, table, where):
        keys = np.asarray(rows["key"].to_pylist(), dtype=np.str_)
        places, scores = fast_top_k(*factors(score, queries, matrix(rows["vector"].combine_chunks())), k)
        both = np.concatenate([best.keys, keys[places]], axis=1), np.concatenate([best.scores, scores], axis=1)
        chosen, scores = top_k(both[1], k)
        best = Nearest(np.take_along_axis(both[0], chosen, 1), scores)
    return best


def _blocks(store: Store, table: str, where: Filter | None) -> Iterator[pa.Table]:
    """The table's keys and vectors, about `_ROWS` at a time."""
    held: list[pa.RecordBatch] = []
    for batch in store.stream(table, ["key", "vector"], where):
        held.append(batch)
        if sum(one.num_rows for one in held) >= _ROWS:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _nothing(n: int, k: int) -> Nearest:
    return Nearest(np.full((n, k), "", dtype=np.str_), np.full((n, k), -np.inf, np.float32))
