"""Rounds of pseudo-pairs: unpaired items join the fit of CCA for as long as held-out groups rank better for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import moments, solver
from tasks.alignment.maps import Linear, Map
from tasks.alignment.methods import cca
from tasks.alignment.methods.search import rsum_of
from tasks.alignment.problem import Choice, Maps, Problem
from tasks.mining.soft import Neighbours, barycentres, soft_neighbours

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Pool = tuple[Array, Array]
"""The features of the unpaired items of both sides."""


class Pseudo(NamedTuple):
    """Pseudo-pairs: features of both sides (n, width), and how certain each is (n,), from 0 to 1."""

    x: Array
    y: Array
    certainty: Array

    @classmethod
    def joined(cls, parts: Sequence[Pseudo]) -> Pseudo:
        """Those of several together."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def through(self, ways: Pool) -> Pseudo:
        """The same with features (n, w) by a matrix of either side."""
        return Pseudo(self.x @ ways[0], self.y @ ways[1], self.certainty)


Both = tuple[Neighbours, Neighbours]
"""Of the unpaired items of x those of y, and the other way round."""


def neighbours(zx: Array, zy: Array) -> Both:
    """What each unpaired item leans on, by its unit vector in a joint space."""
    return soft_neighbours(zx, zy), soft_neighbours(zy, zx)


def pseudo_pairs(found: Both, x: Array, y: Array) -> Pseudo:
    """Each unpaired item and the barycentre of its neighbours, by the features of both sides."""
    to_y, to_x = found
    return Pseudo(
        np.concatenate([x, barycentres(to_x, x)]),
        np.concatenate([barycentres(to_y, y), y]),
        np.concatenate([one.certainty for one in found]),
    )


class Round(NamedTuple):
    """Heads on `narrowed` features, and what their pseudo-pairs lean on, by view; () before the first round."""

    maps: Maps
    found: Sequence[Both] = ()


Rounds = Callable[[Problem, Choice, Indices, Pool], Iterator[Round]]
"""From a problem, CCA's values, given pairs and a pool: the heads before the first round, then each, without end."""


class Leaning(NamedTuple):
    """The pseudo-pairs of one side in a round: rows of unpaired `items` (n,), and of what each leans on across.

    `side` is 0 where the items are those of x, 1 where they are those of y. With `rest`, its rows come after those of
    y. Views count from 1; only co-training has two.
    """

    round: int
    view: int
    side: int
    items: Indices
    near: Neighbours


WIDTH = 256
ROUNDS = 5
VALUES = {"rx": 3.0, "ry": 1.0, "p": 1.0}
GIVEN = 15.0
"""Pseudo-pairs of mean certainty that a given pair outweighs: README of tasks."""


def choose(problem: Problem, rounds: Rounds) -> Choice:
    """The number of rounds that ranks best over the folds, and CCA's values for their start; where all hurt, CCA's."""
    plain, narrow = cca.choose(problem), narrowed(problem)
    if not all(map(len, _loose(problem, problem.pairs[:0]))):
        why = "no round: there must be unpaired items on both sides"
        return Choice(dict(plain.values) | {"rounds": 0}, plain.tried, why, plain.held)
    if "narrow" not in problem.chosen:
        problem.chosen["narrow"] = cca.choose(narrow)
    first = problem.chosen["narrow"]
    held = []
    for fold in narrow.folds:
        pool = _unpaired(problem, fold.out)
        inner = replace(problem, pairs=fold.train, weights=fold.weights, known=None, chosen={})
        tried_on = islice(rounds(inner, first, fold.train, pool), 1, ROUNDS + 1)
        held.append([fold.values(one.maps) for one in tried_on])
    by_rounds = [plain.held, *(list(one) for one in zip(*held, strict=True))]
    scores = [rsum_of(one) for one in by_rounds]
    tried = [
        dict((first if n else plain).values) | {"rounds": n, "rsum": round(score, 3), "folds": len(held)}
        for n, score in enumerate(scores)
    ]
    best = int(np.argmax(scores))
    values = {name: value for name, value in tried[best].items() if name not in ("rsum", "folds")}
    return Choice(values, plain.tried + tried, held=by_rounds[best])


