"""The nearest rows of a table, by its index or exactly: asked of Lance itself, which LanceDB's tables are made of.

Through LanceDB a query costs twice as much, alone as in a batch: it turns the vectors into lists of Python numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.filters import Filter
from storage.signs import sign_bits
from storage.tables import matrix, vector_column

if TYPE_CHECKING:
    from lance import LanceDataset

    from storage.ann import Index

Array = npt.NDArray[np.float32]

K = 10
"""Hits that the parameters of an index are tuned for."""

_REACH = 0.9  # for n times the hits, or an n-th of the rows, n to this power times the partitions (README)


def nearest(
    data: LanceDataset,
    queries: Array,
    k: int,
    index: Index,
    *,
    where: Filter | None = None,
    columns: Sequence[str] = ("key",),
    exact: bool = False,
    matching: int | None = None,
) -> list[pa.Table]:
    """The `k` nearest rows of each query (n, dim): a table of `columns` and `_distance`, nearest first, a query.

    Distance is 1 − cosine, or the squared Euclidean one. Rows written after the index was built are found as well.
    `matching` is how many rows satisfy `where`, for who knows it; else they are counted.
    """
    if not len(queries):
        return []
    wanted = max(k, K)  # fewer would be refined from too few candidates
    probes = 0
    if not exact and index.kind != "exact":
        matching = matching if matching is not None or where is None else count_rows(data, where)
        sparser = 1.0 if matching is None else (index.fewest or index.rows) / max(matching, 1)
        probes = _probed(index, wanted, sparser)
        # where partitions hold few rows that match, to compare these one and all is less; a graph skips the others
        exact = sparser > 1 and "ef" not in index.query and probes * index.rows > (matching or 0) * index.partitions
    if index.kind == "binary" and not exact:
        return [_nearest_bits(data, query, k, index, where, columns, probes) for query in queries]
    asked: dict[str, Any] = {"k": wanted, "metric": index.metric}  # a wrong metric would pass the index by in silence
    if exact or index.kind == "exact":
        asked["use_index"] = False
    else:
        refine = index.query.get("refine_factor", 1)
        asked |= {"nprobes": probes, "refine_factor": refine if refine > 1 else None}
        if "ef" in index.query:
            asked["ef"] = max(index.query["ef"], wanted * refine)  # Lance refuses an ef below the candidates
    found = _search(data, "vector", np.asarray(queries, np.float32), where, columns, asked)
    return _by_query(found, len(queries), k)


def count_rows(data: LanceDataset, where: Filter | None) -> int:
    """How many rows satisfy `where`."""
    return int(data.count_rows(None if where is None else where.sql))


def _search(
    data: LanceDataset,
    column: str,
    queries: npt.NDArray[Any],
    where: Filter | None,
    columns: Sequence[str],
    asked: dict[str, Any],
) -> pa.Table:
    """What Lance finds for queries (n, width), with a `query_index` where they are several."""
    from lance.dataset import ScannerBuilder

    search = ScannerBuilder(data).nearest(column, queries[0], **asked).columns([*columns, "_distance"])
    if (
        len(queries) > 1
    ):  # `nearest` takes them too, and makes a Python number of each of theirs: two thirds of the time
        search._nearest["q"] = vector_column(queries).cast(pa.list_(pa.float32()))  # type: ignore[index]  # noqa: SLF001
    if where is not None:
        search = search.filter(where.sql).prefilter(True)
    return search.to_scanner().to_table()


def _probed(index: Index, k: int, sparser: float) -> int:
    """Partitions that `k` hits span where rows that match are so many times sparser than those it was tuned on."""
    return min(int(np.ceil(index.query["nprobes"] * (k / K * max(1.0, sparser)) ** _REACH)), index.partitions)


def _nearest_bits(
    data: LanceDataset, query: Array, k: int, index: Index, where: Filter | None, columns: Sequence[str], probes: int
) -> pa.Table:
    """Hamming search on sign bits, over-fetched, re-ranked by the vectors themselves."""
    asked = {"k": max(k, K) * index.query["overfetch"], "metric": "hamming", "nprobes": probes}
    found = _search(data, "bits", sign_bits(query[None]), where, [*dict.fromkeys([*columns, "vector"])], asked)
    vectors = matrix(found["vector"].combine_chunks())
    if index.metric == "cosine":
        distance = 1 - vectors @ query / np.maximum(np.linalg.norm(vectors, axis=1) * np.linalg.norm(query), 1e-12)
    else:
        distance = ((vectors - query) ** 2).sum(1)
    order = np.argsort(distance, kind="stable")[:k]
    found = found.select(list(columns)).take(order)
    return found.append_column("_distance", pa.array(distance[order].astype(np.float32)))


def _by_query(found: pa.Table, n: int, k: int) -> list[pa.Table]:
    if "query_index" not in found.column_names:
        return [found.slice(0, k)]
    place = found["query_index"].to_numpy()
    found = found.drop_columns(["query_index"]).take(np.argsort(place, kind="stable")).combine_chunks()
    ends = np.searchsorted(np.sort(place), np.arange(n + 1))
    return [found.slice(first, min(last - first, k)) for first, last in pairwise(ends.tolist())]
