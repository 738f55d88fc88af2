from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from tasks.metrics.ambiguity import fit_temperature, perplexity, usual
from tasks.metrics.calibration import Candidates, fit

SCORES = st.lists(st.floats(-3, 3), min_size=1, max_size=10)


@given(SCORES, st.floats(0.01, 1), st.floats(-2, 2))
def test_what_is_left_open_is_the_perplexity(scores: list[float], temperature: float, level: float) -> None:
    """It is exp of SciPy's entropy of the softmax, from 1 to k, and a query's own level of scores changes nothing."""
    values = np.array(scores)
    weight = np.exp((values - values.max()) / temperature)
    (found,) = perplexity(values[None], temperature)
    assert found == pytest.approx(np.exp(entropy(weight)), rel=1e-9)
    assert 1 - 1e-9 <= found <= len(scores) + 1e-9
    assert perplexity(values[None] + level, temperature)[0] == pytest.approx(found, rel=1e-6)


def test_equal_scores_are_all_open() -> None:
    """Of k equal scores all k are open, with k − j others far below still k; of one far above, one."""
    assert perplexity(np.ones((1, 7)), 0.05) == pytest.approx(7)
    assert perplexity(np.array([[1, 1, 1, 0, 0.0]]), 0.01) == pytest.approx(3)
    assert perplexity(np.array([[1, 0, 0.0]]), 0.01) == pytest.approx(1)


@pytest.mark.parametrize("temperature", [0.02, 0.1, 0.4])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    """Where right answers are drawn by a softmax, its temperature is found, to a step of the grid."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(4_000, 10)) * 0.3
    chance = np.exp(scores / temperature)
    chance /= chance.sum(1, keepdims=True)
    drawn = (chance.cumsum(1) < generator.random((4_000, 1))).sum(1)
    right = np.arange(10)[None] == np.minimum(drawn, 9)[:, None]
    assert fit_temperature(scores, right) == pytest.approx(temperature, rel=0.15)
    with pytest.raises(ValueError, match="no query"):
        fit_temperature(scores, np.zeros_like(right))


def test_nine_in_ten_right_queries_are_clear() -> None:
    """The bound leaves a tenth of the rightly answered queries above it, whatever the others are."""
    values = np.random.default_rng(1).uniform(1, 10, 1_000)
    right = np.arange(1_000) % 2 == 0
    bound = usual(values, right)
    assert (values[right] > bound).mean() == pytest.approx(0.1, abs=0.002)


def test_flat_queries_are_told() -> None:
    """Where half of the queries have one right answer far above, and the others ten alike, those are ambiguous."""
    clear, flat = np.r_[1.0, np.full(9, 0.2)], np.full(10, 0.8)
    scores = np.array([clear, flat] * 100) + np.random.default_rng(2).normal(size=(200, 10)) * 0.001
    scores = -np.sort(-scores, axis=1)
    right = np.zeros((200, 10), bool)
    right[::2, 0] = True
    right[1::2][np.arange(100), np.arange(100) % 10] = True
    found = fit(Candidates(scores, scores, right, np.arange(200)), np.zeros(1))
    assert found.alike(flat) == 10
    assert found.alike(clear) == 0
