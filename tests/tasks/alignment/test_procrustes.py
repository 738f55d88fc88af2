from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from tasks.alignment.methods.procrustes import rotate


def rotation(d: int, seed: int = 0) -> np.ndarray:
    """A random orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def test_a_known_rotation_is_recovered() -> None:
    """With y = x·R the head of x is R, and x·A is y."""
    x, r = np.random.default_rng(1).normal(size=(100, 8)), rotation(8)
    a, b = rotate(x.T @ (x @ r), dim=8)
    np.testing.assert_allclose(a, r, atol=1e-6)
    assert np.array_equal(b, np.eye(8, dtype=np.float32))
    np.testing.assert_allclose(x @ a, x @ r @ b, atol=1e-5)


@pytest.mark.parametrize(("dx", "dy"), [(5, 8), (8, 5)])
def test_a_rotation_is_recovered_after_padding(dx: int, dy: int) -> None:
    """Where one side has further columns of zeros, the rotation of the common columns is recovered."""
    k = min(dx, dy)
    core, r = np.random.default_rng(2).normal(size=(100, k)), rotation(k)
    x, y = np.zeros((100, dx)), np.zeros((100, dy))
    x[:, :k], y[:, :k] = core, core @ r
    a, b = rotate(x.T @ y, dim=100)
    assert (a.shape, b.shape) == ((dx, k), (dy, k))
    np.testing.assert_allclose(x @ a, y @ b, atol=1e-5)
    np.testing.assert_allclose(a[:k], r, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.5, 5.0])
def test_the_rotation_is_scipys(noise: float) -> None:
    """With noise too the rotation is that of scipy's orthogonal_procrustes."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(200, 6))
    y = x @ rotation(6) + noise * generator.normal(size=(200, 6))
    np.testing.assert_allclose(rotate(x.T @ y / 200, dim=6)[0], orthogonal_procrustes(x, y)[0], atol=1e-6)


@pytest.mark.parametrize("dim", [1, 3, 10])
def test_lengths_and_angles_stay(dim: int) -> None:
    """A is orthogonal on the columns it takes, of any width asked for, and takes no others."""
    generator = np.random.default_rng(4)
    a, b = rotate(generator.normal(size=(7, 5)), dim=dim)
    k = min(dim, 5)
    assert (a.shape, b.shape, a.dtype, b.dtype) == ((7, k), (5, k), np.float32, np.float32)
    np.testing.assert_allclose(a[:k].T @ a[:k], np.eye(k), atol=1e-6)
    assert not a[k:].any()
