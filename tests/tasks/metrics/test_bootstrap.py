from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.metrics.bootstrap import group_weights, interval, intervals, paired_difference, resampled_means


def grouped(generator: np.random.Generator, n_groups: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Values of mean 2 whose groups, of one to five members, share most of their deviation; and the groups."""
    groups = np.repeat(np.arange(n_groups), generator.integers(1, 6, n_groups))
    values = 2 + generator.normal(size=n_groups)[groups] + 0.5 * generator.normal(size=len(groups))
    return values, groups


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 3))
def test_a_resample_is_as_large_as_the_sample(n_groups: int, draws: int, seed: int) -> None:
    """Each resample draws as many groups as there are, and one seed gives the same resamples."""
    weights = group_weights(n_groups, draws, seed)
    assert weights.shape == (draws, n_groups)
    assert (weights >= 0).all()
    assert (weights.sum(1) == n_groups).all()
    assert np.array_equal(weights, group_weights(n_groups, draws, seed))


def test_groups_are_drawn_with_replacement() -> None:
    """Each group is drawn once on average, and left out of a resample with chance (1 − 1/n)^n."""
    weights = group_weights(20, 5_000, 0)
    assert np.abs(weights.mean(0) - 1).max() < 4 * math.sqrt(0.95 / 5_000)
    missed = 0.95**20
    assert abs((weights == 0).mean() - missed) < 4 * math.sqrt(missed * (1 - missed) / 5_000)
    assert not np.array_equal(weights, group_weights(20, 5_000, 1))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-10, 10)), min_size=1, max_size=20), st.integers(0, 5))
def test_resampled_means_lay_out_the_resample(rows: list[tuple[int, float]], seed: int) -> None:
    """A resample's mean is that of its values laid out, each as often as its group was drawn; of no values it is 0."""
    weights = group_weights(6, 8, seed)
    groups, values = np.array([group for group, _ in rows]), np.array([value for _, value in rows])
    for mean, drawn in zip(resampled_means(values, groups, weights).tolist(), weights.tolist(), strict=True):
        laid = [value for group, value in rows for _ in range(drawn[group])]
        assert mean == pytest.approx(sum(laid) / len(laid) if laid else 0, abs=1e-9)


def test_the_interval_is_of_percentiles() -> None:
    """Of the draws 0 … 100 the central 90% lie from 5 to 95, in whatever order they come."""
    draws = np.random.default_rng(0).permutation(np.arange(101.0))
    assert interval(draws, 0.9) == pytest.approx((5, 95))


def test_intervals_leave_out_the_ranks() -> None:
    """Each metric has the interval of its resampled means; ranks, whose summary is a median, have none."""
    values, groups = grouped(np.random.default_rng(1))
    weights = group_weights(60, 200, 0)
    found = intervals({"MRR": values, "rank": values}, groups, weights, 0.9)
    assert found == {"MRR": interval(resampled_means(values, groups, weights), 0.9)}


def test_coverage_is_near_nominal() -> None:
    """Over 400 samples of 60 correlated groups the 95% interval holds the true mean in 90 to 98 of 100 cases.

    The percentile bootstrap of few groups covers a little less than it says (Cameron, Gelbach and Miller 2008).
    """
    generator = np.random.default_rng(2)
    covered = 0
    for seed in range(400):
        values, groups = grouped(generator)
        low, high = interval(resampled_means(values, groups, group_weights(60, 400, seed)), 0.95)
        covered += low <= 2 <= high
    assert 0.90 <= covered / 400 <= 0.98


def test_drawing_items_alone_is_too_sure() -> None:
    """Where the members of a group are alike, drawing groups gives a wider interval than drawing items.

    With k equal members a group the mean has the variance of the groups alone, √k times the standard error of items.
    """
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(100), 4)
    values = generator.normal(size=100)[groups]
    by_group = resampled_means(values, groups, group_weights(100, 2_000, 0))
    by_item = resampled_means(values, np.arange(400), group_weights(400, 2_000, 0))
    assert by_group.std() / by_item.std() == pytest.approx(2, rel=0.1)


def test_equal_systems_do_not_differ() -> None:
    """The difference of a system from itself is zero, and so is its interval."""
    values, groups = grouped(np.random.default_rng(4))
    assert paired_difference(values, values.copy(), groups, draws=300, confidence=0.95, seed=0) == (0, 0, 0)


def test_the_better_system_is_above_zero() -> None:
    """A gain that all queries share is above zero with an interval far narrower than theirs; swapped it is below."""
    generator = np.random.default_rng(5)
    values, groups = grouped(generator)
    better = values + 0.1 + 0.05 * generator.normal(size=len(values))
    mean, low, high = paired_difference(better, values, groups, draws=500, confidence=0.95, seed=0)
    assert 0 < low < mean < high
    assert mean == pytest.approx(float(better.mean() - values.mean()))
    swapped = paired_difference(values, better, groups, draws=500, confidence=0.95, seed=0)
    assert swapped == pytest.approx((-mean, -high, -low))
    alone = interval(resampled_means(values, groups, group_weights(60, 500, 0)), 0.95)
    assert high - low < 0.2 * (alone[1] - alone[0])


def test_noise_is_no_difference() -> None:
    """Two systems of one quality differ surely in about 5 of 100 comparisons, not more than in 10."""
    generator = np.random.default_rng(6)
    surely = 0
    for seed in range(200):
        values, groups = grouped(generator)
        theirs = values + 0.3 * generator.normal(size=60)[groups]
        _, low, high = paired_difference(values, theirs, groups, draws=300, confidence=0.95, seed=seed)
        surely += not low <= 0 <= high
    assert surely <= 20
