"""Figures on pairs that the heads have not seen: cross-validation over groups around the whole fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tasks.alignment.fit import View
from tasks.alignment.space import JointSpace
from tasks.metrics.bootstrap import resampled_totals
from tasks.metrics.retrieval import CUTS, evaluate, relevance_table
from tasks.retrieval.hubness import corrected

Array = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_COLUMNS = len(CUTS) + 1


def folds_of(groups: Indices, n_groups: int, folds: int, seed: int) -> Indices:
    """The fold in which each of `n_groups` is held out, -1 for one that `groups` (the pairs' own) does not name.

    >>> sorted(folds_of(np.array([0, 0, 2, 3]), 4, 3, seed=0).tolist())
    [-1, 0, 1, 2]
    """
    named = np.unique(groups)
    out = np.full(n_groups, -1, np.int64)
    out[named] = np.random.default_rng(seed).permutation(np.arange(len(named)) % folds)
    return out


def outside(view: View, held: npt.NDArray[np.bool_]) -> tuple[View, Indices]:
    """The items whose group is not `held` (n_groups,), and the new row of each old one, -1 for those that went."""
    keep = ~held[view.groups]
    place = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int64)
    vectors = {name: one[keep] for name, one in view.vectors.items()}
    return replace(view, vectors=vectors, groups=view.groups[keep]), place


def left_out(left: View, right: View, pairs: Indices, held: npt.NDArray[np.bool_]) -> tuple[View, View, Indices]:
    """Both sides without the groups that are `held` (n_groups,), and the pairs in their new rows, -1 for those gone."""
    (x, rows), (y, columns) = outside(left, held), outside(right, held)
    return x, y, np.stack([rows[pairs[:, 0]], columns[pairs[:, 1]]], 1)


def nested(owner: Indices, sizes: Sequence[int], generator: np.random.Generator) -> list[Indices]:
    """Rows of growing random subsets of pairs with these groups (m,): whole groups until there are so many pairs.

    Each subset holds the ones before it.

    >>> [len(one) for one in nested(np.array([0, 0, 1, 1, 2, 2]), [1, 3, 6], np.random.default_rng(0))]
    [2, 4, 6]
    """
    names, number = np.unique(owner, return_inverse=True)
    rank = generator.permutation(len(names))[number]
    counts = np.cumsum(np.bincount(rank))
    ends = np.minimum(np.searchsorted(counts, sizes), len(names) - 1)
    return [np.flatnonzero(rank <= end) for end in ends]


def some_pairs(left: View, right: View, pairs: Indices, most: int, seed: int) -> tuple[View, View, Indices]:
    """About `most` of the pairs, whole groups drawn by seed; the items of the other pairs go, those of none stay.

    All of them where there are no more.
    """
    if len(pairs) <= most:
        return left, right, pairs
    owner = left.groups[pairs[:, 0]]
    (kept,) = nested(owner, [most], np.random.default_rng(seed))
    held = np.zeros(int(max(left.groups.max(), right.groups.max())) + 1, np.bool_)
    held[np.setdiff1d(owner, owner[kept])] = True
    x, y, moved = left_out(left, right, pairs, held)
    return x, y, moved[kept]


def hit_totals(space: JointSpace, left: View, right: View, pairs: Indices, n_groups: int) -> Values:
    """Hits of the items that `pairs` (m, 2) join, as queries in both directions: (n_groups, 8).

    For left → right, then right → left: the number of queries of each group with a hit in the top 1, 5 and 10, and the
    number of all. The gallery of a direction is the other items of these pairs.
    """
    out = np.zeros((n_groups, 2 * _COLUMNS))
    sides = []
    for view, ends in zip((left, right), pairs.T, strict=True):
        rows, place = np.unique(ends, return_inverse=True)
        z = space.project(view.modality, {name: one[rows] for name, one in view.vectors.items()})
        sides.append((view.modality, z, view.groups[rows], place))
    for way, ((modality, z, groups, asked), (_, gallery, _, right_ones)) in enumerate((sides, sides[::-1])):
        terms = space.hubness(gallery, modality)
        values = evaluate(_scores(z, gallery, terms), relevance_table(asked, right_ones, len(z)))
        for column, name in enumerate([f"hit_rate@{k}" for k in CUTS]):
            out[:, way * _COLUMNS + column] = np.bincount(groups, values[name], n_groups)
        out[:, way * _COLUMNS + len(CUTS)] = np.bincount(groups, minlength=n_groups)
    return out


def hit_rates(totals: Values) -> Values:
    """Totals (…, 8), summed over groups, → hit rates of left → right at 1, 5, 10, then of right → left: (…, 6).

    >>> hit_rates(np.array([1.0, 2, 3, 4, 0, 0, 1, 2])).tolist()
    [0.25, 0.5, 0.75, 0.0, 0.0, 0.5]
    """
    ways = totals.reshape(*totals.shape[:-1], 2, _COLUMNS)
    rates = ways[..., :-1] / np.maximum(ways[..., -1:], 1)
    return np.asarray(rates.reshape(*totals.shape[:-1], 2 * len(CUTS)))


def resampled_rates(totals: Values, weights: npt.NDArray[np.int32]) -> Values:
    """Hit rates (draws, 6) in each resample of the groups, from totals (n_groups, 8)."""
    return hit_rates(resampled_totals(totals, weights))


def _scores(queries: Array, gallery: Array, terms: Array) -> Callable[[slice], Array]:
    return lambda part: corrected(queries[part] @ gallery.T, terms)
