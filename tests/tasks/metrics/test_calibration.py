from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.bootstrap import group_weights
from tasks.metrics.calibration import (
    LEVELS,
    Calibration,
    Candidates,
    calibration_error,
    cross_fitted,
    fit,
    halves,
    logistic,
    quality,
    quantile_bins,
    reliability,
    rising,
)


def planted(n: int, k: int, seed: int) -> Candidates:
    """Queries with k answers of scores in 0 … 1, each right with the chance 0.1 + 0.8·score², which no logistic is."""
    generator = np.random.default_rng(seed)
    scores = -np.sort(-generator.random((n, k)), axis=1)
    right = generator.random((n, k)) < 0.1 + 0.8 * scores**2
    return Candidates(scores, scores, right, np.arange(n))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def test_a_known_probability_is_recovered() -> None:
    """From end to end the curve lies within four binomial errors of the truth, each of a fiftieth of the variance."""
    found = fit(planted(20_000, 1, 0), np.zeros(1))
    scores = np.linspace(0.01, 0.99, 99)[:, None]
    true = 0.1 + 0.8 * scores**2
    hits = 20_000 * 0.1753 / 50 / (true * (1 - true))  # 0.1753 is the mean of true · (1 − true)
    assert (np.abs(found.probability(scores) - true) < 4 * np.sqrt(true * (1 - true) / hits)).all()


def test_what_is_new_is_told_rightly() -> None:
    """On queries it was not fitted on, hits of a given probability are right so often, within the binomial's error."""
    found = fit(planted(2_000, 10, 1), np.zeros(1))
    new = planted(20_000, 10, 2)
    for row in reliability(found.probability(new.scores).ravel(), new.right.ravel()):
        spread = math.sqrt(row["right"] * (1 - row["right"]) * (1 / row["hits"] + 1 / 2_000))  # a tenth of either
        assert abs(row["probability"] - row["right"]) < 4 * spread


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.integers(0, 1))
def test_a_better_hit_is_no_less_likely(scores: list[float], seed: int) -> None:
    """Among the hits of one query the probability never rises as the score falls; it is never 0 and never 1."""
    ordered = np.array(sorted(scores, reverse=True))
    told = FITTED[seed].probability(ordered[None])[0]
    assert (np.diff(told) <= 1e-12).all()
    assert (told > 0).all()
    assert (told < 1).all()


FITTED = [fit(planted(200, 10, 3), np.zeros(1)), fit(planted(50, 3, 4), np.zeros(1))]


def test_the_logistic_is_that_of_scikit_learn() -> None:
    """Weights and bias are those of scikit-learn on standardised features; one that would be negative is left out."""
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(5)
    x = generator.normal(size=(800, 2)) * [0.1, 3] + [1, -2]
    for second in (0.5, -0.5):
        right = generator.random(800) < sigmoid(20 * (x[:, 0] - 1) + second * (x[:, 1] + 2))
        used = [0, 1] if second > 0 else [0]
        z = (x - x.mean(0)) / x.std(0)
        other = LogisticRegression(C=1.0, tol=1e-10, max_iter=1_000).fit(z[:, used], right)
        weights, bias = logistic(x, right)
        expected = np.zeros(2)
        expected[used] = other.coef_[0] / x.std(0)[used]
        assert weights == pytest.approx(expected, rel=1e-4)
        assert bias == pytest.approx(other.intercept_[0] - expected @ x.mean(0), rel=1e-4)


def test_separable_hits_have_a_finite_curve() -> None:
    """Where every right hit lies above every wrong one the weights are finite and the ends short of 0 and 1."""
    scores = np.linspace(0, 1, 100)[:, None]
    found = fit(Candidates(scores, scores, scores > 0.5, np.arange(100)), np.zeros(1)).first
    assert np.isfinite(found.weights).all()
    assert 0 < found.values.min() < 0.05
    assert 0.95 < found.values.max() < 1


def test_hits_that_are_all_alike_have_one_probability() -> None:
    """Of forty right first hits and no other right one: Laplace's 41 / 42 and, of eighty others, 1 / 82."""
    scores = planted(40, 3, 14).scores
    right = np.arange(3)[None] == np.zeros((40, 1))
    told = fit(Candidates(scores, scores, right, np.arange(40)), np.zeros(1)).probability(scores)
    assert told == pytest.approx(np.tile([41 / 42, 1 / 82, 1 / 82], (40, 1)))


def test_being_first_counts() -> None:
    """Where first hits are right half as often as their score says, they are told so, and no other hit more."""
    generator = np.random.default_rng(15)
    whole = planted(4_000, 5, 16)
    right = whole.right.copy()
    right[:, 0] &= generator.random(4_000) < 0.5
    told = fit(Candidates(whole.scores, whole.scores, right, whole.groups), np.zeros(1)).probability(whole.scores)
    share = right[:, 0].mean()
    assert told[:, 0].mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4_000))
    assert (told[:, 1:] <= told[:, :1]).all()


