"""Approximate nearest neighbours: an index chosen by size, its recall measured against exact search and tuned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from storage.errors import StorageError
from storage.filters import Filter
from storage.tables import Store, matrix

if TYPE_CHECKING:
    from lancedb.table import Table

Array = npt.NDArray[np.float32]
Kind = Literal["exact", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_PQ", "IVF_RQ", "binary"]
KINDS: tuple[Kind, ...] = ("exact", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_PQ", "IVF_RQ", "binary")

_TRAINED_PARTITIONS = 256  # LanceDB's own k-means goes hierarchical beyond, and recall collapses
_SAMPLES_A_PARTITION = 128
_K = 10

# query parameters by growing cost: the first that reaches the target is kept
_LADDERS: dict[str, list[dict[str, int]]] = {
    "exact": [{}],
    "IVF_FLAT": [{"nprobes": n} for n in (8, 16, 32, 64, 128, 256)],
    "IVF_HNSW_SQ": [
        {"nprobes": n, "ef": ef, "refine_factor": r}
        for n, ef, r in (
            (8, 64, 2),
            (16, 128, 3),
            (32, 128, 3),
            (64, 256, 3),
            (128, 256, 5),
            (256, 512, 10),
            (512, 512, 20),
        )
    ],
    "IVF_PQ": [
        {"nprobes": n, "refine_factor": r}
        for n, r in ((16, 10), (32, 10), (32, 30), (64, 30), (64, 50), (128, 50), (256, 100), (512, 200))
    ],
    "IVF_RQ": [
        {"nprobes": n, "refine_factor": r}
        for n, r in ((16, 5), (32, 5), (32, 10), (64, 10), (64, 30), (128, 50), (256, 100), (512, 200))
    ],
    "binary": [
        {"nprobes": n, "overfetch": r} for n, r in ((32, 10), (32, 30), (64, 50), (128, 100), (256, 200), (512, 500))
    ],
}


class Index(BaseModel):
    """A built index and the query parameters that reach the target; `recall` is recall@10, measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    metric: Literal["cosine", "l2"]
    partitions: int
    query: dict[str, int]
    recall: float
    target: float
    rows: int
    seconds: float
    tried: list[dict[str, float]]


def kind_for(rows: int, exact_below: int) -> Kind:
    """The index for a table of this size.

    >>> kind_for(1000, 50_000), kind_for(100_000, 50_000)
    ('exact', 'IVF_HNSW_SQ')
    """
    return "exact" if rows < exact_below else "IVF_HNSW_SQ"


def build_index(
    store: Store,
    name: str,
    probes: Sequence[tuple[Array, Filter | None]],
    *,
    kind: Kind | Literal["auto"] = "auto",
    metric: Literal["cosine", "l2"] = "cosine",
    target: float = 0.95,
    exact_below: int = 50_000,
    partitions: int | None = None,
    seed: int = 0,
) -> Index:
    """Build the index of table `name` and tune its query parameters on `probes`.

    A probe is query vectors (n, dim) and the filter they search under, as they will be in use. If no step of the ladder
    reaches the target, the best one is kept and `recall` says so. Raises `StorageError` when the table is too small.
    """
    table = store.open(name)
    rows = int(table.count_rows())
    chosen = kind_for(rows, exact_below) if kind == "auto" else kind
    start = time.perf_counter()
    count = 0
    if chosen != "exact":
        count = partitions or _partitions(chosen, rows)
        _build(table, chosen, metric, count, rows, seed)
        table = store.open(name)
    seconds = time.perf_counter() - start
    exact = [_exact(table, queries, where, metric) for queries, where in probes]
    tried: list[dict[str, float]] = []
    best: tuple[float, dict[str, int]] = (-1.0, {})
    for query in _LADDERS[chosen]:
        index = Index(
            kind=chosen,
            metric=metric,
            partitions=count,
            query=query,
            recall=0,
            target=target,
            rows=rows,
            seconds=seconds,
            tried=[],
        )
        begun = time.perf_counter()
        hits = [
            recall
            for (queries, where), truth in zip(probes, exact, strict=True)
            for recall in _recalls(nearest(table, queries, _K, index, where=where, columns=["key"]), truth)
        ]
        recall = float(np.mean(hits)) if hits else 1.0
        took = (time.perf_counter() - begun) / max(len(hits), 1)
        tried.append({"recall": round(recall, 4), "milliseconds": round(1000 * took, 3)} | dict(query))
        if recall > best[0]:
            best = (recall, query)
        if recall >= target:
            break
    return Index(
        kind=chosen,
        metric=metric,
        partitions=count,
        query=best[1],
        recall=best[0],
        target=target,
        rows=rows,
        seconds=seconds,
        tried=tried,
    )


def nearest(
    table: Table,
    queries: Array,
    k: int,
    index: Index,
    *,
    where: Filter | None = None,
    columns: Sequence[str] = ("key",),
    exact: bool = False,
) -> list[pa.Table]:
    """The `k` nearest rows of each query (n, dim): a table of `columns` and `_distance`, nearest first, a query."""
    if index.kind == "binary" and not exact:
        return [_nearest_bits(table, query, k, index, where, columns) for query in queries]
    search = table.search(list(np.asarray(queries, np.float32)), vector_column_name="vector")
    search = search.distance_type(index.metric)  # a wrong one would pass the index by in silence
    if where is not None:
        search = search.where(where.sql, prefilter=True)
    if exact or index.kind == "exact":
        search = search.bypass_vector_index()
    else:
        search = search.nprobes(min(index.query["nprobes"], index.partitions))
        if "ef" in index.query:
            search = search.ef(max(index.query["ef"], k))
        if "refine_factor" in index.query:
            search = search.refine_factor(index.query["refine_factor"])
    found = search.select([*columns, "_distance"]).limit(k).to_arrow()
    return _by_query(found, len(queries))


