from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks.retrieval.hubness import (
    corrected,
    csls,
    hubness_terms,
    inverted_softmax,
    k_occurrence,
    occurrence_shares,
    skewness,
)
from tasks.retrieval.knn import top_k


def unit(generator: np.random.Generator, n: int, width: int = 16, lean: float = 0.0) -> np.ndarray:
    """Random unit vectors; `lean` draws them all towards the first axis."""
    x = generator.normal(size=(n, width))
    x[:, 0] += lean
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def plain_terms(gallery: np.ndarray, bank: np.ndarray, k: int) -> list[float]:
    """Hubness term of each gallery item by plain loops: the mean of its k largest dot products with the bank."""
    out = []
    for item in gallery.tolist():
        near = sorted((sum(s * t for s, t in zip(item, one, strict=True)) for one in bank.tolist()), reverse=True)[:k]
        out.append(sum(near) / len(near))
    return out


@pytest.mark.parametrize(("items", "bank", "k"), [(30, 50, 10), (30, 5, 10), (1, 1, 1), (7, 40, 1)])
@pytest.mark.parametrize("cells", [1, 100, 2**23])
def test_terms_are_those_of_plain_loops(items: int, bank: int, k: int, cells: int) -> None:
    """r(g) is the mean of the k largest similarities to the bank, of all where it holds fewer; blocks do not matter."""
    generator = np.random.default_rng(0)
    gallery, queries = unit(generator, items), unit(generator, bank)
    found = hubness_terms(gallery, queries, k, cells=cells)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_terms(gallery, queries, k), atol=1e-6)


def test_csls_is_that_of_plain_loops() -> None:
    """CSLS is 2·cos(q, g) − r(q) − r(g), r over the other side's 10 nearest (Conneau et al. 2018, equation 3)."""
    generator = np.random.default_rng(1)
    queries, gallery = unit(generator, 25), unit(generator, 40)
    scores = queries @ gallery.T
    found = csls(scores, hubness_terms(queries, gallery), hubness_terms(gallery, queries))
    of_query, of_item = plain_terms(queries, gallery, 10), plain_terms(gallery, queries, 10)
    expected = [[2 * float(scores[i, j]) - of_query[i] - of_item[j] for j in range(40)] for i in range(25)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 20))
def test_the_correction_ranks_as_csls(seed: int, n: int, m: int) -> None:
    """Each query's ranking under `corrected` is that under CSLS: the query's own term moves all its scores alike.

    The numbers are eighths, so that float32 rounds nothing and ties stay ties.
    """
    generator = np.random.default_rng(seed)
    scores, of_query, of_item = (generator.integers(-8, 9, shape) / 8 for shape in ((n, m), n, m))
    one = corrected(scores.astype(np.float32), of_item.astype(np.float32))
    other = csls(scores.astype(np.float32), of_query.astype(np.float32), of_item.astype(np.float32))
    assert np.array_equal(top_k(one, m)[0], top_k(other, m)[0])


def test_a_planted_hub_loses_its_place() -> None:
    """An item amid all queries stands in many top-10 lists; the correction by a bank of other queries ends that.

    By chance an item stands in 10/300 of the lists.
    """
    generator = np.random.default_rng(2)
    gallery = unit(generator, 300, lean=3)
    gallery[7] = np.eye(16, dtype=np.float32)[0]
    queries, bank = unit(generator, 400, lean=3), unit(generator, 500, lean=3)
    scores = queries @ gallery.T
    fair = 400 * 10 / 300
    before, after = (
        k_occurrence(top_k(one, 10)[0], 300) for one in (scores, corrected(scores, hubness_terms(gallery, bank)))
    )
    assert before.argmax() == 7
    assert before[7] > 5 * fair
    assert after[7] < 2 * fair
    assert skewness(after) < skewness(before) / 2


def test_inverted_softmax_is_that_of_plain_loops() -> None:
    """The log of exp(β·S(q, g)) over the sum of exp(β·S(b, g)) of the bank's queries b (Bogolin et al. 2022)."""
    generator = np.random.default_rng(3)
    scores, bank = (generator.uniform(-1, 1, (n, 9)).astype(np.float32) for n in (6, 20))
    for beta in (1.0, 10.0, 50.0):
        sums = [sum(math.exp(beta * b) for b in column) for column in bank.T.tolist()]
        expected = [[math.log(math.exp(beta * s) / sums[j]) for j, s in enumerate(row)] for row in scores.tolist()]
        np.testing.assert_allclose(inverted_softmax(scores, bank, beta), expected, rtol=1e-5, atol=1e-4)


def test_inverted_softmax_does_not_overflow() -> None:
    """For a huge β all is finite, and what is left is β times the lead over the bank's nearest query."""
    generator = np.random.default_rng(4)
    scores, bank = (generator.uniform(-1, 1, (n, 9)).astype(np.float32) for n in (6, 20))
    for beta in (1e5, 1e30):
        found = inverted_softmax(scores, bank, beta)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found / beta, scores - bank.max(0), atol=1e-5)


def test_an_item_in_every_list_is_counted_each_time() -> None:
    """N_k counts how often each item stands in a list, items in none among them, as plain counting does."""
    lists = np.random.default_rng(5).integers(0, 8, (40, 10))
    counts = Counter(lists.ravel().tolist())
    found = k_occurrence(lists, 12)
    assert found.tolist() == [counts[item] for item in range(12)]
    assert found.sum() == 400


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=60))
def test_skewness_is_scipys(counts: list[int]) -> None:
    """The skewness is scipy's biased one; for equal counts, where that is undefined, it is zero."""
    expected = stats.skew(counts) if len(set(counts)) > 1 else 0.0
    assert skewness(np.array(counts)) == pytest.approx(float(expected), abs=1e-9)


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=50))
def test_every_count_lies_in_one_bin(counts: list[int]) -> None:
    """Each bin has the share of the items whose count lies between its ends, both of them in it; all add up to 1."""
    table = occurrence_shares(np.array(counts), np.zeros(3, np.int64))
    for row in table:
        inside = [row["from"] <= one and (row["to"] is None or one <= row["to"]) for one in counts]
        assert row["shares"][0] == pytest.approx(sum(inside) / len(counts))
    assert sum(row["shares"][0] for row in table) == pytest.approx(1)
    assert table[0]["shares"][1] == 1