def test_the_curve_is_isotonic_regression() -> None:
    """The curve is scikit-learn's isotonic regression over bins of equal variance, two prior hits in each."""
    from sklearn.isotonic import IsotonicRegression

    generator = np.random.default_rng(6)
    x = 2 * np.sort(generator.normal(size=1_000))
    right = generator.random(1_000) < sigmoid(x)
    variance = [sigmoid(one + 0.3) * (1 - sigmoid(one + 0.3)) for one in x]
    size = sum(variance) / (sum(variance) // 10)
    bins: list[list[int]] = [[]]
    for place in range(1_000):
        if sum(variance[: place + 1]) >= size * len(bins) and len(bins) < sum(variance) // 10:
            bins.append([])
        bins[-1].append(place)
    assert len(bins) > 4
    shares = [(right[one].sum() + 2 * sigmoid(x[one].mean() + 0.3)) / (len(one) + 2) for one in bins]
    sizes = [len(one) + 2 for one in bins]
    knots, values = rising(x[::-1], right[::-1], 0.3)
    middles = [x[one].mean() for one in bins]
    assert knots == pytest.approx(middles)
    assert values == pytest.approx(IsotonicRegression().fit(middles, shares, sample_weight=sizes).predict(middles))


def test_few_hits_are_not_calibrated() -> None:
    """Fewer than twenty groups, or fewer than five queries whose first hit is right, are refused."""
    whole = planted(100, 3, 7)
    fit(whole, np.zeros(1))
    first = whole.right & ((np.cumsum(whole.right[:, 0]) < 5)[:, None] | [False, True, True])
    assert first[:, 0].sum() == 4
    wrong = {
        "groups": Candidates(whole.scores, whole.cosines, whole.right, whole.groups % 19),
        "first": Candidates(whole.scores, whole.cosines, first, whole.groups),
    }
    for found in wrong.values():
        with pytest.raises(ValueError, match="too few"):
            fit(found, np.zeros(1))


def test_percentiles_are_of_random_pairs() -> None:
    """A percentile is the percentage of random pairs below the score; beyond all of them it is 0 or 100."""
    random = np.random.default_rng(8).normal(size=100_000)
    found = fit(planted(100, 3, 9), random)
    for score in (-1.0, 0.0, 2.0, 3.0):
        assert found.percentile(np.array(score)) == pytest.approx(100 * (random < score).mean(), abs=0.05)
    assert found.percentile(np.array([-9.0, 9.0])).tolist() == [0, 100]
    assert list(LEVELS) == sorted(set(LEVELS))


def test_what_is_kept_tells_the_same() -> None:
    """Written as JSON and read again a calibration gives the same figures to the last bit."""
    found = fit(planted(300, 10, 10), np.random.default_rng(0).random(1_000))
    again = Calibration.from_json(json.loads(json.dumps(found.to_json())))
    scores = planted(50, 10, 11).scores
    assert np.array_equal(found.probability(scores), again.probability(scores))
    assert np.array_equal(found.percentile(scores), again.percentile(scores))
    assert [found.alike(one) for one in scores] == [again.alike(one) for one in scores]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.integers(0, 5))
def test_halves_never_cut_a_group(names: list[int], seed: int) -> None:
    """One half holds half of the groups, rounded down, whole; one seed gives one half."""
    groups = np.array(names)
    half = halves(groups, seed)
    inside, outside = set(groups[half].tolist()), set(groups[~half].tolist())
    assert not inside & outside
    assert len(inside) == len(set(names)) // 2
    assert np.array_equal(half, halves(groups, seed))


def test_nothing_is_told_by_its_own_answers() -> None:
    """Whatever is right in one half of the groups, that half is told the same; the other half is not."""
    found, random = planted(200, 5, 13), np.zeros(1)
    half = halves(found.groups, 0)
    other = Candidates(found.scores, found.cosines, found.right ^ (half[:, None] & (found.scores < 0.5)), found.groups)
    (p, open_), (again, open_again) = (cross_fitted(one, random, 0) for one in (found, other))
    assert np.array_equal(p[half], again[half])
    assert np.array_equal(open_[half], open_again[half])
    assert not np.array_equal(p[~half], again[~half])


def test_the_error_is_counted_by_hand() -> None:
    """Ten bins of two hits: the error is the mean of the bins' distances; the table has their counts and shares."""
    p = np.arange(20) / 20
    right = np.arange(20) % 2 == 0
    bins = [(p[n : n + 2].mean(), 0.5) for n in range(0, 20, 2)]
    assert calibration_error(p, right) == pytest.approx(np.mean([abs(mean - share) for mean, share in bins]))
    rows = reliability(p, right)
    assert [(row["hits"], row["probability"], row["right"]) for row in rows] == [
        (2, pytest.approx(a), b) for a, b in bins
    ]


def test_equal_probabilities_are_one_bin() -> None:
    """Hits of one probability never lie in two bins."""
    p = np.repeat([0.1, 0.2, 0.9], [50, 3, 7])
    numbers = quantile_bins(p)
    assert all(len(set(numbers[p == one])) == 1 for one in (0.1, 0.2, 0.9))


def test_too_sure_is_seen() -> None:
    """Probabilities that are 0.2 too high have an error of 0.2, true ones one near 0, each inside its own interval."""
    generator = np.random.default_rng(12)
    true = generator.uniform(0.1, 0.7, 4_000)
    right = generator.random(4_000) < true
    groups = np.arange(4_000) // 2
    weights = group_weights(2_000, 200, 0)
    sure = quality(true + 0.2, right, groups, weights, 0.95)
    assert sure["ece"]["value"] == pytest.approx(0.2, abs=4 * 0.5 / math.sqrt(4_000))
    low, high = sure["ece"]["interval"]
    assert low < 0.2 < high
    calm = quality(true, right, groups, weights, 0.95)
    assert calm["ece"]["value"] < 0.03  # ten bins of 400: each misses by .025 · √(2/π) on average
    assert calm["ece"]["interval"][1] < sure["ece"]["interval"][0]
    assert calm["brier"]["value"] == pytest.approx(np.mean([(a - b) ** 2 for a, b in zip(true, right, strict=True)]))
    assert calm["brier"]["value"] < sure["brier"]["value"]
