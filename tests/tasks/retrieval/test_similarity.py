from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from tasks.retrieval.similarity import (
    Score,
    cosine,
    dot,
    euclidean_distance,
    factors,
    linear_map,
    normalise,
    of_products,
    profile_divergence,
    similarity,
    to_similarity,
)

Rows = list[list[float]]


@st.composite
def two_sides(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Two lists of vectors of one width, whose entries are quarters, zero rows among them."""
    width = draw(st.integers(1, 6))
    row = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=width, max_size=width)
    return draw(st.lists(row, min_size=1, max_size=5)), draw(st.lists(row, min_size=1, max_size=5))


def looped(a: Rows, b: Rows, function: Callable[[list[float], list[float]], float]) -> list[list[float]]:
    """`function` of each row of `a` with each row of `b`."""
    return [[function(x, y) for y in b] for x in a]


def plain_dot(x: list[float], y: list[float]) -> float:
    """Dot product of two vectors."""
    return sum(s * t for s, t in zip(x, y, strict=True))


def plain_cosine(x: list[float], y: list[float]) -> float:
    """Cosine of two vectors, 0 where one is zero."""
    lengths = math.sqrt(plain_dot(x, x)) * math.sqrt(plain_dot(y, y))
    return plain_dot(x, y) / lengths if lengths else 0.0


def plain_profile(x: list[float], anchors: Rows, temperature: float) -> list[float]:
    """Softmax of the cosines with the anchors, divided by the temperature."""
    powers = [math.exp((plain_cosine(x, anchor) - 1) / temperature) for anchor in anchors]
    return [power / sum(powers) for power in powers]


def test_the_figures_of_the_methods() -> None:
    """(1, 2, 3) and (4, 5, 6) have cosine 32/(√14·√77); [[1, 2], [3, 4]]·(1, 2) is (5, 11)."""
    assert cosine([[1, 2, 3]], [[4, 5, 6]])[0, 0] == pytest.approx(32 / (math.sqrt(14) * math.sqrt(77)), abs=1e-6)
    assert dot([[1, 2, 3]], [[4, 5, 6]]).tolist() == [[32]]
    assert euclidean_distance([[1, 2, 3]], [[4, 5, 6]])[0, 0] == pytest.approx(math.sqrt(27))
    assert linear_map([[1, 2], [3, 4]], [[1, 2]]).tolist() == [[5, 11]]


@settings(deadline=None)
@given(two_sides())
def test_each_measure_is_that_of_plain_loops(sides: tuple[Rows, Rows]) -> None:
    """Cosine, dot product and Euclidean distance are those of plain loops, a zero row's cosine being zero."""
    a, b = sides
    np.testing.assert_array_equal(dot(a, b), looped(a, b, plain_dot))
    np.testing.assert_allclose(cosine(a, b), looped(a, b, plain_cosine), atol=1e-6)
    # quarters up to ten: near to nothing is lost when squares are subtracted
    np.testing.assert_allclose(euclidean_distance(a, b), looped(a, b, math.dist), atol=1e-6)
    assert all(one.dtype == np.float32 for one in (dot(a, b), cosine(a, b), euclidean_distance(a, b)))


@settings(deadline=None)
@given(two_sides())
def test_a_linear_map_is_a_sum_over_columns(sides: tuple[Rows, Rows]) -> None:
    """A·x is, for each row of A, the plain dot product with x."""
    matrix, x = sides
    np.testing.assert_array_equal(linear_map(matrix, x), looped(x, matrix, plain_dot))


@settings(deadline=None)
@given(two_sides())
def test_normalised_rows_have_length_one(sides: tuple[Rows, Rows]) -> None:
    """A row keeps its direction and gets length one; a zero row stays zero, and nothing becomes NaN."""
    for row, unit in zip(sides[0], normalise(sides[0]).tolist(), strict=True):
        length = math.sqrt(plain_dot(row, row))
        assert unit == pytest.approx([value / length for value in row] if length else row, abs=1e-6)


def test_the_distance_of_far_rows_is_sound() -> None:
    """Far from the origin a distance is right to a float32's precision of where the rows lie, and never NaN."""
    a = 1e4 + np.random.default_rng(0).normal(size=(30, 8))
    found = euclidean_distance(a, a)
    np.testing.assert_allclose(found, looped(a.tolist(), a.tolist(), math.dist), atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(two_sides(), two_sides(), st.sampled_from([0.05, 0.2, 1.0]))
def test_divergence_is_that_of_plain_loops(left: tuple[Rows, Rows], right: tuple[Rows, Rows], heat: float) -> None:
    """Half the sum of both KL divergences (scipy's rel_entr) of plain profiles, never negative, in either order."""
    count = min(len(left[1]), len(right[1]))
    (a, anchors_a), (b, anchors_b) = (left[0], left[1][:count]), (right[0], right[1][:count])
    p = [plain_profile(x, anchors_a, heat) for x in a]
    q = [plain_profile(y, anchors_b, heat) for y in b]
    expected = [[sum(rel_entr(s, t)) / 2 + sum(rel_entr(t, s)) / 2 for t in q] for s in p]
    found = profile_divergence(a, b, anchors_a, anchors_b, heat)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (found >= 0).all()
    np.testing.assert_allclose(profile_divergence(b, a, anchors_b, anchors_a, heat).T, found, rtol=1e-5, atol=1e-6)


def test_equal_profiles_diverge_by_nothing() -> None:
    """A modality that is another one rotated and scaled has the same profiles: an item diverges by 0 from its image."""
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    anchors, x = generator.normal(size=(20, 6)), generator.normal(size=(10, 6))
    found = profile_divergence(x, 3 * x @ rotation, anchors, anchors @ rotation)
    np.testing.assert_allclose(found.diagonal(), 0, atol=1e-5)
    assert (found[~np.eye(10, dtype=bool)] > 1e-3).all()


def test_a_zero_vector_is_near_to_nothing_in_particular() -> None:
    """A zero vector has cosine 0 with everything, and the profile that is even over all anchors."""
    zero, anchors = np.zeros((1, 3)), np.eye(3)
    assert cosine(zero, anchors).tolist() == [[0, 0, 0]]
    assert profile_divergence(zero, np.ones((1, 3)), anchors, anchors)[0, 0] == pytest.approx(0, abs=1e-9)


def test_a_similarity_is_a_distance_turned_round() -> None:
    """What is farther is less similar; LanceDB's cosine distance, 1 − cosine, becomes the cosine again."""
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=(4, 5)), generator.normal(size=(6, 5))
    np.testing.assert_allclose(to_similarity(1 - cosine(a, b), "cosine"), cosine(a, b), atol=1e-6)
    distances = euclidean_distance(a, b)
    assert np.array_equal(np.argsort(to_similarity(distances, "l2"), 1)[:, ::-1], np.argsort(distances, 1))


@pytest.mark.parametrize("score", ["cosine", "dot", "euclidean", "kl"])
def test_products_of_factors_are_the_similarity(score: Score) -> None:
    """Dot products of the factors give back each similarity, and the nearest is the highest."""
    generator = np.random.default_rng(3)
    a, b, left, right = (generator.normal(size=(n, 6)).astype(np.float32) for n in (20, 30, 9, 9))

    def minus_kl(x: list[float], y: list[float]) -> float:
        p, q = plain_profile(x, left.tolist(), 0.05), plain_profile(y, right.tolist(), 0.05)
        return -float(np.sum(rel_entr(p, q) + rel_entr(q, p))) / 2

    expected = similarity(score, a, b, (left, right))
    one, other = factors(score, a, b, (left, right))
    products = one @ other.T
    np.testing.assert_allclose(of_products(products, score), expected, atol=1e-4)
    assert (np.argmax(products, axis=1) == np.argmax(expected, axis=1)).all()
    oracle = {"cosine": plain_cosine, "dot": plain_dot, "euclidean": lambda x, y: -math.dist(x, y), "kl": minus_kl}
    np.testing.assert_allclose(expected, looped(a.tolist(), b.tolist(), oracle[score]), rtol=1e-4, atol=1e-4)


def test_the_own_is_the_nearest() -> None:
    """Under every score but the dot product no item is nearer than the item itself."""
    x = np.random.default_rng(4).normal(size=(25, 5)).astype(np.float32)
    for score in ("cosine", "euclidean", "kl"):
        assert (similarity(score, x, x, (x[:9], x[:9])).argmax(1) == np.arange(25)).all()
