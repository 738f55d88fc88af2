"""What a score means: the probability that a hit is right, and where its score lies among those of random pairs.

Scores are CSLS (2·cos − r(query) − r(item)), the hubness correction that compares across queries. A hit is told by two
numbers: its score, and the log of its share of the softmax over the first ten answers, which falls as others come near.
A logistic regression joins them into one; the probability is a curve over it: isotonic regression of the share of right
hits in bins, each weighted as if it held two more hits that do as the logistic says. Few hits give nearly the logistic
curve, many the isotonic one, and none gives 0 or 1.
First hits have a curve of their own, for being first says something that a score does not. No weight is below 0 and no
other hit is given more than the first: of two hits of one query the better never gets the lower probability.
Sources: Platt 1999; Zadrozny and Elkan 2002 (isotonic); Guo et al. 2017 (expected calibration error).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tasks.metrics import ambiguity
from tasks.metrics.bootstrap import Values, interval, resampled_means, resampled_totals

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BINS = 10
"""Bins of a reliability table."""
LEAST_GROUPS = 20
LEAST_RIGHT = 5
"""Queries whose first hit is right: with fewer, or fewer groups, nothing is fitted."""
LEVELS = (0.0, *(n / 100 for n in range(1, 100)), 0.995, 0.999, 0.9995, 0.9999, 1.0)
_BINS = (4, 50)  # of a curve
_VARIANCE = 10.0  # summed over the hits of one of its bins, about
_PRIOR = 2.0  # hits
_RIDGE = 1.0


@dataclass(frozen=True)
class Candidates:
    """The first answers of queries, best first: scores, cosines, whether each is right, (n, k); groups (n,)."""

    scores: Values
    cosines: Values
    right: Flags
    groups: Indices

    def take(self, rows: npt.NDArray[Any]) -> Candidates:
        """Some of the queries."""
        return Candidates(self.scores[rows], self.cosines[rows], self.right[rows], self.groups[rows])


@dataclass(frozen=True)
class Curve:
    """Weights of the features (score, log of the share), and the probability at knots of their sum: both rise."""

    weights: tuple[float, float]
    knots: Values
    values: Values

    def at(self, features: Values) -> Values:
        """Probabilities (…,) of features (…, 2)."""
        return np.asarray(np.interp(features @ np.array(self.weights), self.knots, self.values))

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {"weights": list(self.weights), "knots": self.knots.tolist(), "values": self.values.tolist()}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse."""
        first, second = kept["weights"]
        return cls((first, second), np.asarray(kept["knots"], np.float64), np.asarray(kept["values"], np.float64))