def prepare(problem: Problem, choice: Choice, rounds: Rounds) -> Callable[[Indices], Maps]:
    """A function from given pairs to heads; the items that no pair of the problem holds are the unpaired ones."""
    if not choice["rounds"]:
        return cca.prepare(problem, choice)
    return lambda pairs: fit(problem, choice, pairs, rounds)[0]


def fit(problem: Problem, choice: Choice, pairs: Indices, rounds: Rounds) -> tuple[Maps, list[Leaning]]:
    """Heads by given pairs, and the pseudo-pairs that they stand on: those of the last round, for each finds its own.

    Where the choice is no round, they are CCA's, and there are none.
    """
    if not choice["rounds"]:
        return cca.prepare(problem, choice)(pairs), []
    none = problem.pairs[:0]
    rows = _loose(problem, none)
    last = next(islice(rounds(problem, choice, pairs, _unpaired(problem, none)), choice["rounds"], None))
    left, right = (_widened(one, z.shape[1]) for one, z in zip(last.maps, (problem.x, problem.y), strict=True))
    leaning = [
        Leaning(choice["rounds"], view, side, rows[side], Neighbours(rows[1 - side][near.rows], near.weight))
        for view, both in enumerate(last.found, 1)
        for side, near in enumerate(both)
    ]
    return (left, right), leaning


def narrowed(problem: Problem) -> Problem:
    """The leading principal components alone; they were found on paired and unpaired items together."""
    y = problem.y[:, :WIDTH] if problem.rest is None else problem.y
    if problem.x.shape[1] <= WIDTH and y.shape == problem.y.shape:
        return problem
    return replace(problem, x=problem.x[:, :WIDTH], y=y, known=None, chosen={}, rival=[])


def refit(problem: Problem, pairs: Indices, pseudo: Pseudo, views: int = 1) -> Maps:
    """CCA on the given pairs and on pseudo-pairs that so many views have found of the same items, by certainty."""
    x, y = problem.x, problem.y
    count = len(pseudo.x)
    sure = pseudo.certainty.astype(np.float64) + 1e-9
    added = np.stack([len(x) + np.arange(count), len(y) + np.arange(count)], 1)
    weights = np.concatenate([np.full(len(pairs), GIVEN * views * sure.mean()), sure])
    long_x, long_y = np.concatenate([x, pseudo.x]), np.concatenate([y, pseudo.y])
    m = moments(long_x, long_y, np.concatenate([pairs, added]), weights)
    return cca.linear(problem, *solver(m.xx, m.yy, **VALUES, dim=problem.plan.dim)(m.xy))


def _widened(one: Map, width: int) -> Linear:
    assert isinstance(one, Linear)
    return Linear(np.pad(one.matrix, ((0, width - len(one.matrix)), (0, 0))))


def _loose(problem: Problem, held: Indices) -> tuple[Indices, Indices]:
    """The rows of what no pair holds. Held-out items are not among them: they would meet their partners there.

    With the other modalities of a space that stands no item of x has a pair: all but the `held` ones (m, 2) join in,
    and the other modalities stand behind y.
    """
    taken = problem.pairs.T if problem.rest is None else (held[:, 0], problem.pairs[:, 1])
    left, right = (np.setdiff1d(np.arange(len(z)), gone) for z, gone in zip((problem.x, problem.y), taken, strict=True))
    more = 0 if problem.rest is None else len(problem.rest)
    return left, np.concatenate([right, len(problem.y) + np.arange(more)])


def _unpaired(problem: Problem, held: Indices) -> Pool:
    """The features of these rows."""
    left, right = _loose(problem, held)
    if problem.rest is None:
        return problem.x[left], problem.y[right]
    own = right[: len(right) - len(problem.rest)]
    return problem.x[left], np.concatenate([problem.y[own], problem.rest])
