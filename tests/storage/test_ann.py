from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from storage import schemas
from storage.ann import KINDS, Index, Kind, build_index, kind_for, recall_by_time
from storage.errors import StorageError
from storage.filters import Filter, eq, isin
from storage.neighbours import nearest
from storage.signs import sign_bits
from storage.tables import Store
from tests.storage.rows import Array, spaced, unit

DIM, ROWS = 64, 20_000
MODALITIES = np.array(["text", "image"])[np.arange(ROWS) % 2]
KEYS = np.array([f"k{i:05}" for i in range(ROWS)])
SCHEMA = schemas.space(DIM, ("image",), "id")


def clustered(n: int, seed: int) -> Array:
    """`n` unit vectors about 150 centres, so far spread that clusters touch; those of odd rows lie off the others."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(150, DIM))
    gap = np.random.default_rng(1).normal(size=DIM)
    made = (
        centres[draw.integers(0, 150, n)] + 0.8 * draw.normal(size=(n, DIM)) + 0.7 * gap * (np.arange(n) % 2)[:, None]
    )
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


VECTORS = clustered(ROWS, seed=2)
QUERIES = clustered(400, seed=3)


def oracle(queries: Array, k: int, modality: str, metric: str) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64]]:
    """Keys and distances (n, k) of the nearest rows of a modality, by plain sums in double precision."""
    gallery = np.flatnonzero(modality == MODALITIES)
    x, y = queries.astype(np.float64), VECTORS[gallery].astype(np.float64)
    if metric == "cosine":
        far = 1 - x @ y.T / (np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1))
    else:
        far = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    order = np.argsort(far, axis=1, kind="stable")[:, :k]
    return KEYS[gallery][order], np.take_along_axis(far, order, 1)


def recall(found: Sequence[pa.Table], truth: npt.NDArray[np.str_]) -> float:
    """Share of the true neighbours found."""
    hits = [len(set(one["key"].to_pylist()) & set(row)) for one, row in zip(found, truth, strict=True)]
    return sum(hits) / truth.size


def probes(n: int = 80) -> list[tuple[Array, Filter | None]]:
    """Searches from each modality in the other."""
    return [(QUERIES[0 : 2 * n : 2], eq("modality", "image")), (QUERIES[1 : 2 * n : 2], eq("modality", "text"))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A space of 20,000 items of two modalities."""
    made = Store(tmp_path_factory.mktemp("tables"))
    made.upsert("space_a", SCHEMA, spaced(KEYS.tolist(), VECTORS, modality=MODALITIES.tolist()))
    return made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The first 2,000 of these items."""
    made = Store(tmp_path_factory.mktemp("tables"))
    made.upsert("space_a", SCHEMA, spaced(KEYS[:2_000].tolist(), VECTORS[:2_000], modality=MODALITIES[:2_000].tolist()))
    return made


def check(store: Store, index: Index, least: float = 0.95) -> None:
    """recall@10 on searches the index was not tuned on, and every distance against the oracle's."""
    data = store.dataset("space_a")
    for first, modality in ((200, "image"), (201, "text")):
        queries = QUERIES[first:350:2]
        keys, _ = oracle(queries, 10, modality, index.metric)
        found = nearest(data, queries, 10, index, where=eq("modality", modality))
        assert recall(found, keys) >= least, (modality, index)
        for query, one in zip(queries[:10], found, strict=False):
            rows = [int(key[1:]) for key in one["key"].to_pylist()]
            assert set(MODALITIES[rows]) == {modality}
            plain = VECTORS[rows].astype(np.float64) @ query
            expected = 1 - plain if index.metric == "cosine" else 2 - 2 * plain  # all lengths are 1
            np.testing.assert_allclose(one["_distance"].to_numpy(), expected, atol=1e-5)
            assert (np.diff(one["_distance"].to_numpy()) >= 0).all()


@pytest.mark.parametrize(
    ("kind", "metric"),
    [*((kind, "cosine") for kind in KINDS), ("IVF_FLAT", "l2"), ("IVF_HNSW_SQ", "l2"), ("binary", "l2")],
)
def test_recall_of_each_kind(store: Store, kind: Kind, metric: str) -> None:
    """Every kind of index, under the modality filter, finds 95% of the true ten nearest, with their true distances."""
    index = build_index(store, "space_a", probes(), kind=kind, metric=metric, target=0.97)  # type: ignore[arg-type]
    assert (index.kind, index.metric, index.rows, index.target) == (kind, metric, ROWS, 0.97)
    assert index.recall >= 0.97
    assert index.tried[-1]["recall"] == pytest.approx(index.recall, abs=1e-4)
    check(store, index)


