"""ASIF: an item is its similarities to the training pairs, so that both modalities speak of the same anchors.

Nothing is trained. Source: Norelli et al. 2023, ASIF: coupled data turns unimodal models to multimodal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product

import numpy as np
import numpy.typing as npt

from tasks.alignment.maps import Relative, nearest, nearness
from tasks.alignment.methods.search import FEW, Key, best_of, uphill
from tasks.alignment.problem import Choice, Fold, Maps, Problem, Rows
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

NAMES = ("k", "power")
NEAREST = (50, 100, 200, 400, 800)
POWERS = (1.0, 2.0, 4.0, 8.0)
_START = (2, 1)
"""Where the walk begins: the places of (200, 2)."""
ANCHORS = 2_048
"""Most anchors: they are the width of the joint space."""


def choose(problem: Problem) -> Choice:
    """(k, power) by cross-validation over groups; with many pairs by a walk uphill."""
    return best_of(problem, NAMES, _trials, None if len(problem.pairs) < FEW else _walk)


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from pairs to heads."""
    return lambda pairs: _maps(problem, pairs, int(choice["k"]), choice["power"])


def _trials(fold: Fold, only: set[Key] | None) -> Iterator[tuple[Key, Array]]:
    """Score each (k, power) of the grid, or those in `only`."""
    at = _scorer(fold)
    for k, power in product(NEAREST, POWERS):
        if only is None or (k, power) in only:
            yield (k, power), at(k, power)


def _walk(fold: Fold) -> list[tuple[Key, Array]]:
    """The scores along a walk uphill."""
    at = _scorer(fold)
    out: list[tuple[Key, Array]] = []

    def score(row: int, column: int) -> float:
        k, power = NEAREST[row], POWERS[column]
        out.append(((k, power), at(k, power)))
        return float(out[-1][1].mean())

    uphill(score, (len(NEAREST), len(POWERS)), _START)
    return out


def _scorer(fold: Fold) -> Callable[[int, float], Array]:
    """A function that scores (k, power). The cosines with the anchors are computed once, the largest ones once a k."""
    near = fold.rows.each(*(partial(nearness, anchors=one) for one in _anchors(fold.problem, fold.train)))

    @cache
    def kept(k: int) -> Rows:
        return near.each(*[partial(nearest, k=k)] * 2)

    return lambda k, power: fold.values_of(kept(k).each(*[partial(_raised, power=power)] * 2))


def _raised(near: Array, power: float) -> Array:
    return np.asarray(near**power, np.float32)


def _maps(problem: Problem, pairs: Indices, k: int, power: float) -> Maps:
    left, right = _anchors(problem, pairs)
    return Relative(left, min(k, len(left)), power), Relative(right, min(k, len(right)), power)


def _anchors(problem: Problem, pairs: Indices) -> tuple[Array, Array]:
    """Anchors are pairs, one a left item where that is enough, spread evenly; their number is a multiple of 8."""
    first = pairs[np.unique(pairs[:, 0], return_index=True)[1]]
    some = first if len(first) >= min(ANCHORS, 8) else pairs
    count = min(ANCHORS, len(some))
    count -= count % 8 if count >= 8 else 0
    chosen = some[np.linspace(0, len(some) - 1, count).round().astype(np.int64)]
    return normalise(problem.x[chosen[:, 0]]), normalise(problem.y[chosen[:, 1]])
