"""Intervals by the bootstrap over groups: what belongs together is drawn together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def group_weights(n_groups: int, draws: int, seed: int) -> npt.NDArray[np.int32]:
    """How often each group is drawn in each of `draws` resamples: (draws, n_groups), each row sums to n_groups."""
    generator = np.random.default_rng(seed)
    out = np.empty((draws, n_groups), np.int32)
    for row in out:
        row[:] = np.bincount(generator.integers(n_groups, size=n_groups), minlength=n_groups)
    return out


def resampled_means(values: Values, groups: npt.NDArray[np.int64], weights: npt.NDArray[np.int32]) -> Values:
    """Mean of `values` (n,) in each resample: (draws,). `groups` (n,) gives each value's group as 0 … n_groups − 1.
    A resample that holds no value counts as 0.

    >>> resampled_means(np.array([0.0, 1.0]), np.array([0, 1]), np.array([[1, 1], [2, 0]])).tolist()
    [0.5, 0.0]
    """
    n_groups = weights.shape[1]
    counts = np.bincount(groups, minlength=n_groups).astype(np.float64)
    totals = np.stack([np.bincount(groups, values, n_groups), counts], 1)
    drawn = resampled_totals(totals, weights)
    return np.asarray(drawn[:, 0] / np.maximum(drawn[:, 1], 1))


def resampled_totals(totals: Values, weights: npt.NDArray[np.int32]) -> Values:
    """Sums over the groups of `totals` (n_groups, c) in each resample: (draws, c)."""
    return np.stack([row @ totals for row in weights])  # row by row: all weights as floats would be large


def interval(draws: Values, confidence: float) -> tuple[float, float]:
    """Central percentile interval of the draws."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def intervals(
    values: Mapping[str, Values], groups: npt.NDArray[np.int64], weights: npt.NDArray[np.int32], confidence: float
) -> dict[str, tuple[float, float]]:
    """Interval of the mean of each metric; of the ranks none, since their summary is a median."""
    return {
        name: interval(resampled_means(one, groups, weights), confidence)
        for name, one in values.items()
        if name != "rank"
    }


def paired_difference(
    ours: Values, theirs: Values, groups: npt.NDArray[np.int64], *, draws: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Mean of ours − theirs over the same queries, with its interval: above zero means surely better.

    >>> paired_difference(np.ones(4), np.zeros(4), np.arange(4), draws=100, confidence=0.95, seed=0)
    (1.0, 1.0, 1.0)
    """
    weights = group_weights(int(groups.max()) + 1, draws, seed)
    means = resampled_means(ours - theirs, groups, weights)
    return (float((ours - theirs).mean()), *interval(means, confidence))