def test_recall_by_time_walks_the_whole_ladder(store: Store) -> None:
    """Every setting of an index is measured, the dearest finds 97% and the cheapest no more; exact search has none."""
    index = build_index(store, "space_a", probes(), kind="IVF_FLAT", target=0.5)
    points, milliseconds = recall_by_time(store, "space_a", index, probes())
    assert [one["nprobes"] for one in points] == [4, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512]
    assert points[0]["recall"] <= points[-1]["recall"]
    assert points[-1]["recall"] >= 0.97
    assert min(milliseconds, *(one["milliseconds"] for one in points)) > 0
    exact = index.model_copy(update={"kind": "exact", "query": {}})
    assert recall_by_time(store, "space_a", exact, probes())[0] == []


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [256, 300])
@pytest.mark.parametrize("kind", ["IVF_FLAT", "IVF_HNSW_SQ", "IVF_RQ", "binary"])
def test_recall_with_many_partitions(store: Store, kind: Kind, partitions: int) -> None:
    """Recall holds on both sides of 256 partitions, where the clustering changes; there are as many as asked for."""
    index = build_index(store, "space_a", probes(), kind=kind, target=0.97, partitions=partitions)
    name = "bits_idx" if kind == "binary" else "vector_idx"
    stored = store.open("space_a").to_lance().stats.index_stats(name)["indices"][0]
    assert (index.partitions, stored["num_partitions"]) == (partitions, partitions)
    check(store, index)


