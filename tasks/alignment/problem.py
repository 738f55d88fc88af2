"""What a method fits on: features of both sides and the pairs that join them; its folds, and how heads are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import Moments, cross_moment, moments, without
from tasks.alignment.maps import Attention, Map, Named
from tasks.alignment.naming import Naming
from tasks.alignment.plan import Plan
from tasks.alignment.tokens import Half, beside
from tasks.metrics.retrieval import CUTS, per_query, positions
from tasks.retrieval.hubness import corrected, hubness_terms
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Maps = tuple[Map, Map]
_QUERIES = 1_000
"""Held-out pairs a fold is scored on, training queries behind its hubness terms, loose items in its galleries."""
_BLOCK = 8_192
"""Items projected at once."""
_REPEATS = 3
"""How often few groups are cut into folds."""


@dataclass(frozen=True)
class Choice:
    """The values that a method has chosen, the held-out rsum of each trial, and why they were taken.

    `held` is, fold by fold, what each held-out query adds to the rsum under these values.
    """

    values: Mapping[str, Any]
    tried: list[dict[str, Any]] = field(default_factory=list)
    why: str = ""
    held: list[Array] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def rsum(self) -> float:
        """The held-out rsum of these values, as it stands among the trials."""
        return max(float(one["rsum"]) for one in self.tried if self.values.items() <= one.items())


@dataclass(frozen=True)
class Problem:
    """Features `x` (nx, wx) and `y` (ny, wy), `pairs` (m, 2) of their rows with `weights` (m,), `groups` (nx,) of x.

    `blocks` are, for either side, each encoder's rows (w, width) of the rotation that mixed the encoders; `tokens` are
    each encoder's tokens (n, t, w) where there are any; `known` are the moments over all pairs, where someone has them;
    `chosen` remembers what a method chose, for one built on it; `rival` is the `held` of the method to beat, if any.
    With `rest`, `y` are vectors of a joint space that stands, and stay as they are; `rest` (r, wy) are those of
    its other modalities. `naming` is there where one side's encoders know classes by name.
    """

    x: Array
    y: Array
    pairs: Indices
    groups: Indices
    plan: Plan
    weights: npt.NDArray[np.float64] | None = None
    blocks: tuple[list[Array], list[Array]] = ([], [])
    tokens: tuple[list[Half], list[Half]] = ([], [])
    known: Moments | None = None
    chosen: dict[str, Choice] = field(default_factory=dict)
    rival: list[Array] = field(default_factory=list)
    rest: Array | None = None
    naming: Naming | None = None

    @cached_property
    def whole(self) -> Moments:
        """The second moments over all pairs."""
        return self.known or moments(self.x, self.y, self.pairs, self.weights)

    def cross(self, pairs: Indices) -> npt.NDArray[np.float64]:
        """Cxy over other pairs (m, 2) of the same items; that of its own ones is known."""
        return self.whole.xy if pairs is self.pairs else cross_moment(self.x, self.y, pairs)

    def inputs(self, one: Map, side: int, rows: Indices) -> Array:
        """What a map of a side takes of some of its items."""
        x = (self.x, self.y)[side][rows]
        if isinstance(one, Named):
            assert self.naming is not None
            return beside(x, [self.naming.logits[rows]])
        return beside(x, [part[rows] for part in self.tokens[side]]) if isinstance(one, Attention) else x

    def joint(self, one: Map, side: int, rows: Indices) -> Array:
        """Some items of a side in the joint space: unit vectors (n, dim)."""
        parts = np.array_split(rows, len(rows) // _BLOCK + 1)
        return normalise(np.concatenate([one.apply(self.inputs(one, side, part)) for part in parts]))

    @cached_property
    def loose(self) -> tuple[Indices, Indices]:
        """Items of either side that no pair holds, at most `_QUERIES`, drawn by seed: they swell a small gallery."""
        generator = np.random.default_rng(self.plan.seed)
        rows = [np.setdiff1d(np.arange(len(z)), self.pairs[:, side]) for side, z in enumerate((self.x, self.y))]
        left, right = (np.sort(generator.permutation(one)[:_QUERIES]) for one in rows)
        return left, right

    @cached_property
    def folds(self) -> list[Fold]:
        """The pairs cut by groups into `plan.folds` parts, each held out once; few groups are cut several times."""
        generator = np.random.default_rng(self.plan.seed)
        names, number = np.unique(self.groups[self.pairs[:, 0]], return_inverse=True)
        out = []
        for _ in range(min(_REPEATS, -(-_QUERIES // len(names)))):
            fold_of = generator.permutation(np.arange(len(names)) % self.plan.folds)[number]
            for fold in range(self.plan.folds):
                inside = fold_of != fold
                if inside.any() and not inside.all():
                    train, held = self.pairs[inside], self.pairs[~inside]
                    weights = None if self.weights is None else self.weights[inside]
                    queries, bank = one_each(held, generator), one_each(train, generator)
                    out.append(Fold(self, train, weights, held, queries, bank))
        return out


def gain_in_errors(one: Sequence[Array], other: Sequence[Array], pairs: int) -> float:
    """How many standard errors of the paired difference `one` ranks better, on the folds that judged both.

    Both are the `held` of a choice. Folds that are cut repeatedly ask the same pairs again, so there are no more
    independent queries than `pairs`.
    """
    gains = np.concatenate([a - b for a, b in zip(one, other, strict=False)])
    error = gains.std() / np.sqrt(min(len(gains), pairs))
    return float(gains.mean() / error) if error else 0.0


class Rows(NamedTuple):
    """Paired queries of both sides (n, width), training queries as banks (b, width), items of no pair (l, width)."""

    x: Array
    y: Array
    bank_x: Array
    bank_y: Array
    loose_x: Array
    loose_y: Array

    def each(self, left: Callable[[Array], Array], right: Callable[[Array], Array]) -> Rows:
        """All of them through the function of their side."""
        return Rows(*(way(one) for one, way in zip(self, (left, right) * 3, strict=True)))

    @classmethod
    def beside(cls, left: Rows, right: Rows) -> Rows:
        """The left side of one and the right side of the other."""
        return cls(*(pair[place % 2] for place, pair in enumerate(zip(left, right, strict=True))))


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
        return replace(self.problem, pairs=self.train, weights=self.weights, known=self.moments, chosen={}, rival=[])

    @cached_property
    def rows(self) -> Rows:
        """The features of what is held out, of the banks, and of what has no pair at all."""
        x, y = self.problem.x, self.problem.y
        loose_x, loose_y = self.problem.loose
        queries, bank = self.queries, self.bank
        return Rows(x[queries[:, 0]], y[queries[:, 1]], x[bank[:, 0]], y[bank[:, 1]], x[loose_x], y[loose_y])

    def score(self, maps: Maps) -> float:
        """Held-out rsum of a pair of maps, with the hubness correction: 0 to 600."""
        return float(self.values(maps).mean())

    def values(self, maps: Maps) -> Array:
        """What each held-out query, there and back, adds to the rsum: (q,), their mean is the rsum."""
        left, right = maps
        return self.values_of(self._inputs(maps).each(left.apply, right.apply))

    def values_of(self, rows: Rows) -> Array:
        """The same of the fold's rows in a joint space, of any length."""
        return held_out_values(rows.each(normalise, normalise), self.problem.plan.hubness_k)

    def _inputs(self, maps: Maps) -> Rows:
        if not any(isinstance(one, (Attention, Named)) for one in maps):
            return self.rows
        places = (*self.queries.T, *self.bank.T, *self.problem.loose)
        sides = zip(maps * 3, (0, 1) * 3, places, strict=True)
        return Rows(*(self.problem.inputs(one, side, rows) for one, side, rows in sides))


