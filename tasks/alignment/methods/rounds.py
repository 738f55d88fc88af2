"""Rounds of pseudo-pairs: unpaired items join the fit of CCA for as long as held-out groups rank better for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import moments, solver
from tasks.alignment.maps import Linear, Map
from tasks.alignment.methods import cca
from tasks.alignment.problem import Choice, Maps, Problem

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Pool = tuple[Array, Array]
"""The features of the unpaired items of both sides."""
Rounds = Callable[[Problem, Choice, Indices, Pool], Iterator[Maps]]
"""From a problem, CCA's values, given pairs and a pool: heads on `narrowed` features, before the first round, then
after each, without end."""

WIDTH = 256
ROUNDS = 3
VALUES = {"rx": 3.0, "ry": 1.0, "p": 1.0}
SHARE = 0.5
"""Of the total weight that the given pairs keep."""


def choose(problem: Problem, rounds: Rounds) -> Choice:
    """CCA's values for the start, and the number of rounds that ranks best over the folds; none where all hurt."""
    narrow = narrowed(problem)
    if "narrow" not in problem.chosen:
        problem.chosen["narrow"] = cca.choose(narrow)
    first = problem.chosen["narrow"]
    scores = []
    for fold in narrow.folds:
        pool = _unpaired(problem, fold.out)
        inner = replace(problem, pairs=fold.train, weights=fold.weights, known=None, chosen={})
        scores.append([fold.score(maps) for maps in islice(rounds(inner, first, fold.train, pool), _most(pool))])
    mean = np.array(scores).mean(0)
    tried = [
        dict(first.values) | {"rounds": n, "rsum": round(float(score), 3), "folds": len(scores)}
        for n, score in enumerate(mean)
    ]
    why = "" if len(mean) > 1 else "no round: there must be unpaired items on both sides"
    return Choice(dict(first.values) | {"rounds": int(mean.argmax())}, first.tried + tried, why)


def prepare(problem: Problem, choice: Choice, rounds: Rounds) -> Callable[[Indices], Maps]:
    """A function from given pairs to heads; the items that no pair of the problem holds are the unpaired ones."""
    pool = _unpaired(problem, problem.pairs[:0])

    def fit(pairs: Indices) -> Maps:
        found = next(islice(rounds(problem, choice, pairs, pool), choice["rounds"], None))
        left, right = (_widened(one, z.shape[1]) for one, z in zip(found, (problem.x, problem.y), strict=True))
        return left, right

    return fit


def narrowed(problem: Problem) -> Problem:
    """The leading principal components alone; they were found on paired and unpaired items together."""
    y = problem.y[:, :WIDTH] if problem.rest is None else problem.y
    if problem.x.shape[1] <= WIDTH and y.shape == problem.y.shape:
        return problem
    return replace(problem, x=problem.x[:, :WIDTH], y=y, known=None, chosen={})


def refit(problem: Problem, pairs: Indices, pseudo: Pool) -> Maps:
    """CCA on the given pairs and on pseudo-pairs, rows of (x, y)."""
    x, y = problem.x, problem.y
    count = len(pseudo[0])
    added = np.stack([len(x) + np.arange(count), len(y) + np.arange(count)], 1)
    weights = np.concatenate([np.full(len(pairs), SHARE / len(pairs)), np.full(count, (1 - SHARE) / count)])
    long_x, long_y = np.concatenate([x, pseudo[0]]), np.concatenate([y, pseudo[1]])
    m = moments(long_x, long_y, np.concatenate([pairs, added]), weights)
    return cca.linear(problem, *solver(m.xx, m.yy, **VALUES, dim=problem.plan.dim)(m.xy))


def _widened(one: Map, width: int) -> Linear:
    assert isinstance(one, Linear)
    return Linear(np.pad(one.matrix, ((0, width - len(one.matrix)), (0, 0))))


def _unpaired(problem: Problem, held: Indices) -> Pool:
    """The features of what no pair holds. Held-out items are not among them: they would meet their partners there.

    With the other modalities of a space that stands no item of x has a pair: all but the `held` ones (m, 2) join in.
    """
    taken = problem.pairs.T if problem.rest is None else (held[:, 0], problem.pairs[:, 1])
    left, right = (
        z[np.setdiff1d(np.arange(len(z)), gone)] for z, gone in zip((problem.x, problem.y), taken, strict=True)
    )
    return left, right if problem.rest is None else np.concatenate([right, problem.rest])


def _most(pool: Pool) -> int:
    """Heads to look at: those before the first round, and those after each."""
    return 1 + (ROUNDS if len(pool[0]) and len(pool[1]) else 0)
