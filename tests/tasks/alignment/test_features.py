from __future__ import annotations

import numpy as np
import pytest

from tasks.alignment.features import EncoderMap, Features, principal_axes, signed_sqrt


def embeddings(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Correlated rows of unit length."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, d)) @ draw.normal(size=(d, d)) + 0.5
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize(("n", "d"), [(200, 20), (15, 40)])
def test_principal_axes_are_those_of_the_svd(n: int, d: int) -> None:
    """Axes and eigenvalues equal numpy's singular value decomposition, with more rows than columns and with fewer."""
    x = embeddings(n, d)
    axes, values = principal_axes(x, 10)
    _, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(values, s[:10] ** 2 / n, rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(axes * vt[:10].T, 0)), 1, atol=1e-4)


def test_axes_are_no_more_than_the_rank() -> None:
    """Three rows have at most three axes; directions without variance are left out."""
    axes, values = principal_axes(embeddings(3, 20), 10)
    assert axes.shape == (20, 3)
    assert (values > 0).all()


def test_features_are_centred_and_uncorrelated() -> None:
    """Over the training items the features have mean zero and a diagonal covariance, largest first."""
    x = {"a": embeddings(300, 24), "b": embeddings(300, 16, 1)}
    features = Features.fit(x, cnn={"a": True, "b": False}, width=512)
    z = features.apply(x).astype(np.float64)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
    covariance = z.T @ z / len(z)
    np.testing.assert_allclose(covariance, np.diag(features.variances), atol=1e-6)
    assert (np.diff(features.variances) <= 1e-9).all()


def test_a_full_rotation_keeps_all_distances() -> None:
    """At full width the map of one encoder is a rotation: dot products of normalised, centred rows stay."""
    x = embeddings(300, 24)
    one = EncoderMap.fit(x, cnn=False, width=24)
    centred = x - x.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    z = one.apply(x)
    np.testing.assert_allclose(z @ z.T, unit @ unit.T, atol=1e-4)


def test_new_items_use_the_mean_of_training() -> None:
    """An item's features do not depend on what else is projected with it."""
    features = Features.fit({"a": embeddings(100, 12)}, cnn={"a": True}, width=8)
    new = embeddings(5, 12, 7)
    np.testing.assert_allclose(features.apply({"a": new})[2:3], features.apply({"a": new[2:3]}), atol=1e-6)


def test_signed_sqrt_keeps_signs_and_squares_back() -> None:
    """sign(x)·√|x| times its absolute value is x."""
    x = np.random.default_rng(0).normal(size=50).astype(np.float32)
    y = signed_sqrt(x)
    np.testing.assert_allclose(y * np.abs(y), x, atol=1e-6)


def test_arrays_rebuild_the_features() -> None:
    """Stored arrays give the same features to the last bit."""
    x = {"a": embeddings(60, 12), "b": embeddings(60, 9, 1)}
    cnn = {"a": True, "b": False}
    features = Features.fit(x, cnn=cnn, width=8)
    again = Features.from_arrays(features.arrays(), ["a", "b"], cnn)
    assert np.array_equal(again.apply(x), features.apply(x))
