"""Encoders and methods compared on the user's own pairs, each by figures on groups that its heads have not seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.alignment.features import Features
from tasks.alignment.fit import View, fit_space
from tasks.alignment.outer import folds_of, hit_rates, hit_totals, left_out, resampled_rates
from tasks.alignment.plan import Plan
from tasks.metrics.agreement import Agreement, agreement
from tasks.metrics.bootstrap import group_weights, interval
from tasks.retrieval.similarity import normalise

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_COMPARED = 4_096  # pairs in the agreement of two encoders


@dataclass(frozen=True)
class Candidate:
    """Encoders of the left and of the right modality, and the method that is to join them."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    method: str


def candidates(left: Sequence[str], right: Sequence[str], methods: Sequence[str]) -> list[Candidate]:
    """Each encoder of one modality with each of the other, and all of a modality joined; method by method, few first.

    >>> [(one.left, one.right) for one in candidates(["a", "b"], ["t"], ["cca"])]
    [(('a',), ('t',)), (('b',), ('t',)), (('a', 'b'), ('t',))]
    """
    sides = [[(name,) for name in names] + ([tuple(names)] if len(names) > 1 else []) for names in (left, right)]
    joined = sorted(product(*sides), key=lambda both: len(both[0]) + len(both[1]))
    return [Candidate(one, other, method) for method in methods for one, other in joined]


def only(view: View, encoders: Sequence[str]) -> View:
    """The same items, as these encoders see them."""
    return replace(view, vectors={name: view.vectors[name] for name in encoders})


def cross_validated(left: View, right: View, pairs: Indices, plan: Plan, *, folds: int) -> tuple[Values, float]:
    """Hits of every pair's items, each ranked by heads fitted without its group, and the CPU seconds of one fit.

    The whole fit is done anew in each of `folds` (features, choice of values, heads, banks), so nothing of what is
    ranked has been seen. Gives totals (n_groups, 8), see `outer.hit_totals`. The seconds are the mean over the folds,
    summed over the threads. Raises `ValueError` when there are too few pairs to fit or to hold out.
    """
    n_groups = int(max(left.groups.max(), right.groups.max())) + 1
    owner = left.groups[pairs[:, 0]]
    fold_of = folds_of(owner, n_groups, folds, plan.seed)
    if len(np.unique(owner)) < 2 * folds:
        raise ValueError(f"{len(np.unique(owner))} groups of pairs are too few to hold out {folds} parts of them")
    totals, seconds = np.zeros((n_groups, 8)), 0.0
    for fold in range(folds):
        held = fold_of == fold
        x, y, moved = left_out(left, right, pairs, held)
        inside = ~held[owner]
        begin = time.process_time()
        space = fit_space(x, y, moved[inside], plan).space
        seconds += time.process_time() - begin
        totals += hit_totals(space, left, right, pairs[~inside], n_groups)
    return totals, seconds / folds


def agreement_of(left: View, right: View, pairs: Indices, width: int, *, k: int = 10, seed: int = 0) -> Agreement:
    """Mutual k-NN alignment of two modalities before any training, on one pair of each group.

    Both sides are seen as the alignment sees them: centred, normalised, CNN activations under a signed square root.
    """
    mixed = pairs[np.random.default_rng(seed).permutation(len(pairs))]
    one = np.sort(np.unique(left.groups[mixed[:, 0]], return_index=True)[1])[:_COMPARED]
    sides = [
        normalise(Features.fit(view.vectors, cnn=view.cnn, width=width).apply(view.vectors)[rows])
        for view, rows in zip((left, right), mixed[one].T, strict=True)
    ]
    return agreement(*sides, k=k, seed=seed)


def ranked(
    totals: Sequence[Values], *, draws: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """Figures of candidates from their totals (n_groups, 8): the best first, `place` says whose they are.

    The bootstrap draws the same groups for all. `behind` is how far one stands behind the best, with its interval; its
    verdict is `worse` where that lies above zero, else `tied`.

    >>> good, bad = np.tile([1.0, 1, 1, 1] * 2, (9, 1)), np.tile([0.0, 0, 0, 1] * 2, (9, 1))
    >>> [(one["place"], one["rsum"], one["verdict"]) for one in ranked([bad, good])]
    [(1, 600.0, 'best'), (0, 0.0, 'worse')]
    """
    if not totals:
        return []
    there = np.flatnonzero(totals[0].any(1))  # groups without a pair are nobody's
    weights = group_weights(len(there), draws, seed)
    rsums = [100 * float(hit_rates(one.sum(0)).sum()) for one in totals]
    drawn = [100 * resampled_rates(one[there], weights).sum(1) for one in totals]
    best = int(np.argmax(rsums))
    out = []
    for place in sorted(range(len(totals)), key=lambda place: (-rsums[place], place)):
        behind = interval(drawn[best] - drawn[place], confidence)
        out.append({
            "place": place,
            "rsum": rsums[place],
            "interval": list(interval(drawn[place], confidence)),
            "behind": rsums[best] - rsums[place],
            "behind_interval": list(behind),
            "verdict": "best" if place == best else "worse" if behind[0] > 0 else "tied",
        })  # fmt: skip
    return out
