"""Heads trained by gradient, by default from CCA's joint space; held-out groups say whether that was worth it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tasks.alignment.maps import Linear
from tasks.alignment.methods import cca
from tasks.alignment.problem import Choice, Fold, Maps, Problem

Indices = npt.NDArray[np.int64]
_PAIRS = 2_000
"""Training pairs beyond which one fold judges: it holds hundreds of queries, and each training costs seconds."""
_FLATTER = 0.5
"""Power of Σ of the second start: a flat spectrum leaves the loss more to weigh."""


def choose(problem: Problem) -> Choice:
    """CCA's values for the start, and `steps`: the plan's, or 0 where held-out groups rank no better for them.

    Attention may take half of the plan's: it has more to fit, and is often past its best at the end.
    """
    how = problem.plan.heads
    if not how.warm:
        fold = problem.folds[0]
        from tasks.alignment.training import train

        score = fold.score(train(fold.inner, fold.train, None, how.steps))
        return Choice({"steps": how.steps}, [{"steps": how.steps, "rsum": round(score, 3), "folds": 1}])
    first = cca.choose(problem)
    starts = [dict(first.values), dict(first.values) | {"p": _FLATTER}]
    folds = problem.folds[:1] if len(problem.pairs) > _PAIRS else problem.folds
    lengths = (0, how.steps // 2, how.steps) if how.shape == "attention" else (0, how.steps)
    tried = []
    for values in starts[: 1 + (starts[0] != starts[1])]:
        for steps in lengths:
            scores = [fold.score(_trained(fold, values, steps)) for fold in folds]
            tried.append(values | {"steps": steps, "rsum": round(float(np.mean(scores)), 3), "folds": len(folds)})
    best = max(tried, key=lambda one: (one["rsum"], -one["steps"]))
    return Choice({name: best[name] for name in (*cca.NAMES, "steps")}, first.tried + tried)


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


def _trained(fold: Fold, values: dict[str, float], steps: int) -> Maps:
    inner = fold.inner
    return prepare(inner, Choice(values | {"steps": steps}))(inner.pairs)


def _matrices(maps: Maps) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    left, right = maps
    assert isinstance(left, Linear)
    assert isinstance(right, Linear)
    return left.matrix, right.matrix
