from __future__ import annotations

import numpy as np
import pytest

from tasks.alignment.methods.ridge import solver

N, DX, DY = 150, 7, 4


def sides() -> tuple[np.ndarray, np.ndarray]:
    """Paired features of different widths, y partly predictable from x."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(N, DX)) * np.linspace(2, 0.3, DX)
    return x, x @ generator.normal(size=(DX, DY)) + generator.normal(size=(N, DY))


def predictor(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge regression of y on x by least squares over augmented data: √(n·r·c̄) times the identity below x."""
    mean_eigenvalue = np.linalg.eigvalsh(x.T @ x / len(x)).mean()
    more = np.sqrt(len(x) * ridge * mean_eigenvalue) * np.eye(x.shape[1])
    laid = np.concatenate([x, more]), np.concatenate([y, np.zeros((x.shape[1], y.shape[1]))])
    return np.linalg.lstsq(*laid, rcond=None)[0]


def unit_mean_square(z: np.ndarray) -> np.ndarray:
    """`z` scaled so that its rows have a mean squared length of one."""
    return z / np.sqrt((z**2).sum(1).mean())


@pytest.mark.parametrize(("rx", "ry"), [(0.0, 0.0), (0.1, 10.0), (3.0, 1.0)])
def test_the_dot_product_is_the_sum_of_both_directions(rx: float, ry: float) -> None:
    """x·A and y·B have as dot product ŷ(x)·y + x·x̂(y), where ŷ and x̂ are ridge regressions by least squares.

    Each of the four, over the training pairs, is scaled to a mean squared length of one.
    """
    x, y = sides()
    a, b = solver(x.T @ x / N, y.T @ y / N, rx=rx, ry=ry)(x.T @ y / N)
    assert (a.shape, b.shape, a.dtype, b.dtype) == ((DX, DY + DX), (DY, DY + DX), np.float32, np.float32)
    forward, backward = x @ predictor(x, y, rx), y @ predictor(y, x, ry)
    np.testing.assert_allclose(x @ a[:, :DY], unit_mean_square(forward), atol=1e-5)
    np.testing.assert_allclose(y @ b[:, DY:], unit_mean_square(backward), atol=1e-5)
    expected = unit_mean_square(forward) @ unit_mean_square(y).T + unit_mean_square(x) @ unit_mean_square(backward).T
    np.testing.assert_allclose((x @ a) @ (y @ b).T, expected, atol=1e-4)


def test_a_linear_law_is_found() -> None:
    """Where y is a linear map of x and there is no ridge, the half that predicts y is y itself, scaled."""
    x, _ = sides()
    y = x @ np.random.default_rng(1).normal(size=(DX, DY))
    a, b = solver(x.T @ x / N, y.T @ y / N, rx=0.0, ry=0.1)(x.T @ y / N)
    np.testing.assert_allclose(x @ a[:, :DY], y @ b[:, :DY], atol=1e-4)
