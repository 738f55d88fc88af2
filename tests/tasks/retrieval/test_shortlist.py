from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.retrieval import shortlist
from tasks.retrieval.knn import exact_top_k
from tasks.retrieval.shortlist import bf16_bits, bf16_top_k, fast_top_k

torch = pytest.importorskip("torch")


def unit(generator: np.random.Generator, n: int, width: int = 24) -> np.ndarray:
    """Random unit vectors."""
    x = generator.normal(size=(n, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def plain(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """The k best rows by sorting float64 products in full, ties by the lower row."""
    return np.argsort(-(queries.astype(np.float64) @ gallery.astype(np.float64).T), axis=1, kind="stable")[:, :k]


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 30),
    st.integers(1, 3_000),
    st.integers(1, 40),
    st.sampled_from([1, 2**16]),
)
def test_the_best_are_those_of_full_sorting(seed: int, n: int, m: int, k: int, cells: int) -> None:
    """Neighbours are those of sorting all products, ties by the lower row, whatever bf16 makes of them.

    Small whole numbers: products are exact in float32, ties are many, and half of the scores lie below zero.
    """
    generator = np.random.default_rng(seed)
    queries, gallery = (generator.integers(-9, 10, (rows, 3)).astype(np.float32) for rows in (n, m))
    found, scores = bf16_top_k(queries, gallery, k, cells=cells)
    expected = plain(queries, gallery, k)
    assert found.tolist() == expected.tolist()
    assert np.array_equal(scores, np.take_along_axis(queries @ gallery.T, expected, 1))
    assert (found.dtype, scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("columns", [1_024, 3_000, 2**16])
def test_unit_vectors_need_no_second_look(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of well-spread vectors the shortlist alone tells the best, however the gallery is cut into blocks."""
    monkeypatch.setattr(shortlist, "_COLUMNS", columns)
    monkeypatch.setattr(shortlist, "exact_top_k", None)
    generator = np.random.default_rng(0)
    queries, gallery = unit(generator, 300), unit(generator, 10_001)
    found, scores = bf16_top_k(queries, gallery, 10, cells=2**18)
    expected = plain(queries, gallery, 10)
    assert found.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ gallery.T, expected, 1), atol=1e-6)


def test_what_bf16_cannot_tell_apart_is_told_apart() -> None:
    """Where a thousand scores round to one bf16 number, the best of them are found all the same."""
    generator = np.random.default_rng(1)
    centre = unit(generator, 1, 64)
    near = centre + 1e-4 * generator.normal(size=(1_000, 64)).astype(np.float32)
    gallery = np.concatenate([unit(generator, 4_000, 64), near, unit(generator, 4_000, 64)])
    assert len(set(bf16_bits(gallery[4_000:5_000] @ centre[0]).tolist())) < 5
    found, _ = bf16_top_k(np.concatenate([centre, gallery[4_000:4_020]]), gallery, 10)
    truth = exact_top_k(np.concatenate([centre, gallery[4_000:4_020]]), gallery, 10)[0]
    assert (np.sort(found, axis=1) == np.sort(truth, axis=1)).mean() > 0.99  # sums in another order part at 1e-7


def test_scores_below_zero_are_in_order() -> None:
    """Where every score is negative, and its bits therefore in the wrong order, the greatest are the best."""
    generator = np.random.default_rng(2)
    gallery = np.abs(unit(generator, 2_000))
    queries = -np.abs(unit(generator, 20))
    assert bf16_top_k(queries, gallery, 5)[0].tolist() == plain(queries, gallery, 5).tolist()


def test_no_number_is_no_neighbour() -> None:
    """A gallery row with NaN or infinity does not hide the others, and NaN stands behind them."""
    generator = np.random.default_rng(3)
    queries, gallery = unit(generator, 5), unit(generator, 2_000)
    gallery[7, 3] = np.nan
    with np.errstate(invalid="ignore"):
        found, scores = bf16_top_k(queries, gallery, 10)
        expected = exact_top_k(queries, gallery, 10)
    assert found.tolist() == expected[0].tolist()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(("n", "m", "k"), [(0, 2_000, 3), (3, 0, 3), (3, 2_000, 0), (2, 5, 50)])
def test_nothing_asked_nothing_found(n: int, m: int, k: int) -> None:
    """Without queries, gallery or wish there is nothing, in the shape that was asked for."""
    x = np.ones((max(n, m), 4), np.float32)
    for search in (bf16_top_k, fast_top_k):
        found, scores = search(x[:n], x[:m], k)
        assert found.shape == scores.shape == (n, min(k, m))


def test_bits_are_those_of_torch() -> None:
    """Rounding to bf16 is that of torch, ties to even."""
    x = np.random.default_rng(4).normal(size=10_000).astype(np.float32)
    x[:3] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, np.inf
    assert np.array_equal(bf16_bits(x), torch.from_numpy(x).bfloat16().view(torch.int16).numpy())


def test_threads_of_torch_stay_as_they_were() -> None:
    """The search leaves torch the number of threads that it had."""
    before = torch.get_num_threads()
    bf16_top_k(unit(np.random.default_rng(5), 10), unit(np.random.default_rng(6), 2_000), 3)
    assert torch.get_num_threads() == before
