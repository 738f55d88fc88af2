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
from storage.neighbours import K, count_rows, nearest
from storage.tables import Store, matrix, named

if TYPE_CHECKING:
    from lance import LanceDataset
    from lancedb.table import Table
    from scipy.sparse import csr_array

Array = npt.NDArray[np.float32]
Kind = Literal["exact", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_PQ", "IVF_RQ", "binary"]
KINDS: tuple[Kind, ...] = ("exact", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_PQ", "IVF_RQ", "binary")

_SAMPLES, _ROUNDS = 64, 25  # of k-means: rows a partition that it looks at, and its rounds; fewer cost many probes
_CELLS = 2**24  # of its distances held at once
_SAMPLES_OF_BITS, _BITS_PARTITIONS = 256, 256  # with fewer rows a partition LanceDB's k-means makes fewer of them
_NARROWED = "modality"  # what nearly every search is narrowed by: with an index of it a filter costs nothing
_CENTROIDS = 2**19  # numbers in all of them: of a million, Lance looks for a row's partition by a graph, and errs
_OWN_PROBES = 100

# query parameters by growing cost: the first that reaches the target is kept
_LADDERS: dict[str, list[dict[str, int]]] = {
    "exact": [{}],
    "IVF_FLAT": [{"nprobes": n} for n in (4, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512)],
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
    # few candidates do, once all their partitions are looked at
    "binary": [
        {"nprobes": n, "overfetch": r}
        for n, r in ((32, 10), (64, 10), (128, 10), (256, 10), (256, 30), (512, 100), (512, 500))
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
    """Of the table when the index was built."""
    seconds: float
    tried: list[dict[str, float]]
    fewest: int = 0
    """Rows that the narrowest filter of the probes leaves: for fewer the parameters are stretched. 0: all rows."""


def kind_for(rows: int, exact_below: int) -> Kind:
    """The index for a table of this size.

    >>> kind_for(1000, 50_000), kind_for(100_000, 50_000)
    ('exact', 'IVF_FLAT')
    """
    return "exact" if rows < exact_below else "IVF_FLAT"


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

    A probe is query vectors (n, dim) and the filter they search under, as they will be in use; without any, rows of the
    table are the probes. The first step of the ladder whose recall lies above the target by a standard error is kept;
    if none does, the best one, and `recall` says so. An index of another kind goes. Raises `StorageError` when the
    table is too small.
    """
    table = store.open(name)
    rows = int(table.count_rows())
    chosen = kind_for(rows, exact_below) if kind == "auto" else kind
    start = time.perf_counter()
    count = 0
    if chosen != "exact":
        width = table.schema.field("vector").type.list_size
        count = partitions or _partitions(chosen, rows, width)
        with named(name):
            _build(table, chosen, metric, count, rows, seed)
    with named(name):
        _drop_others(table, chosen)
    index = Index(
        kind=chosen,
        metric=metric,
        partitions=count,
        query={},
        recall=0,
        target=target,
        rows=rows,
        seconds=time.perf_counter() - start,
        tried=[],
    )
    return _tuned(store.dataset(name), index, probes, _LADDERS[chosen])


def refresh_index(
    store: Store, name: str, index: Index, probes: Sequence[tuple[Array, Filter | None]], *, fold_above: float
) -> Index | None:
    """Bring a built index to the table's new rows, and measure its recall again; None if it has to be built anew.

    Searches find rows that are not indexed yet, by looking at all of them: they are folded in when their share of the
    table passes `fold_above`. The query parameters stay while they reach the target, else dearer ones are tried. An
    index is built anew when the table has doubled since, or when no parameters reach the target any more.
    """
    table = store.open(name)
    rows = int(table.count_rows())
    if rows > 2 * max(index.rows, 1):
        return None
    if index.kind != "exact":
        column = "bits_idx" if index.kind == "binary" else "vector_idx"
        with named(name):
            stats = table.index_stats(column)
        if stats is None:
            return None
        if stats.num_unindexed_rows > fold_above * rows:
            with named(name):
                narrowed = [one.name for one in table.list_indices() if one.columns == [_NARROWED]]
                table.to_lance().optimize.optimize_indices(index_names=[column, *narrowed])
    ladder = _LADDERS[index.kind]
    ladder = ladder[ladder.index(index.query) :] if index.query in ladder else ladder
    found = _tuned(store.dataset(name), index, probes, ladder)
    return found if found.recall >= index.target or index.kind == "exact" else None


def _tuned(
    data: LanceDataset, index: Index, probes: Sequence[tuple[Array, Filter | None]], ladder: Sequence[dict[str, int]]
) -> Index:
    """The index with the first query parameters of the ladder that reach its target, or the best ones."""
    probes = [probe for probe in probes if len(probe[0])] or _own_probes(data)
    exact = [_exact(data, queries, where, index.metric) for queries, where in probes]
    counts = [count_rows(data, where) for _, where in probes]
    index = index.model_copy(update={"fewest": min((one for one in counts if one), default=0)})
    tried: list[dict[str, float]] = []
    best: tuple[float, dict[str, int]] = (-1.0, {})
    for query in ladder:
        hits, took = _trial(data, index.model_copy(update={"query": query}), probes, exact)
        recall = float(np.mean(hits)) if hits else 1.0
        tried.append(_told(recall, took) | dict(query))
        if recall > best[0]:
            best = (recall, query)
        if recall - _standard_error(hits) >= index.target:
            break
    return index.model_copy(update={"query": best[1], "recall": best[0], "tried": tried})


def recall_by_time(
    store: Store, name: str, index: Index, probes: Sequence[tuple[Array, Filter | None]]
) -> tuple[list[dict[str, float]], float]:
    """Recall@10 and milliseconds a query of each step of the ladder of a table's index, and the time of exact search.

    Queries go in batches, as the probes hold them. An index that is exact has no ladder: [].
    """
    data = store.dataset(name)
    probes = [probe for probe in probes if len(probe[0])] or _own_probes(data)
    with named(name):
        begun = time.perf_counter()
        exact = [_exact(data, queries, where, index.metric) for queries, where in probes]
        took = (time.perf_counter() - begun) / max(sum(len(queries) for queries, _ in probes), 1)
        points = []
        for query in _LADDERS[index.kind] if index.kind != "exact" else ():
            hits, spent = _trial(data, index.model_copy(update={"query": query}), probes, exact)
            points.append(_told(float(np.mean(hits)) if hits else 1.0, spent) | dict(query))
    return points, round(1000 * took, 3)


def _trial(
    data: LanceDataset, index: Index, probes: Sequence[tuple[Array, Filter | None]], exact: Sequence[list[pa.Table]]
) -> tuple[list[float], float]:
    """The recall of each probe, and seconds a query."""
    begun = time.perf_counter()
    hits = [
        recall
        for (queries, where), truth in zip(probes, exact, strict=True)
        for recall in _recalls(nearest(data, queries, K, index, where=where, columns=["key"]), truth)
    ]
    return hits, (time.perf_counter() - begun) / max(len(hits), 1)


def _told(recall: float, seconds: float) -> dict[str, float]:
    return {"recall": round(recall, 4), "milliseconds": round(1000 * seconds, 3)}


def _partitions(kind: Kind, rows: int, dim: int) -> int:
    if kind == "IVF_HNSW_SQ":
        return max(1, rows // 1_000_000)
    if kind == "binary":
        return int(np.clip(min(np.sqrt(rows), rows // _SAMPLES_OF_BITS), 1, _BITS_PARTITIONS))
    return int(max(1, min(4 * np.sqrt(rows), rows // _SAMPLES, _CENTROIDS // dim)))


def _build(table: Table, kind: Kind, metric: str, partitions: int, rows: int, seed: int) -> None:
    if rows < 256:
        raise StorageError(f"{kind} needs at least 256 rows, {table.name} has {rows}", "use index.kind auto or exact")
    if _NARROWED in table.schema.names:
        from lancedb.index import Bitmap

        table.create_index(_NARROWED, config=Bitmap(), replace=True, name=f"{_NARROWED}_idx")
    if kind == "binary":
        from lancedb.index import IvfFlat

        config = IvfFlat(distance_type="hamming", num_partitions=partitions)
        table.create_index("bits", config=config, replace=True, name="bits_idx")
    else:
        more: dict[str, dict[str, Any]] = {
            "IVF_PQ": {"num_sub_vectors": _sub_vectors(table)},
            "IVF_HNSW_SQ": {"m": 20, "ef_construction": 300},
        }
        table.to_lance().create_index(
            "vector",
            kind,
            name="vector_idx",
            metric=metric,
            replace=True,
            num_partitions=partitions,
            ivf_centroids=_centroids(table, partitions, metric, rows, seed),
            **more.get(kind, {}),
        )


def _sub_vectors(table: Table) -> int:
    width = table.schema.field("vector").type.list_size
    return int(next(n for n in (width // 4, width // 8, width // 2, 1) if n and width % n == 0))


def _drop_others(table: Table, kind: Kind) -> None:
    """Vector indexes that searches of this kind do not use, from an earlier build."""
    used = {"exact": None, "binary": "bits_idx"}.get(kind, "vector_idx")
    for one in table.list_indices():
        if one.columns[0] in ("vector", "bits") and one.name != used:
            table.drop_index(one.name)


def _centroids(table: Table, partitions: int, metric: str, rows: int, seed: int) -> Array:
    """Flat k-means on a sample, by Lloyd's rounds: LanceDB's own goes hierarchical beyond 256 partitions.

    Memory is the sample, `_SAMPLES` vectors a partition, and a block of distances.
    """
    draw = np.random.default_rng(seed)
    places = draw.choice(rows, min(rows, partitions * _SAMPLES), replace=False)
    sample = matrix(
        table.take_offsets(np.sort(places).tolist()).select(["vector"]).to_arrow()["vector"].combine_chunks()
    ).astype(np.float32)
    if metric == "cosine":
        sample /= np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), 1e-12)
    centres = sample[draw.choice(len(sample), partitions, replace=False)]
    for _ in range(_ROUNDS):
        members = _members(sample, centres)
        counts = np.diff(members.indptr)[:, None]
        centres = np.where(counts > 0, (members @ sample) / np.maximum(counts, 1), centres).astype(np.float32)
    return centres


def _members(sample: Array, centres: Array) -> csr_array:
    """Ones (partitions, n) where a row of `sample` (n, dim) lies nearest to a row of `centres` (partitions, dim)."""
    from scipy.sparse import csr_array

    own = (centres**2).sum(1) / 2
    step = max(1, _CELLS // len(centres))
    near = np.concatenate([(sample[at : at + step] @ centres.T - own).argmax(1) for at in range(0, len(sample), step)])
    ones = np.ones(len(sample), np.float32), (near, np.arange(len(sample)))
    return csr_array(ones, shape=(len(centres), len(sample)))


def _exact(data: LanceDataset, queries: Array, where: Filter | None, metric: Literal["cosine", "l2"]) -> list[pa.Table]:
    index = Index(kind="exact", metric=metric, partitions=0, query={}, recall=1, target=1, rows=0, seconds=0, tried=[])
    return nearest(data, queries, K, index, where=where, columns=["key"])


def _own_probes(data: LanceDataset) -> list[tuple[Array, Filter | None]]:
    rows = data.to_table(["vector"], limit=_OWN_PROBES)
    return [(matrix(rows["vector"].combine_chunks()), None)] if rows.num_rows else []


def _standard_error(shares: Sequence[float]) -> float:
    """Of their mean: the probes are a sample, and the target is to hold for other queries too."""
    return float(np.std(shares) / np.sqrt(len(shares))) if shares else 0.0


def _recalls(found: list[pa.Table], truth: list[pa.Table]) -> list[float]:
    """Share of the `K` nearest found, a query; one as near as the last of them counts, for equal contents tie."""
    shares: list[float] = []
    for one, other in zip(found, truth, strict=True):
        if len(other):
            last = other["_distance"][-1].as_py()
            near = np.count_nonzero(one["_distance"].to_numpy() <= last + 1e-6 * (1 + abs(last)))
            shares.append(min(int(near), len(other)) / len(other))
    return shares
