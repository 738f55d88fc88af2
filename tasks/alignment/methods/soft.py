"""CCA on given and soft pseudo-pairs: unpaired items lend a hand where few pairs are known.

Each unpaired item is paired with a barycentre of the other modality: the mean of its nearest items under CSLS,
weighted by a softmax. Rounds refit the heads and find the barycentres anew. As many rounds are taken as rank held-out
groups of given pairs better; with many pairs that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import moments, solver
from tasks.alignment.maps import Linear, Map, padded
from tasks.alignment.methods import cca
from tasks.alignment.problem import Choice, Maps, Problem
from tasks.mining.soft import barycentres
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

WIDTH = 256
ROUNDS = 3
VALUES = {"rx": 3.0, "ry": 1.0, "p": 1.0}
SHARE = 0.5
"""Of the total weight that the given pairs keep."""


def choose(problem: Problem) -> Choice:
    """CCA's values for the start, and the number of rounds: each must improve the mean over the folds."""
    problem = _narrow(problem)
    first = cca.choose(problem)
    scores = np.array([[fold.score(maps) for maps in _rounds(fold.inner, first, fold.train)] for fold in problem.folds])
    mean = scores.mean(0)
    rounds = 0
    while rounds < ROUNDS and mean[rounds + 1] > mean[rounds]:
        rounds += 1
    tried = [
        dict(first.values) | {"rounds": n, "rsum": round(float(score), 3), "folds": len(scores)}
        for n, score in enumerate(mean)
    ]
    return Choice(dict(first.values) | {"rounds": rounds}, first.tried + tried)


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from given pairs to heads; all other items of the problem are unpaired."""
    narrow = _narrow(problem)

    def fit(pairs: Indices) -> Maps:
        found = next(islice(_rounds(narrow, choice, pairs), choice["rounds"], None))
        left, right = (_widened(one, z.shape[1]) for one, z in zip(found, (problem.x, problem.y), strict=True))
        return left, right

    return fit


def _narrow(problem: Problem) -> Problem:
    """The leading principal components alone; they were found on paired and unpaired items together."""
    return replace(problem, x=problem.x[:, :WIDTH], y=problem.y[:, :WIDTH], known=None)


def _widened(one: Map, width: int) -> Linear:
    assert isinstance(one, Linear)
    return Linear(np.pad(one.matrix, ((0, width - len(one.matrix)), (0, 0))))


def _rounds(problem: Problem, choice: Choice, pairs: Indices) -> Iterator[Maps]:
    """The heads of the given pairs alone, and those after each round."""
    maps = cca.prepare(problem, choice)(pairs)
    yield maps
    sides = problem.x, problem.y
    ux, uy = (z[np.setdiff1d(np.arange(len(z)), pairs[:, side])] for side, z in enumerate(sides))
    for _ in range(ROUNDS if len(ux) and len(uy) else 0):
        zx, zy = (normalise(one.apply(z)) for one, z in zip(maps, (ux, uy), strict=True))
        maps = _refit(problem, pairs, (ux, barycentres(zx, zy, uy)), (barycentres(zy, zx, ux), uy))
        yield maps


def _refit(problem: Problem, pairs: Indices, ours: tuple[Array, Array], theirs: tuple[Array, Array]) -> Maps:
    """CCA on the given pairs and both kinds of pseudo-pairs, rows of (x, y)."""
    x, y = problem.x, problem.y
    pseudo = len(ours[0]) + len(theirs[0])
    long_x, long_y = np.concatenate([x, ours[0], theirs[0]]), np.concatenate([y, ours[1], theirs[1]])
    added = np.stack([len(x) + np.arange(pseudo), len(y) + np.arange(pseudo)], 1)
    weights = np.concatenate([np.full(len(pairs), SHARE / len(pairs)), np.full(pseudo, (1 - SHARE) / pseudo)])
    m = moments(long_x, long_y, np.concatenate([pairs, added]), weights)
    a, b = solver(m.xx, m.yy, **VALUES, dim=problem.plan.dim)(m.xy)
    return Linear(padded(a)), Linear(padded(b))
