"""How much the names of classes count beside a method's heads: chosen by the folds that chose its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tasks.alignment.naming import named
from tasks.alignment.problem import Choice, Maps, Problem, gain_in_errors

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.8)
"""Lengths of what the classes say beside a unit vector."""


def choose(
    problem: Problem, choice: Choice, prepare: Callable[[Problem, Choice], Callable[[npt.NDArray[np.int64]], Maps]]
) -> Choice:
    """The choice of a method, and with it `names`, the weight of the classes.

    It is 0 where they rank held-out queries better by no more than the standard error of the difference.
    """
    held: dict[float, list[npt.NDArray[np.float32]]] = {weight: [] for weight in WEIGHTS}
    for fold in problem.folds:
        maps = prepare(fold.inner, choice)(fold.train)
        for weight in WEIGHTS:
            held[weight].append(fold.values(named(problem, maps, weight)))
    scores = {weight: float(np.mean([one.mean() for one in values])) for weight, values in held.items()}
    best = max(scores, key=lambda weight: scores[weight])
    kept = best if gain_in_errors(held[best], held[0.0], len(problem.pairs)) > 1 else 0.0
    tried = [{"names": weight, "rsum": round(score, 3)} for weight, score in scores.items()]
    told = f"held-out rsum without names of classes {scores[0.0]:.1f}, at weight {best} {scores[best]:.1f}"
    told += "" if kept == best else ", which is no more than a standard error"
    why = "; ".join(one for one in (choice.why, told) if one)
    return replace(choice, values={**choice.values, "names": kept}, tried=[*choice.tried, *tried], why=why)
