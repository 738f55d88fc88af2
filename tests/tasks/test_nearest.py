from __future__ import annotations

import numpy as np
import pytest

import tasks.nearest
from storage import schemas
from storage.ann import Index, Kind, build_index
from storage.filters import eq
from storage.tables import Store
from tasks.nearest import nearest
from tests.storage.rows import Array, spaced, unit

ROWS, DIM = 6_000, 24
MODALITIES = np.array(["image", "text", "text"])[np.arange(ROWS) % 3]
KEYS = np.array([f"k{i:05}" for i in range(ROWS)])
VECTORS = unit(ROWS, DIM)
QUERIES = unit(60, DIM, seed=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A space of 6,000 items of two modalities."""
    made = Store(tmp_path_factory.mktemp("tables"))
    schema = schemas.space(DIM, ("image",), "id")
    made.upsert("space", schema, spaced(KEYS.tolist(), VECTORS, modality=MODALITIES.tolist()))
    return made


def index_of(store: Store, kind: Kind, metric: str = "cosine") -> Index:
    """An index over the space, tuned on texts."""
    return build_index(store, "space", [(unit(80, DIM, seed=2), eq("modality", "text"))], kind=kind, metric=metric)  # type: ignore[arg-type]


def oracle(queries: Array, modality: str, k: int, metric: str) -> tuple[list[list[str]], np.ndarray]:
    """Keys and similarities of the nearest rows by plain sums in double precision."""
    rows = np.flatnonzero(modality == MODALITIES)
    x, y = queries.astype(np.float64), VECTORS[rows].astype(np.float64)
    if metric == "cosine":
        near = x @ y.T / (np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1))
    else:
        near = -((x[:, None] - y[None]) ** 2).sum(2)
    order = np.argsort(-near, axis=1, kind="stable")[:, :k]
    return KEYS[rows][order].tolist(), np.take_along_axis(near, order, 1)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_below_the_size_the_answer_is_exact(store: Store, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few rows, or without an index, all are compared, whatever the blocks: a plain scan finds the same."""
    for rows, queries in ((2**16, QUERIES), (1_500, 3 * QUERIES)):
        monkeypatch.setattr(tasks.nearest, "_ROWS", rows)
        found = nearest(store, "space", queries, 7, index_of(store, "exact", metric), where=eq("modality", "text"))
        keys, near = oracle(queries, "text", 7, metric)
        assert found.keys.tolist() == keys
        np.testing.assert_allclose(found.scores, near, atol=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_beyond_the_size_the_index_answers(store: Store, metric: str) -> None:
    """Beyond the size the index is asked: the exact answer is its oracle, recall@10 and similarities alike."""
    index = index_of(store, "IVF_HNSW_SQ", metric)
    near = nearest(store, "space", QUERIES, 10, index, where=eq("modality", "text"), exact_below=100)
    truth = nearest(store, "space", QUERIES, 10, index, where=eq("modality", "text"), exact_below=10**6)
    assert truth.keys.tolist() == oracle(QUERIES, "text", 10, metric)[0]
    hits = [len(set(one) & set(other)) for one, other in zip(near.keys.tolist(), truth.keys.tolist(), strict=True)]
    assert np.mean(hits) / 10 >= 0.95
    same = near.keys == truth.keys
    np.testing.assert_allclose(near.scores[same], truth.scores[same], atol=1e-3)


def test_the_filter_decides_the_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is how many rows satisfy the filter: 2,000 pictures are few, 4,000 texts are many."""
    index = index_of(store, "IVF_FLAT")
    asked: list[int] = []
    real = tasks.nearest.neighbours.nearest
    monkeypatch.setattr(
        tasks.nearest.neighbours, "nearest", lambda *args, **more: asked.append(1) or real(*args, **more)
    )  # fmt: skip
    nearest(store, "space", QUERIES, 3, index, where=eq("modality", "image"), exact_below=3_000)
    assert not asked
    nearest(store, "space", QUERIES, 3, index, where=eq("modality", "text"), exact_below=3_000)
    assert asked


@pytest.mark.parametrize("exact_below", [1, 10**6])
def test_fewer_than_asked_for(store: Store, exact_below: int) -> None:
    """Where fewer items are found the rest is blank, and has no similarity; no query gives no row."""
    index = index_of(store, "IVF_FLAT")
    found = nearest(store, "space", QUERIES[:2], 5, index, where=eq("key", "k00007"), exact_below=exact_below)
    # an index may pass by the one partition that holds the item
    expected = {"k00007", ""} if exact_below > 1 else {*found.keys[:, 0].tolist(), ""}
    assert set(found.keys.ravel().tolist()) == expected <= {"k00007", ""}
    assert (found.keys[:, 1:] == "").all()
    assert (np.isneginf(found.scores) == (found.keys == "")).all()
    assert nearest(store, "space", QUERIES[:0], 5, index, exact_below=exact_below).keys.shape == (0, 5)
