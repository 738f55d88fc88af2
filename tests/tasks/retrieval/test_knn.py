from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.retrieval.knn import blocks, exact_top_k, top_k


def sorted_in_full(scores: np.ndarray, k: int) -> list[list[int]]:
    """The k best columns of each row by Python's sorting: the greater first, of equal ones the lower column."""
    return [sorted(range(scores.shape[1]), key=lambda j: (-row[j], j))[:k] for row in scores.tolist()]


@st.composite
def small_integers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Queries and a gallery of small whole numbers: products are exact in float32, and ties are many."""
    seed, width = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 4))
    generator = np.random.default_rng(seed)
    n, m = draw(st.integers(0, 12)), draw(st.integers(0, 40))
    return tuple(generator.integers(-2, 3, (rows, width)).astype(np.float32) for rows in (n, m))  # type: ignore[return-value]


@settings(deadline=None, max_examples=200)
@given(small_integers(), st.integers(1, 50), st.integers(1, 600))
def test_the_best_are_those_of_full_sorting(sides: tuple[np.ndarray, np.ndarray], k: int, cells: int) -> None:
    """Neighbours and scores are those of sorting all products, ties by the lower row, for any k and size of block."""
    queries, gallery = sides
    scores = queries @ gallery.T
    found, values = exact_top_k(queries, gallery, k, cells=cells)
    assert found.shape == values.shape == (len(queries), min(k, len(gallery)))
    assert (found.dtype, values.dtype) == (np.int64, np.float32)
    assert found.tolist() == sorted_in_full(scores, k)
    assert np.array_equal(values, np.take_along_axis(scores, found, 1))


@pytest.mark.parametrize("size", [20, 1_000])
def test_equal_scores_stand_in_the_order_of_their_columns(size: int) -> None:
    """Among columns that are all equal, and at the border of the k best, the lower ones are taken."""
    assert top_k(np.zeros((2, size), np.float32), 7)[0].tolist() == [list(range(7))] * 2
    scores = np.random.default_rng(0).integers(0, 4, (50, size)).astype(np.float32)
    assert top_k(scores, 10)[0].tolist() == sorted_in_full(scores, 10)


def test_random_floats_are_sorted_too() -> None:
    """Without ties the ten best of a thousand are those of full sorting, and fall from first to last."""
    scores = np.random.default_rng(1).normal(size=(100, 1_000)).astype(np.float32)
    found, values = top_k(scores, 10)
    assert np.array_equal(found, np.argsort(-scores, axis=1)[:, :10])
    assert (np.diff(values, axis=1) < 0).all()


def test_no_number_is_no_neighbour() -> None:
    """NaN stands behind every score, minus infinity too, and comes only where nothing else is left."""
    scores = np.array([[np.nan, 1, -np.inf, np.nan, 2], [np.nan] * 5], np.float32)
    assert top_k(scores, 3)[0].tolist() == [[4, 1, 2], [0, 1, 2]]
    assert top_k(scores, 4)[0].tolist() == [[4, 1, 2, 0], [0, 1, 2, 3]]
    assert top_k(scores, 5)[0].tolist() == [[4, 1, 2, 0, 3], [0, 1, 2, 3, 4]]


def test_of_normalised_rows_the_cosine_ranks() -> None:
    """Each of 200 unit vectors is its own nearest neighbour, with a cosine of one."""
    x = np.random.default_rng(2).normal(size=(200, 16)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found, scores = exact_top_k(x, x, 1)
    assert found[:, 0].tolist() == list(range(200))
    np.testing.assert_allclose(scores, 1, atol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 500))
def test_blocks_cut_everything_once(n: int, m: int, cells: int) -> None:
    """Blocks follow each other from the first row to the last, none empty, none over the bound but for a single row."""
    parts = list(blocks(n, m, cells))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(n))
    assert all(part.stop > part.start for part in parts)
    assert all((part.stop - part.start) * m <= cells or part.stop - part.start == 1 for part in parts)


def test_memory_is_a_block() -> None:
    """The peak of a search is set by `cells`, not by queries times gallery: here a sixth of all scores at most."""
    x = np.random.default_rng(3).normal(size=(3_000, 4)).astype(np.float32)
    tracemalloc.start()
    exact_top_k(x, x, 5, cells=2**16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000 * 3_000 * 4 / 6