def held_out_values(z: Rows, k: int) -> Array:
    """Each pair's share in the rsum of unit vectors among each other and the loose ones: (q,).

    Hubness is corrected by the banks and the loose items, as a space's bank holds all training items of its side.
    A pair is a query both ways, and each of its six hits adds 100; the mean is the rsum.
    """
    relevant = np.arange(len(z.x))[:, None]
    hits = np.zeros(len(z.x), np.float32)
    bank_x, bank_y = np.concatenate([z.bank_x, z.loose_x]), np.concatenate([z.bank_y, z.loose_y])
    among = z.x @ z.y.T  # both ways ask for the same products
    ways = (z.x, z.y, z.loose_y, bank_x, among), (z.y, z.x, z.loose_x, bank_y, among.T)
    for queries, paired, loose, bank, products in ways:
        scores = np.concatenate([products, queries @ loose.T], 1)
        terms = hubness_terms(np.concatenate([paired, loose]), bank, k)
        found = per_query(positions(corrected(scores, terms), relevant), relevant)
        for cut in CUTS:
            hits += found[f"hit_rate@{cut}"].astype(np.float32)
    return 100 * hits


def one_each(pairs: Indices, generator: np.random.Generator) -> Indices:
    """One pair of each left item and of each right item, in random order, at most `_QUERIES`."""
    mixed = pairs[generator.permutation(len(pairs))]
    mixed = mixed[np.unique(mixed[:, 0], return_index=True)[1]]
    mixed = mixed[np.unique(mixed[:, 1], return_index=True)[1]]
    return mixed[generator.permutation(len(mixed))][:_QUERIES]
