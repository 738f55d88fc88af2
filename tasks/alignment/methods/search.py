"""A grid of values, scored on held-out groups: all on the first fold, the best few on the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tasks.alignment.problem import Choice, Fold, Problem

Key = tuple[float, ...]
Trials = Callable[[Fold, set[Key] | None], Iterable[tuple[Key, float]]]
_FINALISTS, _FEW_FINALISTS = 12, 40
_FEW = 1_000
"""Pairs below which one fold says little, and a trial costs little."""


def best_of(problem: Problem, names: tuple[str, ...], trials: Trials) -> Choice:
    """The values with the best mean over the folds. `trials(fold, only)` scores the keys in `only`, or all of them."""
    first, *others = problem.folds
    scores: dict[Key, list[float]] = {key: [score] for key, score in trials(first, None)}
    finalists = _FINALISTS if len(problem.pairs) >= _FEW else _FEW_FINALISTS
    best = sorted(scores, key=lambda key: -scores[key][0])[:finalists]
    for fold in others:
        for key, score in trials(fold, set(best)):
            scores[key].append(score)
    winner = max(best, key=lambda key: float(np.mean(scores[key])))
    tried = [
        dict(zip(names, key, strict=True)) | {"rsum": round(float(np.mean(s)), 3), "folds": len(s)}
        for key, s in sorted(scores.items())
    ]
    return Choice(dict(zip(names, winner, strict=True)), tried)
