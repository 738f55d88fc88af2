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
    """CCA's values for the start, and the number of rounds that ranks best over the folds; none where all hurt."""
    problem = _narrow(problem)
    first = cca.choose(problem)
    pool = _unpaired(problem)
    scores = [[fold.score(maps) for maps in _rounds(fold.inner, first, fold.train, pool)] for fold in problem.folds]
    mean = np.array(scores).mean(0)
    rounds = int(mean.argmax())
    tried = [
        dict(first.values) | {"rounds": n, "rsum": round(float(score), 3), "folds": len(scores)}
        for n, score in enumerate(mean)
    ]
    return Choice(dict(first.values) | {"rounds": rounds}, first.tried + tried)


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from given pairs to heads; the items that no pair of the problem holds are the unpaired ones."""
    narrow = _narrow(problem)
    pool = _unpaired(narrow)

    def fit(pairs: Indices) -> Maps:
        found = next(islice(_rounds(narrow, choice, pairs, pool), choice["rounds"], None))
        left, right = (_widened(one, z.shape[1]) for one, z in zip(found, (problem.x, problem.y), strict=True))
        return left, right

    return fit


def _narrow(problem: Problem) -> Problem:
    """The leading principal components alone; they were found on paired and unpaired items together."""
    return replace(problem, x=problem.x[:, :WIDTH], y=problem.y[:, :WIDTH], known=None, chosen={})


def _widened(one: Map, width: int) -> Linear:
    assert isinstance(one, Linear)
    return Linear(np.pad(one.matrix, ((0, width - len(one.matrix)), (0, 0))))


def _unpaired(problem: Problem) -> tuple[Array, Array]:
    """The features of what no pair holds. Held-out items are not among them: they would meet their partners there."""
    left, right = (
        z[np.setdiff1d(np.arange(len(z)), problem.pairs[:, side])] for side, z in enumerate((problem.x, problem.y))
    )
    return left, right


def _rounds(problem: Problem, choice: Choice, pairs: Indices, pool: tuple[Array, Array]) -> Iterator[Maps]:
    """The heads of the given pairs alone, and those after each round."""
    maps = cca.prepare(problem, choice)(pairs)
    yield maps
    ux, uy = pool
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
