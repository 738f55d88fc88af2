"""What a method fits on: features of both sides and the pairs that join them; its folds, and how heads are scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import Moments, moments, without
from tasks.alignment.maps import Map
from tasks.alignment.plan import Plan
from tasks.metrics.retrieval import per_query, positions, rsum, summary
from tasks.retrieval.hubness import corrected, hubness_terms
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Maps = tuple[Map, Map]
_QUERIES = 1_000
"""Held-out pairs a fold is scored on, and training queries behind its hubness terms."""


@dataclass(frozen=True)
class Choice:
    """The values that a method has chosen, the held-out rsum of each trial, and why they were taken."""

    values: Mapping[str, Any]
    tried: list[dict[str, Any]] = field(default_factory=list)
    why: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True)
class Problem:
    """Features `x` (nx, wx) and `y` (ny, wy), `pairs` (m, 2) of their rows with `weights` (m,), `groups` (nx,) of x.

    `blocks` are, for either side, each encoder's rows (w, width) of the rotation that mixed the encoders; `known` are
    the moments over all pairs, where someone has them.
    """

    x: Array
    y: Array
    pairs: Indices
    groups: Indices
    plan: Plan
    weights: npt.NDArray[np.float64] | None = None
    blocks: tuple[list[Array], list[Array]] = ([], [])
    known: Moments | None = None

    @cached_property
    def whole(self) -> Moments:
        """The second moments over all pairs."""
        return self.known or moments(self.x, self.y, self.pairs, self.weights)

    @cached_property
    def folds(self) -> list[Fold]:
        """The pairs cut by groups into `plan.folds` parts, each held out once."""
        generator = np.random.default_rng(self.plan.seed)
        names, number = np.unique(self.groups[self.pairs[:, 0]], return_inverse=True)
        fold_of = generator.permutation(np.arange(len(names)) % self.plan.folds)[number]
        out = []
        for fold in range(self.plan.folds):
            inside = fold_of != fold
            if inside.any() and not inside.all():
                train, held = self.pairs[inside], self.pairs[~inside]
                weights = None if self.weights is None else self.weights[inside]
                out.append(Fold(self, train, weights, held, _one_each(held, generator), _one_each(train, generator)))
        return out


class Rows(NamedTuple):
    """Paired queries of both sides (n, width), and training queries of both sides (b, width) as banks."""

    x: Array
    y: Array
    bank_x: Array
    bank_y: Array

    def turned(self, vx: npt.NDArray[np.float64], vy: npt.NDArray[np.float64]) -> Rows:
        """All of them in other bases (width, width)."""
        pairs = zip(self, (vx, vy, vx, vy), strict=True)
        return Rows(*(np.asarray(one @ v, np.float32) for one, v in pairs))


@dataclass(frozen=True)
class Fold:
    """Training pairs, the pairs that are held out, and one pair an item of either: queries, and a bank."""

    problem: Problem
    train: Indices
    weights: npt.NDArray[np.float64] | None
    out: Indices
    queries: Indices
    bank: Indices

    @cached_property
    def moments(self) -> Moments:
        """The second moments over the training pairs."""
        whole, one = self.problem, self.problem.weights
        if one is not None:
            return moments(whole.x, whole.y, self.train, self.weights)
        return without(whole.whole, moments(whole.x, whole.y, self.out), len(self.out) / len(whole.pairs))

    @property
    def inner(self) -> Problem:
        """The training pairs as a problem of their own."""
        return replace(self.problem, pairs=self.train, weights=self.weights, known=self.moments)

    @cached_property
    def rows(self) -> Rows:
        """The features of what is held out and of the banks."""
        x, y = self.problem.x, self.problem.y
        return Rows(x[self.queries[:, 0]], y[self.queries[:, 1]], x[self.bank[:, 0]], y[self.bank[:, 1]])

    def score(self, maps: Maps, rows: Rows | None = None) -> float:
        """Held-out rsum of a pair of maps, with the hubness correction; `rows` stand for the fold's own."""
        z = [normalise(maps[side].apply(one)) for side, one in zip((0, 1, 0, 1), rows or self.rows, strict=True)]
        return held_out_rsum(z[0], z[1], z[2], z[3], self.problem.plan.hubness_k)


def held_out_rsum(x: Array, y: Array, bank_x: Array, bank_y: Array, k: int) -> float:
    """Rsum of paired unit vectors `x` and `y` (n, dim), corrected by the banks of either side: 0 to 600."""
    s = x @ y.T
    relevant = np.arange(len(x))[:, None]
    ways = (corrected(s, hubness_terms(y, bank_x, k)), corrected(s.T, hubness_terms(x, bank_y, k)))
    return rsum(*(summary(per_query(positions(way, relevant), relevant)) for way in ways))


def _one_each(pairs: Indices, generator: np.random.Generator) -> Indices:
    """One pair of each left item and of each right item, in random order, at most `_QUERIES`."""
    mixed = pairs[generator.permutation(len(pairs))]
    mixed = mixed[np.unique(mixed[:, 0], return_index=True)[1]]
    mixed = mixed[np.unique(mixed[:, 1], return_index=True)[1]]
    return mixed[generator.permutation(len(mixed))][:_QUERIES]
