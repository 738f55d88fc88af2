"""A grid of values, scored on held-out groups: all on the first fold, or a way uphill; the best few on the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tasks.alignment.problem import Choice, Fold, Problem, gain_in_errors

Array = npt.NDArray[np.float32]
Key = tuple[float, ...]
Scored = Iterable[tuple[Key, Array]]
"""Values, and what each held-out query of a fold adds to the rsum under them."""
Trials = Callable[[Fold, set[Key] | None], Scored]
_FINALISTS, _FEW_FINALISTS = 12, 40
HOPELESS = -2.0  # standard errors behind the rival on the first fold: both others had to be two ahead to make up for it
_SURELY = 2.0  # standard errors by which the best of many values must be ahead of those that stand
FEW = 1_000
"""Pairs below which one fold says little, and a trial costs little."""


def best_of(
    problem: Problem,
    names: tuple[str, ...],
    trials: Trials,
    explore: Callable[[Fold], Scored] | None = None,
    start: Key | None = None,
) -> Choice:
    """The values with the best mean over the folds. `trials(fold, only)` scores the keys in `only`, or all of them.

    `explore` takes the place of all of them on the first fold. Where the best of that fold is far behind the problem's
    rival, the other folds are left out: they would cost most of the time and change nothing.
    `start` stands unless the best is surely better: on few pairs the best of many values is so by luck.
    """
    first, *others = problem.folds
    found = list(explore(first) if explore else trials(first, None))
    found += trials(first, {start}) if start else ()
    held: dict[Key, list[Array]] = {key: [values] for key, values in found}
    finalists = _FINALISTS if len(problem.pairs) >= FEW else _FEW_FINALISTS
    best = sorted(held, key=lambda key: -held[key][0].mean())[:finalists]
    if problem.rival and gain_in_errors(held[best[0]], problem.rival, len(problem.pairs)) < HOPELESS:
        best, others = best[:1], []
    tried_on = {*best, start} if start else set(best)
    for fold in others:
        for key, values in trials(fold, tried_on):
            held[key].append(values)
    winner = max(best, key=lambda key: rsum_of(held[key]))
    if start and gain_in_errors(held[winner], held[start], len(problem.pairs)) < _SURELY:
        winner = start
    tried = [
        dict(zip(names, key, strict=True)) | {"rsum": round(rsum_of(some), 3), "folds": len(some)}
        for key, some in sorted(held.items())
    ]
    return Choice(dict(zip(names, winner, strict=True)), tried, held=held[winner])


def rsum_of(held: Sequence[Array]) -> float:
    """The mean over folds of their rsum, from what their queries add to it."""
    return float(np.mean([one.mean() for one in held]))


def uphill(score: Callable[[int, int], float], shape: tuple[int, int], start: tuple[int, int]) -> None:
    """Walk over a grid from `start`, always to the best of the four next ones, until none of them scores higher.

    >>> seen = []
    >>> uphill(lambda i, j: seen.append((i, j)) or -abs(i - 2) - abs(j), (4, 4), (1, 0))
    >>> sorted(seen)
    [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    """
    known = {start: score(*start)}
    here = start
    while True:
        row, column = here
        for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if place not in known and 0 <= place[0] < shape[0] and 0 <= place[1] < shape[1]:
                known[place] = score(*place)
        best = max(known, key=lambda place: known[place])
        if known[best] <= known[here]:
            return
        here = best
