"""Queries whose answers score alike: the space leaves open which of them is meant.

How many answers are left open is the perplexity (exp of the entropy) of the softmax over the scores of the first ten:
1 where one stands out, 10 where all score alike. It does not move with the query's own level of scores, which differs
from query to query. The temperature is fitted so that the softmax is a likelihood of the right answers (temperature
scaling). A query is ambiguous when it leaves more open than nine in ten of those queries whose first answer was right:
where several answers are right for most queries, as the captions of one picture are, several that score alike are
nothing unusual.
Sources: Guo et al. 2017 (temperature scaling); Cronen-Townsend et al. 2002 (the entropy of what is found tells how a
query will do).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

FIRST = 10
"""Answers whose scores count."""
USUAL = 0.9
"""Share of rightly answered queries that are not ambiguous, by definition."""
_TEMPERATURES = np.geomspace(0.002, 1, 64)


def perplexity(scores: Values, temperature: float) -> Values:
    """How many of the answers of each query are left open, 1 to k: (n,), from scores (n, k), best first.

    >>> perplexity(np.array([[1.0, 1.0], [1.0, 0.0]]), 0.01).round(6).tolist()
    [2.0, 1.0]
    """
    log = log_shares(scores[:, :FIRST], temperature)
    return np.asarray(np.exp(-(np.exp(log) * log).sum(1)))


def log_shares(scores: Values, temperature: float) -> Values:
    """Log of each answer's share of the softmax over its query's first ten: (n, k) of scores (n, k), best first."""
    logits = (scores - scores.max(1, keepdims=True)) / temperature
    return np.asarray(logits - np.log(np.exp(logits[:, :FIRST]).sum(1, keepdims=True)))


def fit_temperature(scores: Values, right: Flags) -> float:
    """The temperature under which the right answers of each query are likeliest: scores, best first, and right (n, k).

    Queries without a right answer among them say nothing. Raises `ValueError` when there is no other.
    """
    told = right.any(1)
    if not told.any():
        raise ValueError("no query has a right answer")
    scores, right = scores[told], right[told]

    def loss(temperature: float) -> float:
        log = np.where(right, log_shares(scores, temperature), -np.inf)
        return -float(np.logaddexp.reduce(log, axis=1).mean())

    return float(min(_TEMPERATURES, key=loss))


def usual(perplexities: Values, first_right: Flags) -> float:
    """The perplexity that nine in ten rightly answered queries do not pass; of (n,) and whether the first is right."""
    return float(np.quantile(perplexities[first_right], USUAL))