@pytest.mark.parametrize("kind", ["IVF_FLAT", "IVF_HNSW_SQ", "binary"])
def test_searches_use_the_index(small: Store, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search passes through the index, and its filter through that of the modality: its plan says so."""
    from lance.dataset import LanceScanner

    index = build_index(small, "space_a", probes(8), kind=kind, target=0.5)
    plans: list[str] = []
    run = LanceScanner.to_table

    def planned(self: LanceScanner) -> pa.Table:
        plans.append(self.explain_plan())
        return run(self)

    monkeypatch.setattr(LanceScanner, "to_table", planned)
    for queries in (QUERIES[:1], QUERIES[:3]):
        nearest(small.dataset("space_a"), queries, 5, index, where=eq("modality", "text"))
    assert all("ANN" in plan and "ScalarIndexQuery" in plan for plan in plans)
    plans.clear()
    nearest(small.dataset("space_a"), QUERIES[:1], 5, index, exact=True)
    assert ["ANN" in plan for plan in plans] == [False]


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_any_length(small: Store, kind: Kind) -> None:
    """Lists longer than the index was tuned for are full and in order, and a short one is the head of a longer one."""
    index = build_index(small, "space_a", probes(8), kind=kind)
    rough = {"nprobes": 7, "overfetch": 3, "refine_factor": 2, "ef": 16}
    index = index.model_copy(update={"query": {name: rough[name] for name in index.query}})
    data = small.dataset("space_a")
    lists = {k: nearest(data, QUERIES[200::4], k, index, where=eq("modality", "image")) for k in (1, 3, 10, 50, 300)}
    for k, found in lists.items():
        assert [len(one) for one in found] == [k] * 50
        assert all((np.diff(one["_distance"].to_numpy()) >= 0).all() for one in found)
        if k < 10:
            assert [one["key"].to_pylist() for one in found] == [one["key"].to_pylist()[:k] for one in lists[10]]


@pytest.mark.parametrize("kind", KINDS)
def test_company_changes_nothing(small: Store, kind: Kind) -> None:
    """A query among others finds what it finds alone, in the same order and at the same distances."""
    data, index = small.dataset("space_a"), build_index(small, "space_a", probes(8), kind=kind, target=0.5)
    many = nearest(data, QUERIES[200:230], 7, index, where=eq("modality", "image"))
    for query, one in zip(QUERIES[200:230], many, strict=True):
        (alone,) = nearest(data, query[None], 7, index, where=eq("modality", "image"))
        assert one["key"].to_pylist() == alone["key"].to_pylist()
        np.testing.assert_allclose(one["_distance"].to_numpy(), alone["_distance"].to_numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_filter_loses_nothing(small: Store, kind: Kind) -> None:
    """Of a few rows, wherever their partitions lie, the nearest are found as among all, whatever the probes."""
    index = build_index(small, "space_a", probes(8), kind=kind, target=0.5)
    chosen = np.sort(np.random.default_rng(5).choice(2_000, 30, replace=False))
    queries = QUERIES[200:220]
    found = nearest(small.dataset("space_a"), queries, 10, index, where=isin("key", KEYS[chosen].tolist()))
    near = queries.astype(np.float64) @ VECTORS[chosen].astype(np.float64).T
    assert [one["key"].to_pylist() for one in found] == KEYS[chosen][np.argsort(-near, axis=1)[:, :10]].tolist()


def test_long_lists_look_further(store: Store) -> None:
    """Recall holds for lists that span more partitions than ten neighbours do."""
    index = build_index(store, "space_a", probes(), kind="IVF_FLAT", target=0.97)
    keys, _ = oracle(QUERIES[200::4], 500, "image", "cosine")
    found = nearest(store.dataset("space_a"), QUERIES[200::4], 500, index, where=eq("modality", "image"))
    assert recall(found, keys) >= 0.95


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_exact_search_is_exact(store: Store, metric: str) -> None:
    """Exact search gives the oracle's keys in the oracle's order, also beside an index of the other metric."""
    other = build_index(store, "space_a", probes(8), kind="IVF_FLAT", metric="l2" if metric == "cosine" else "cosine")
    index = other.model_copy(update={"metric": metric})
    queries = QUERIES[:20] * np.float32(3)  # cosine looks at directions alone, the squared distance does not
    keys, distances = oracle(queries, 15, "text", metric)
    found = nearest(store.dataset("space_a"), queries, 15, index, where=eq("modality", "text"), exact=True)
    for one, row, far in zip(found, keys, distances, strict=True):
        assert one["key"].to_pylist() == row.tolist()
        np.testing.assert_allclose(one["_distance"].to_numpy(), far, atol=1e-4)


def test_bits_are_ranked_by_the_vectors(small: Store) -> None:
    """Binary search ranks its candidates exactly as exact search ranks these rows."""
    index = build_index(small, "space_a", probes(8), kind="binary", target=0.9)
    data = small.dataset("space_a")
    for query in QUERIES[:10]:
        (found,) = nearest(data, query[None], 40, index, columns=["key", "modality"])
        (exact,) = nearest(data, query[None], 2_000, index, exact=True)
        chosen = set(found["key"].to_pylist())
        assert found.column_names == ["key", "modality", "_distance"]
        assert found["key"].to_pylist() == [key for key in exact["key"].to_pylist() if key in chosen]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_written_later_are_found(tmp_path: Path, kind: Kind) -> None:
    """A row added after the build is found, a changed one at its new place and a deleted one no more."""
    store = Store(tmp_path / "tables")
    store.upsert("space_a", SCHEMA, spaced(KEYS[:600].tolist(), VECTORS[:600], modality=["text"] * 600))
    index = build_index(store, "space_a", [(QUERIES[:20], None)], kind=kind)
    added, moved = QUERIES[300], QUERIES[301]
    store.upsert("space_a", SCHEMA, spaced(["new", KEYS[0]], np.stack([added, moved]), modality=["text"] * 2))
    store.delete_keys("space_a", [KEYS[1]])
    data = store.dataset("space_a")
    for queries, keys in (([added], ["new"]), ([moved], [KEYS[0]]), ([moved, added], [KEYS[0], "new"])):
        found = nearest(data, np.stack(queries), 1, index, where=eq("modality", "text"))
        assert [one["key"].to_pylist() for one in found] == [[key] for key in keys]
    (found,) = nearest(data, VECTORS[1][None], 600, index)
    assert KEYS[1] not in found["key"].to_pylist()
    assert len(set(found["key"].to_pylist())) == len(found)


def test_a_second_build_replaces_the_first(small: Store) -> None:
    """Building again, of the same or another kind, leaves one vector index: the last; exact search leaves none."""
    from lancedb.index import BTree

    small.open("space_a").create_index("key", config=BTree(), replace=True)
    for kind, name in (
        ("IVF_FLAT", "vector_idx"),
        ("IVF_FLAT", "vector_idx"),
        ("binary", "bits_idx"),
        ("binary", "bits_idx"),
        ("IVF_HNSW_SQ", "vector_idx"),
        ("exact", None),
    ):
        index = build_index(small, "space_a", probes(8), kind=kind, metric="l2")  # type: ignore[arg-type]
        found = {one.name for one in small.open("space_a").list_indices()}
        assert found == {"key_idx", "modality_idx"} | ({name} if name else set())
        (hit,) = nearest(small.dataset("space_a"), VECTORS[5][None], 1, index)
        assert hit["key"].to_pylist() == [KEYS[5]]


def test_without_probes_the_table_is_measured(small: Store) -> None:
    """No probe, or none with a query, makes the table's own rows the probes: no recall is claimed unmeasured."""
    for given in ([], [(np.empty((0, DIM), np.float32), None)]):
        index = build_index(small, "space_a", given, kind="binary", target=0.1)
        found = nearest(small.dataset("space_a"), VECTORS[:100], 10, index)
        near = VECTORS[:100].astype(np.float64) @ VECTORS[:2_000].T
        assert index.recall == pytest.approx(recall(found, KEYS[np.argsort(-near, axis=1)[:, :10]]))
        assert index.recall < 1
    assert nearest(small.dataset("space_a"), np.empty((0, DIM), np.float32), 5, index) == []


def test_bits_tell_angles() -> None:
    """The share of unequal sign bits is angle / π within four standard errors, though few directions carry all."""
    draw = np.random.default_rng(0)
    a, b = np.zeros((2, 200, 512), np.float32)
    a[:, :6] = draw.normal(size=(200, 6))
    b[:, :6] = a[:, :6] + 0.7 * draw.normal(size=(200, 6))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    angles = np.arccos(cosines) / np.pi
    unequal = np.unpackbits(sign_bits(a) ^ sign_bits(b), axis=1).mean(1)
    assert (np.abs(unequal - angles) < 4 * np.sqrt(angles * (1 - angles) / 512)).all()


def test_a_filter_that_nothing_passes(small: Store) -> None:
    """A gallery without rows has nothing to miss: it lowers no recall, and a search in it finds nothing."""
    nobody = eq("modality", "audio")
    for kind in KINDS:
        index = build_index(small, "space_a", [*probes(8), (QUERIES[:8], nobody)], kind=kind, target=0.9)
        assert index.recall >= 0.9
        found = nearest(small.dataset("space_a"), QUERIES[:2], 5, index, where=nobody)
        assert [len(one) for one in found] == [0, 0]


def test_equal_contents_do_not_lower_recall(tmp_path: Path) -> None:
    """Where many rows are equally near, any of them counts: copies of a content are no failure of the index."""
    store = Store(tmp_path / "tables")
    vectors = np.repeat(unit(20, DIM), 50, axis=0)
    store.upsert("space_a", SCHEMA, spaced(KEYS[:1_000].tolist(), vectors))
    for kind in KINDS:
        if kind != "IVF_HNSW_SQ":  # whose graph may fall apart over so many copies: what it then misses it does miss
            index = build_index(store, "space_a", [(unit(20, DIM), None)], kind=kind, target=1.0)
            assert index.recall == 1.0


def test_an_unreachable_target_keeps_the_best(small: Store) -> None:
    """Where no step reaches the target, all are tried, and the best one is kept with the recall it has."""
    index = build_index(small, "space_a", probes(20), kind="IVF_PQ", target=1.1)
    assert len(index.tried) == 8
    assert index.recall == pytest.approx(max(one["recall"] for one in index.tried), abs=1e-4)
    assert any(index.query.items() <= one.items() for one in index.tried)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exact"])
def test_too_few_rows_are_an_error(tmp_path: Path, kind: Kind) -> None:
    """An index over fewer than 256 rows is refused, with the name, the number and the mend; exact search is not."""
    store = Store(tmp_path / "tables")
    store.upsert("space_a", SCHEMA, spaced(KEYS[:255].tolist(), VECTORS[:255]))
    with pytest.raises(StorageError, match=f"{kind} needs at least 256 rows, space_a has 255; use index.kind auto"):
        build_index(store, "space_a", [(QUERIES[:5], None)], kind=kind)
    index = build_index(store, "space_a", [(QUERIES[:5], None)])
    assert (index.kind, index.recall, index.partitions) == ("exact", 1.0, 0)
    store.upsert("space_a", SCHEMA, spaced(KEYS[255:256].tolist(), VECTORS[255:256]))
    assert build_index(store, "space_a", [(QUERIES[:5], None)], kind=kind, target=0.5).rows == 256


def test_an_empty_space_is_exact(tmp_path: Path) -> None:
    """A space without items can be indexed and searched: nothing is found."""
    store = Store(tmp_path / "tables")
    store.create("space_a", SCHEMA)
    index = build_index(store, "space_a", [])
    assert index.kind == "exact"
    assert [len(one) for one in nearest(store.dataset("space_a"), QUERIES[:2], 5, index)] == [0, 0]


def test_the_kind_is_chosen_by_size() -> None:
    """Below the threshold search is exact, from it on an index is built."""
    assert [kind_for(rows, 100) for rows in (0, 99, 100, 10**7)] == ["exact", "exact", "IVF_FLAT", "IVF_FLAT"]
    assert kind_for(0, 0) == "IVF_FLAT"


def test_an_index_survives_json(small: Store) -> None:
    """What an index remembers comes back from JSON as it was, as it must from a manifest."""
    index = build_index(small, "space_a", probes(8), kind="IVF_FLAT")
    assert Index.model_validate_json(index.model_dump_json()) == index