def sign_bits(vectors: Array) -> npt.NDArray[np.uint8]:
    """Signs of vectors (n, dim), eight to a byte: (n, ⌈dim / 8⌉).

    >>> sign_bits(np.array([[1, -1, 1, -1, -1, -1, -1, 1]], np.float32)).tolist()
    [[161]]
    """
    return np.packbits(vectors > 0, axis=1)


def bits_column(vectors: Array) -> pa.Array:
    """The signs of vectors as a fixed-size list column."""
    bits = sign_bits(vectors)
    return pa.FixedSizeListArray.from_arrays(pa.array(bits.reshape(-1)), bits.shape[1])


def _partitions(kind: Kind, rows: int) -> int:
    if kind == "IVF_HNSW_SQ":
        return max(1, min(_TRAINED_PARTITIONS, rows // 1_000_000))
    return int(np.clip(np.sqrt(rows), 1, _TRAINED_PARTITIONS))


def _build(table: Table, kind: Kind, metric: str, partitions: int, rows: int, seed: int) -> None:
    if rows < 256:
        raise StorageError(f"{kind} needs at least 256 rows, {table.name} has {rows}", "use index.kind auto or exact")
    if kind == "binary":
        table.create_index(
            metric="hamming",
            index_type="IVF_FLAT",
            vector_column_name="bits",
            num_partitions=min(partitions, _TRAINED_PARTITIONS),
        )
        return
    options: dict[str, Any] = {"num_partitions": partitions}
    width = table.schema.field("vector").type.list_size
    if kind == "IVF_PQ":
        options["num_sub_vectors"] = next(n for n in (width // 4, width // 8, width // 2, 1) if n and width % n == 0)
    if kind == "IVF_HNSW_SQ":
        options |= {"m": 20, "ef_construction": 300}
    if partitions > _TRAINED_PARTITIONS:
        options["ivf_centroids"] = _centroids(table, partitions, metric, rows, seed)
        table.to_lance().create_index("vector", kind, name="vector_idx", metric=metric, replace=True, **options)
        return
    table.create_index(metric=metric, index_type=kind, vector_column_name="vector", replace=True, **options)


def _centroids(table: Table, partitions: int, metric: str, rows: int, seed: int) -> Array:
    """Flat k-means on a sample: LanceDB's own is hierarchical beyond 256 partitions."""
    from sklearn.cluster import MiniBatchKMeans

    places = np.random.default_rng(seed).choice(rows, min(rows, partitions * _SAMPLES_A_PARTITION), replace=False)
    sample = matrix(
        table.take_offsets(sorted(places.tolist())).select(["vector"]).to_arrow()["vector"].combine_chunks()
    )
    if metric == "cosine":
        sample = sample / np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), 1e-12)
    fitted = MiniBatchKMeans(partitions, random_state=seed, batch_size=4096, n_init=1, max_iter=20).fit(sample)
    return np.asarray(fitted.cluster_centers_, np.float32)


def _exact(table: Table, queries: Array, where: Filter | None, metric: Literal["cosine", "l2"]) -> list[pa.Table]:
    index = Index(kind="exact", metric=metric, partitions=0, query={}, recall=1, target=1, rows=0, seconds=0, tried=[])
    return nearest(table, queries, _K, index, where=where, columns=["key"])


def _recalls(found: list[pa.Table], truth: list[pa.Table]) -> list[float]:
    return [
        len(set(one["key"].to_pylist()) & set(other["key"].to_pylist())) / max(len(other), 1)
        for one, other in zip(found, truth, strict=True)
    ]


def _nearest_bits(
    table: Table, query: Array, k: int, index: Index, where: Filter | None, columns: Sequence[str]
) -> pa.Table:
    """Hamming search on sign bits, over-fetched, re-ranked by the vectors themselves."""
    search = table.search(sign_bits(query[None])[0], vector_column_name="bits").distance_type("hamming")
    if where is not None:
        search = search.where(where.sql, prefilter=True)
    search = search.nprobes(min(index.query["nprobes"], index.partitions)).limit(k * index.query["overfetch"])
    found = search.select([*dict.fromkeys([*columns, "vector"])]).to_arrow()
    vectors = matrix(found["vector"].combine_chunks())
    if index.metric == "cosine":
        distance = 1 - vectors @ query / np.maximum(np.linalg.norm(vectors, axis=1) * np.linalg.norm(query), 1e-12)
    else:
        distance = ((vectors - query) ** 2).sum(1)
    order = np.argsort(distance, kind="stable")[:k]
    found = found.select(list(columns)).take(order)
    return found.append_column("_distance", pa.array(distance[order].astype(np.float32)))


def _by_query(found: pa.Table, n: int) -> list[pa.Table]:
    if "query_index" not in found.column_names:
        return [found]
    place = found["query_index"].to_numpy()
    found = found.drop_columns(["query_index"])
    return [found.take(np.flatnonzero(place == i)) for i in range(n)]