@dataclass(frozen=True)
class Calibration:
    """Curves of first and of other hits; what is usual for a query; scores of random pairs at `LEVELS`."""

    first: Curve
    others: Curve
    temperature: float
    usual: float
    random: Values

    def probability(self, scores: Values) -> Values:
        """Probability that each hit is right, from the scores (n, k) of each query's answers, best first."""
        features = _features(scores, self.temperature)
        first, others = self.first.at(features[:, :1]), self.others.at(features[:, 1:])
        return np.concatenate([first, np.minimum(first, others)], 1)

    def percentile(self, scores: Values) -> Values:
        """Percentage of random pairs that score lower, of any shape."""
        return 100 * np.interp(scores, self.random, LEVELS)

    def perplexity(self, scores: Values) -> Values:
        """How many answers each query leaves open, from the scores (n, k) of its answers, best first: (n,)."""
        return ambiguity.perplexity(scores, self.temperature)

    def alike(self, scores: Values) -> int:
        """How many of the first answers of one query (k,) score alike where it is ambiguous, else 0."""
        left_open = float(self.perplexity(scores[None])[0])
        return max(round(left_open), 2) if left_open > self.usual else 0

    def tell(self, found: Candidates) -> tuple[Values, Flags]:
        """Probability of each hit (n, k), and whether each query is ambiguous (n,)."""
        return self.probability(found.scores), self.perplexity(found.scores) > self.usual

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "first": self.first.to_json(),
            "others": self.others.to_json(),
            "temperature": self.temperature,
            "usual": self.usual,
            "random": self.random.tolist(),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse."""
        first, others = (Curve.from_json(kept[name]) for name in ("first", "others"))
        return cls(first, others, kept["temperature"], kept["usual"], np.asarray(kept["random"], np.float64))


def fit(found: Candidates, random: Values) -> Calibration:
    """Fit a calibration on the answers of some queries; `random` are scores of random pairs, any number of them.

    Raises `ValueError` when there are too few groups, or too few queries whose first hit is right.
    """
    groups, right = len(np.unique(found.groups)), int(found.right[:, 0].sum())
    if groups < LEAST_GROUPS or right < LEAST_RIGHT:
        raise ValueError(f"{groups} groups of queries, and {right} first hits that are right, are too few")
    temperature = ambiguity.fit_temperature(found.scores, found.right)
    features = _features(found.scores, temperature)
    usual = ambiguity.usual(ambiguity.perplexity(found.scores, temperature), found.right[:, 0])
    return Calibration(
        fit_curve(features[:, 0], found.right[:, 0]),
        fit_curve(features[:, 1:].reshape(-1, 2), found.right[:, 1:].ravel()),
        temperature,
        usual,
        np.quantile(random, LEVELS),
    )


def fit_curve(features: Values, right: Flags) -> Curve:
    """The curve of hits of features (n, 2) and whether each is right (n,).

    Where all or none are right it is Laplace's (right + 1) / (n + 2) throughout.
    """
    if right.all() or not right.any():
        return Curve((0.0, 0.0), np.zeros(1), np.array([(right.sum() + 1) / (len(right) + 2)]))
    weights, bias = logistic(features, right)
    return Curve(weights, *rising(features @ np.array(weights), right, bias))


def _features(scores: Values, temperature: float) -> Values:
    """Score and log of the share of each hit: (n, k, 2)."""
    return np.stack([np.asarray(scores, np.float64), ambiguity.log_shares(scores, temperature)], -1)


def cross_fitted(found: Candidates, random: Values, seed: int) -> tuple[Values, Flags]:
    """As `Calibration.tell`, each random half of the groups by what is fitted on the other half, never on itself."""
    p, open_ = np.empty(found.scores.shape), np.empty(len(found.groups), np.bool_)
    half = halves(found.groups, seed)
    for part in (half, ~half):
        p[part], open_[part] = fit(found.take(~part), random).tell(found.take(part))
    return p, open_


def logistic(features: Values, right: Flags) -> tuple[tuple[float, float], float]:
    """Weights, both at least 0, and bias of a logistic regression of `right` (n,) on two features (n, 2).

    A weight that would be below 0 is 0, and the rest is fitted without it. A slight ridge on the standardised features
    keeps separable data finite.
    """
    mean, spread = features.mean(0), np.maximum(features.std(0), 1e-12)
    x = np.concatenate([(features - mean) / spread, np.ones((len(features), 1))], 1)
    used = [0, 1]
    while True:
        found = np.zeros(3)
        found[[*used, 2]] = _newton(x[:, [*used, 2]], right.astype(np.float64))
        if found[:2].min() >= 0:
            break
        used.remove(int(found[:2].argmin()))
    weights = found[:2] / spread
    return (float(weights[0]), float(weights[1])), float(found[2] - weights @ mean)


def _newton(x: Values, y: Values) -> Values:
    """The maximum of the penalised likelihood; the last column of `x` is the constant, which is not penalised."""
    penalty = np.full(x.shape[1], _RIDGE)
    penalty[-1] = 0
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = _sigmoid(x @ w)
        step = np.linalg.solve(
            (x * (p * (1 - p) + 1e-9)[:, None]).T @ x + np.diag(penalty), x.T @ (y - p) - penalty * w
        )
        w = w + step * min(1.0, 4 / max(float(np.abs(step).max()), 1e-12))  # no leap past the maximum
        if np.abs(step).max() < 1e-8:
            break
    return w


def _sigmoid(x: Values) -> Values:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def rising(x: Values, right: Flags, bias: float) -> tuple[Values, Values]:
    """Knots and values of the rising curve through the share of `right` (n,) over x (n,), towards sigmoid(x + bias).

    Bins hold hits of equal summed variance by the logistic, so a share is known as well at the top, where hits are few.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(x, kind="stable")
    chance = _sigmoid(x[order] + bias)
    known = np.cumsum(chance * (1 - chance))
    count = int(np.clip(known[-1] / _VARIANCE, *_BINS))
    bins = np.split(order, np.searchsorted(known, known[-1] / count * np.arange(1, count)))
    bins = [one for one in bins if len(one)]
    knots = np.array([x[one].mean() for one in bins])
    counts = np.array([len(one) for one in bins], np.float64)
    sums = np.array([right[one].sum() for one in bins], np.float64)
    shares = (sums + _PRIOR * _sigmoid(knots + bias)) / (counts + _PRIOR)
    values = isotonic_regression(shares, weights=counts + _PRIOR).x
    knots, first = np.unique(knots, return_index=True)
    return knots, np.asarray(values[first])


def halves(groups: Indices, seed: int) -> Flags:
    """A random half of the groups: (n,) bool, alike within a group."""
    names = np.unique(groups)
    drawn = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
    return np.isin(groups, drawn)


def quantile_bins(p: Values, bins: int = BINS) -> Indices:
    """Bins of about equal size over probabilities (n,), as numbers 0 …; equal ones fall into one bin."""
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, p, side="left").astype(np.int64)


def reliability(p: Values, right: Flags) -> list[dict[str, Any]]:
    """The reliability table: one row a bin with its number of hits, mean probability, and the share that is right."""
    number = quantile_bins(p)
    return [
        {
            "hits": int((number == one).sum()),
            "probability": float(p[number == one].mean()),
            "right": float(right[number == one].mean()),
        }
        for one in np.unique(number)
    ]


def calibration_error(p: Values, right: Flags) -> float:
    """Expected calibration error: mean distance, over hits, of a bin's mean probability and its share of right ones.

    >>> calibration_error(np.array([0.5, 0.5]), np.array([True, False]))
    0.0
    """
    sums = np.bincount(quantile_bins(p), p - right)
    return float(np.abs(sums).sum() / len(p))


def quality(
    p: Values, right: Flags, groups: Indices, weights: npt.NDArray[np.int32], confidence: float
) -> dict[str, dict[str, Any]]:
    """Expected calibration error and Brier score of probabilities, with bootstrap intervals over groups.

    The interval of the error is moved down by what resampling adds to it: noise makes every bin's distance larger.
    """
    number = quantile_bins(p)
    n_groups, bins = weights.shape[1], int(number.max()) + 1
    apart = np.bincount(groups * bins + number, p - right, n_groups * bins).reshape(n_groups, bins)
    drawn = resampled_totals(np.concatenate([apart, np.bincount(groups, minlength=n_groups)[:, None]], 1), weights)
    error = calibration_error(p, right)
    draws = np.abs(drawn[:, :-1]).sum(1) / np.maximum(drawn[:, -1], 1)
    low, high = interval(draws - (draws.mean() - error), confidence)
    squares = (p - right) ** 2
    return {
        "ece": {"value": error, "interval": [max(low, 0.0), high]},
        "brier": {
            "value": float(squares.mean()),
            "interval": list(interval(resampled_means(squares, groups, weights), confidence)),
        },
    }
