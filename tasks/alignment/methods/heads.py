"""Heads trained by gradient, by default from CCA's joint space; held-out groups say whether that was worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tasks.alignment.maps import Linear
from tasks.alignment.methods import cca
from tasks.alignment.methods.search import HOPELESS, rsum_of
from tasks.alignment.problem import Choice, Fold, Maps, Problem, gain_in_errors

Indices = npt.NDArray[np.int64]
_PAIRS = 2_000
"""Training pairs beyond which one fold judges: it holds hundreds of queries, and each training costs seconds."""


def choose(problem: Problem) -> Choice:
    """CCA's values for the start, and `steps`: the plan's, or 0 where held-out groups rank no better for them.

    What the training gains on the folds that judge it is added to CCA's mean over all folds, so that the figures of
    methods can be compared. Attention may take half of the plan's steps: it has more to fit, and is often past its best
    at the end. Where the training falls far behind CCA on the first folds, the others are left out.
    """
    how = problem.plan.heads
    folds = problem.folds[:1] if len(problem.pairs) > _PAIRS else problem.folds
    if not how.warm:
        held = _held_out(folds, Choice({"steps": how.steps}))
        tried = [{"steps": how.steps, "rsum": round(rsum_of(held), 3), "folds": len(folds)}]
        return Choice({"steps": how.steps}, tried, held=held)
    first = cca.choose(problem)
    lengths = (how.steps // 2, how.steps) if how.shape == "attention" else (how.steps,)
    found: dict[int, list[npt.NDArray[np.float32]]] = {steps: [] for steps in lengths}
    for fold in folds:
        for steps in lengths:
            found[steps] += _held_out([fold], Choice(dict(first.values) | {"steps": steps}))
        if all(gain_in_errors(held, first.held, len(problem.pairs)) < HOPELESS for held in found.values()):
            break
    folds = folds[: len(found[how.steps])]
    found[0] = first.held[: len(folds)]  # what no step has changed, CCA has scored on these folds already
    scores = {steps: rsum_of(held) for steps, held in found.items()}
    tried = [
        dict(first.values) | {"steps": steps, "rsum": round(first.rsum + score - scores[0], 3), "folds": len(folds)}
        for steps, score in scores.items()
    ]
    best = max(scores, key=lambda steps: (scores[steps], -steps))
    return Choice(dict(first.values) | {"steps": best}, first.tried + tried, held=found[best])


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from pairs to heads; the start is CCA's on the same pairs."""
    from tasks.alignment.training import train

    if not problem.plan.heads.warm:
        return lambda pairs: train(problem, pairs, None, choice["steps"])
    begin = cca.prepare(problem, choice)

    def fit(pairs: Indices) -> Maps:
        start = begin(pairs)
        return train(problem, pairs, _matrices(start), choice["steps"]) if choice["steps"] else start

    return fit


def _held_out(folds: Sequence[Fold], choice: Choice) -> list[npt.NDArray[np.float32]]:
    return [fold.values(prepare(fold.inner, choice)(fold.train)) for fold in folds]


def _matrices(maps: Maps) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    left, right = maps
    assert isinstance(left, Linear)
    assert isinstance(right, Linear)
    return left.matrix, right.matrix
