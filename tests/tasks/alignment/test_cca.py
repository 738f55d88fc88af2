from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from tasks.alignment.cca import Moments, cross_moment, factor, moments, solver, thin_svd, without
from tasks.retrieval.similarity import cosine


def planted(n: int, dx: int = 12, dy: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paired, centred features whose six shared signals differ in strength, so that no two correlations are equal."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(n, 6))
    noise = np.array([0.2, 0.4, 0.7, 1.0, 1.5, 2.5])
    x, y = (
        np.concatenate([shared + noise * generator.normal(size=(n, 6)), generator.normal(size=(n, width - 6))], 1)
        @ generator.normal(size=(width, width))
        for width in (dx, dy)
    )
    each = np.stack([np.arange(n)] * 2, 1)
    return (x - x.mean(0)).astype(np.float32), (y - y.mean(0)).astype(np.float32), each


def heads(m: Moments, ridge: float, p: float, dim: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """CCA's heads for given moments, with the same ridge on both sides."""
    return solver(m.xx, m.yy, rx=ridge, ry=ridge, p=p, dim=dim)(m.xy)


def correlations_by_angles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Canonical correlations as cosines of the angles between the column spaces (Björck and Golub 1973)."""
    qx, qy = np.linalg.qr(x.astype(np.float64))[0], np.linalg.qr(y.astype(np.float64))[0]
    return np.linalg.svd(qx.T @ qy, compute_uv=False)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_a_rotation_is_undone(ridge: float) -> None:
    """With y = x·R both heads project a pair to one vector, A is R·B, and every pair is found first."""
    x, _, pairs = planted(300)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    y = x @ rotation  # in double precision: no ridge, and the least directions are divided by next to nothing
    a, b = heads(moments(x, y, pairs), ridge, 1.0)
    np.testing.assert_allclose(a, rotation @ b, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(x @ a, y @ b, atol=1e-3)
    assert cosine(x @ a, y @ b).argmax(1).tolist() == list(range(300))


def test_correlations_are_the_cosines_of_angles() -> None:
    """At a tiny ridge the columns of x·A and y·B correlate as the angles between the spaces say, and with no others."""
    x, y, pairs = planted(400)
    a, b = heads(moments(x, y, pairs), 1e-9, 0.0)
    expected = correlations_by_angles(x, y)
    assert len(expected) == a.shape[1] == b.shape[1] == 9
    table = np.corrcoef(x @ a, y @ b, rowvar=False)
    np.testing.assert_allclose(table[:9, 9:], np.diag(expected), atol=1e-4)
    np.testing.assert_allclose(table[:9, :9], np.eye(9), atol=1e-4)
    np.testing.assert_allclose(table[9:, 9:], np.eye(9), atol=1e-4)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5])
def test_directions_are_weighted_by_their_correlation(p: float) -> None:
    """A column of either head has the length it has at p = 0 times its canonical correlation to the power p."""
    x, y, pairs = planted(400)
    m = moments(x, y, pairs)
    weight = correlations_by_angles(x, y)[:5] ** p
    for weighted, plain in zip(heads(m, 1e-9, p, dim=5), heads(m, 1e-9, 0.0), strict=True):
        np.testing.assert_allclose(weighted, plain[:, :5] * weight, rtol=1e-3, atol=1e-5)


def test_the_ridge_is_a_share_of_the_mean_eigenvalue() -> None:
    """The heads solve (Cx + rx·c̄x·I)·A·Σ = Cxy·B at p = 0, and AᵀCregA = I: ridge and all, by plain linear algebra."""
    x, y, pairs = planted(400)
    m = moments(x, y, pairs)
    rx, ry = 0.5, 2.0
    a, b = solver(m.xx, m.yy, rx=rx, ry=ry, p=0.0, dim=9)(m.xy)
    lift_x = m.xx + rx * np.linalg.eigvalsh(m.xx).mean() * np.eye(12)
    lift_y = m.yy + ry * np.linalg.eigvalsh(m.yy).mean() * np.eye(9)
    np.testing.assert_allclose(a.T @ lift_x @ a, np.eye(9), atol=1e-4)
    np.testing.assert_allclose(b.T @ lift_y @ b, np.eye(9), atol=1e-4)
    sigma = np.diag(a.T @ m.xy @ b)
    assert (np.diff(sigma) < 0).all()
    np.testing.assert_allclose(a.T @ m.xy @ b, np.diag(sigma), atol=1e-4)
    np.testing.assert_allclose(m.xy @ b, lift_x @ a * sigma, atol=1e-3)


def laid_out(x: np.ndarray, y: np.ndarray, pairs: np.ndarray, weights: np.ndarray) -> Moments:
    """Weighted second moments of the rows of the pairs, laid out one after another."""
    left, right = x[pairs[:, 0]].astype(np.float64), y[pairs[:, 1]].astype(np.float64)
    share = weights[:, None] / weights.sum()
    return Moments((share * left).T @ left, (share * right).T @ right, (share * left).T @ right)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.integers(1, 30))
def test_moments_are_those_of_the_rows_laid_out(seed: int, nx: int, ny: int, count: int) -> None:
    """Pairs in any number, repeated, of items with several partners or none: moments as if every row were laid out."""
    generator = np.random.default_rng(seed)
    x, y = (generator.normal(size=shape).astype(np.float32) for shape in ((nx, 4), (ny, 3)))
    pairs = np.stack([generator.integers(0, size, count) for size in (nx, ny)], 1)
    weights = generator.uniform(0.1, 3, count)
    for given_, expected in ((weights, weights), (None, np.ones(count))):
        for one, other in zip(moments(x, y, pairs, given_), laid_out(x, y, pairs, expected), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_allclose(cross_moment(x, y, pairs), moments(x, y, pairs).xy, atol=1e-12)


def test_a_pair_given_twice_is_a_pair_of_weight_two() -> None:
    """Saying some pairs twice gives the moments, and so the heads, of weight 2; all weights scaled change nothing."""
    x, y, pairs = planted(200)
    twice = np.concatenate([pairs, pairs[:70]])
    weights = np.where(np.arange(200) < 70, 2.0, 1.0)
    doubled = moments(x, y, twice)
    for given_ in (weights, 10 * weights):
        for one, other in zip(moments(x, y, pairs, given_), doubled, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    for one, other in zip(heads(moments(x, y, pairs, weights), 0.1, 1.0), heads(doubled, 0.1, 1.0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_taking_a_part_away() -> None:
    """The moments without a part of the pairs are those of the other pairs."""
    x, y, pairs = planted(100)
    rest = without(moments(x, y, pairs), moments(x, y, pairs[:30]), 0.3)
    for one, other in zip(rest, moments(x, y, pairs[30:]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_an_invertible_map_of_one_side_changes_nothing() -> None:
    """Without a ridge the similarities, and so the rankings, are the same when x is sent through an invertible map."""
    x, y, pairs = planted(300)
    generator = np.random.default_rng(2)
    inner, outer = (np.linalg.qr(generator.normal(size=(12, 12)))[0] for _ in range(2))
    turned = (x @ (inner * np.linspace(0.3, 3, 12)) @ outer).astype(np.float32)
    scores = []
    for one in (x, turned):
        a, b = heads(moments(one, y, pairs), 0.0, 1.0)
        scores.append(cosine(one @ a, y @ b))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)
    assert np.array_equal(scores[0].argmax(1), scores[1].argmax(1))


def test_signs_are_fixed() -> None:
    """The largest entry of each direction of x is positive, so the order of the pairs turns no sign."""
    x, y, pairs = planted(400)
    m = moments(x, y, pairs)
    a, b = heads(m, 0.3, 0.0)
    assert (a[np.abs(a).argmax(0), np.arange(9)] > 0).all()
    mixed = moments(x, y, pairs[np.random.default_rng(3).permutation(400)])
    for one, other in zip(heads(mixed, 0.3, 0.0), (a, b), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_threads_change_nothing_but_rounding() -> None:
    """Heads fitted by one thread and by two agree to 1e-5 up to sign."""
    x, y, pairs = planted(3_000, 96, 80)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(heads(moments(x, y, pairs), 0.3, 1.0, dim=6))
    for one, other in zip(*found, strict=True):
        sign = np.sign((one * other).sum(0))
        np.testing.assert_allclose(one, other * sign, atol=1e-5)


def test_the_width_is_bounded_by_both_sides() -> None:
    """The heads are as wide as asked, or as the narrower side, the strongest directions first."""
    x, y, pairs = planted(100)
    m = moments(x, y, pairs)
    for dim, width in ((4, 4), (9, 9), (50, 9)):
        a, b = heads(m, 0.1, 1.0, dim)
        assert (a.shape, b.shape, a.dtype, b.dtype) == ((12, width), (9, width), np.float32, np.float32)
    whole = heads(m, 0.1, 1.0)[0]
    np.testing.assert_allclose(heads(m, 0.1, 1.0, 4)[0], whole[:, :4], atol=1e-6)


def test_a_factor_whitens() -> None:
    """L⁻¹·(C + r·c̄·I)·L⁻ᵀ is the identity, also of a singular C; L is lower triangular."""
    generator = np.random.default_rng(4)
    half = generator.normal(size=(7, 5))
    c = half @ half.T
    inverse = np.linalg.inv(factor(c, 0.2))
    np.testing.assert_allclose(inverse @ (c + 0.2 * np.trace(c) / 7 * np.eye(7)) @ inverse.T, np.eye(7), atol=1e-9)
    np.testing.assert_allclose(inverse, np.tril(inverse), atol=1e-12)


def test_heads_are_those_of_the_symmetric_roots() -> None:
    """The heads are (C + r·c̄·I)^-½·U·Σ^p by eigenvectors and numpy's decomposition, up to the sign of a column."""
    x, y, pairs = planted(200)
    m = moments(x, y, pairs)
    roots = []
    for c in (m.xx, m.yy):
        values, vectors = np.linalg.eigh(c + 0.3 * np.trace(c) / len(c) * np.eye(len(c)))
        roots.append((vectors / np.sqrt(values)) @ vectors.T)
    u, sigma, vt = np.linalg.svd(roots[0] @ m.xy @ roots[1], full_matrices=False)
    expected = (roots[0] @ u * sigma**0.7, roots[1] @ vt.T * sigma**0.7)
    found = heads(m, 0.3, 0.7)
    sign = np.sign((found[0] * expected[0]).sum(0))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other * sign, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9), st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_the_thin_decomposition_is_numpys(rows: int, columns: int, rank: int, most: int, seed: int) -> None:
    """Wide, tall, rank-deficient and zero matrices, whole or their first directions: numpy's singular values and its
    best approximation of that rank; orthonormal where they are not zero.
    """
    generator = np.random.default_rng(seed)
    m = generator.normal(size=(rows, rank)) @ generator.normal(size=(rank, columns))
    u, sigma, vt = thin_svd(m, most)
    k = min(rows, columns, most)
    assert (u.shape, sigma.shape, vt.shape) == ((rows, k), (k,), (k, columns))
    left, expected, right = np.linalg.svd(m, full_matrices=False)
    near = 1e-6 * max(1.0, expected[0])
    np.testing.assert_allclose(sigma, expected[:k], atol=near)
    off = np.linalg.norm((u * sigma) @ vt - m), np.linalg.norm((left[:, :k] * expected[:k]) @ right[:k] - m)
    assert off[0] <= off[1] + 10 * near
    sound = sigma > 1e-3 * max(1.0, float(expected[0]))
    for one in (u.T[sound], vt[sound]):
        np.testing.assert_allclose(one @ one.T, np.eye(int(sound.sum())), atol=1e-6)
