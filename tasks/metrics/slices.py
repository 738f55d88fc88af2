"""Where a space is weak: hit rates by slice of the queries, and which gaps are more than chance.

A slice is all queries with one value of an attribute; the rest are those with another value of it. A slice's score is
the mean of its hit_rate@1/5/10 in percent (rsum / 6 where both directions count), its gap the score less that of the
rest.

A gap is flagged when it is large enough to matter and chance would hardly make it. Its standard error is that of the
bootstrap over groups (slice and rest are drawn together, so a group that lies in both counts as the pair it is), but
never less than that of as many groups taken at random: of twenty queries that all miss, no resample holds a hit, and
the bootstrap alone would be sure of them. The p-values are normal, since a thousand draws cannot resolve the small
levels of a correction; Holm's step-down correction over all tested rows bounds the chance of even one false flag.
Sources: Efron and Tibshirani 1993; Holm 1979.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.metrics.bootstrap import Values, interval, resampled_totals
from tasks.metrics.retrieval import CUTS

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.object_]
BOTH = "both"


@dataclass(frozen=True)
class Asked:
    """The queries of one direction: metrics and attributes of each (n,), None where it has no such value; its group.

    Groups are numbered across all directions.
    """

    values: Mapping[str, Values]
    groups: Indices
    labels: Mapping[str, Labels]


def sliceable(labels: Mapping[str, Labels], least: int = 2, most: int = 20) -> list[str]:
    """Attributes with `least` to `most` distinct values, in order of name.

    >>> sliceable({"one": np.array(["a", "a"], object), "two": np.array(["a", "b"], object)})
    ['two']
    """
    counts = {name: len({one for one in column if one is not None}) for name, column in labels.items()}
    return sorted(name for name, count in counts.items() if least <= count <= most)


def terciles(sizes: npt.NDArray[np.int64]) -> Labels:
    """Thirds of numbers (n,), named by their bounds; ties fall into one third, so there may be fewer.

    >>> terciles(np.array([1, 2, 3, 4, 5, 9])).tolist()
    ['1 – 2', '1 – 2', '3 – 4', '3 – 4', '5 – 9', '5 – 9']
    """
    ordered = np.sort(sizes)
    bounds = [ordered[-(-len(ordered) * part // 3) - 1] for part in (1, 2)]
    third = np.searchsorted(np.unique(bounds), sizes, side="left")
    names = {part: f"{sizes[third == part].min():,} – {sizes[third == part].max():,}" for part in np.unique(third)}
    return np.array([names[part] for part in third], dtype=object)


def slice_rows(
    ways: Mapping[str, Asked],
    attributes: Sequence[str],
    weights: npt.NDArray[np.int32],
    *,
    confidence: float = 0.95,
    least_groups: int = 20,
    least_gap: float = 5.0,
) -> list[dict[str, Any]]:
    """One row an attribute, value and direction, JSON-able, the largest gap downwards first.

    With exactly two `ways` that share a slice there is also a row for "both", with rsum. A row's `verdict` is "weak" or
    "strong" for a flagged gap, "even" for another one, "too few" where slice or rest has fewer than `least_groups`
    groups: such a row has no gap. The `p` of a gap is Holm's; its interval stands by itself.
    """
    rows = []
    for attribute in attributes:
        there = {name: way for name, way in ways.items() if attribute in way.labels}
        sums = {name: _sums(way, attribute, weights) for name, way in there.items()}
        values = sorted({value for one in sums.values() for value in one}, key=str)
        for value in values:
            found = {name: one[value] for name, one in sums.items() if value in one}
            if len(found) == 2:
                found = {BOTH: _joined(*found.values())} | found
            for name, one in found.items():
                row = {"attribute": attribute, "value": value, "direction": name}
                rows.append(row | one.row(confidence, least_groups))
    _judge(rows, 1 - confidence, least_gap)
    return weakest_first(rows)


def weakest_first(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by their gap, the largest downwards first; those without one at the end."""
    return sorted(rows, key=lambda row: (row["gap"] is None, row["gap"]["value"] if row["gap"] else 0))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: below a level, a hypothesis falls with a family-wise error of that level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    out, last = [0.0] * len(p), 0.0
    for place, number in enumerate(sorted(range(len(p)), key=lambda number: p[number])):
        last = max(last, min(1.0, (len(p) - place) * p[number]))
        out[number] = last
    return out


@dataclass(frozen=True)
class _Slice:
    """Means of a slice and of its rest, of hit_rate@1/5/10: as they are (3,) and in each resample (draws, 3)."""

    queries: int
    groups: Indices
    rest_groups: Indices
    mean: Values
    rest: Values
    drawn: Values
    drawn_rest: Values
    spread: float  # standard deviation of a score of one group of the attribute
    directions: int = 1

    def row(self, confidence: float, least_groups: int) -> dict[str, Any]:
        """All but the verdict."""
        own, other = len(self.groups), len(self.rest_groups)
        out: dict[str, Any] = {"queries": self.queries, "groups": own}
        for number, k in enumerate(CUTS):
            out[f"hit_rate@{k}"] = {
                "value": float(self.mean[number]),
                "interval": list(interval(self.drawn[:, number], confidence)),
            }
        if self.directions == 2:
            sums = 100 * 2 * self.drawn.sum(1)
            out["rsum"] = {"value": float(200 * self.mean.sum()), "interval": list(interval(sums, confidence))}
        out["gap"] = None
        if min(own, other) >= least_groups:
            gap = float(100 * (self.mean.mean() - self.rest.mean()))
            draws = 100 * (self.drawn.mean(1) - self.drawn_rest.mean(1))
            error = max(float(draws.std()), self.spread * sqrt(1 / own + 1 / other))
            p = erfc(abs(gap) / error / sqrt(2)) if error > 0 else float(gap == 0)
            out["gap"] = {"value": gap, "interval": list(interval(draws, confidence)), "p": p}
        return out


def _sums(way: Asked, attribute: str, weights: npt.NDArray[np.int32]) -> dict[Any, _Slice]:
    """The slices of one direction by value."""
    labels = way.labels[attribute]
    known = np.array([one is not None for one in labels])
    values = sorted({one for one in labels if one is not None}, key=str)
    n_groups = weights.shape[1]
    hits = np.stack([np.ones(len(labels)), *(way.values[f"hit_rate@{k}"] for k in CUTS)], 1)
    masks = [known, *(np.array([one == value for one in labels]) for value in values)]
    totals = np.stack([_by_group(hits[mask], way.groups[mask], n_groups) for mask in masks], 1)  # (groups, masks, 4)
    drawn = resampled_totals(totals.reshape(n_groups, -1), weights).reshape(len(weights), len(masks), 4)
    whole = totals.sum(0)
    spread = _spread(totals[:, 0])
    out = {}
    for number, value in enumerate(values, 1):
        own, other = totals[:, number, 0], totals[:, 0, 0] - totals[:, number, 0]
        out[value] = _Slice(
            queries=int(whole[number, 0]),
            groups=np.flatnonzero(own),
            rest_groups=np.flatnonzero(other),
            mean=_means(whole[number]),
            rest=_means(whole[0] - whole[number]),
            drawn=_means(drawn[:, number]),
            drawn_rest=_means(drawn[:, 0] - drawn[:, number]),
            spread=spread,
        )
    return out


def _by_group(hits: Values, groups: Indices, n_groups: int) -> Values:
    return np.stack([np.bincount(groups, column, n_groups) for column in hits.T], 1)


def _means(sums: Values) -> Values:
    """Hit rates from a count and three sums in the last axis; 0 where nothing is counted."""
    return np.asarray(sums[..., 1:] / np.maximum(sums[..., :1], 1))


def _spread(totals: Values) -> float:
    """Standard deviation, over the groups, of the mean score in percent of a group: of (groups, 4) totals."""
    scores = 100 * _means(totals[totals[:, 0] > 0]).mean(1)
    return float(scores.std())


def _joined(one: _Slice, other: _Slice) -> _Slice:
    """Both directions, each counting as much as the other, as in rsum."""
    return _Slice(
        queries=one.queries + other.queries,
        groups=np.union1d(one.groups, other.groups),
        rest_groups=np.union1d(one.rest_groups, other.rest_groups),
        mean=(one.mean + other.mean) / 2,
        rest=(one.rest + other.rest) / 2,
        drawn=(one.drawn + other.drawn) / 2,
        drawn_rest=(one.drawn_rest + other.drawn_rest) / 2,
        spread=(one.spread + other.spread) / 2,  # as if they went together: at least what they have
        directions=2,
    )


def _judge(rows: list[dict[str, Any]], level: float, least_gap: float) -> None:
    """Correct the p-values for their number, and say of each row what its gap is."""
    tested = [row["gap"] for row in rows if row["gap"] is not None]
    for gap, p in zip(tested, holm([gap["p"] for gap in tested]), strict=True):
        gap["p"] = p
    for row in rows:
        gap = row["gap"]
        if gap is None:
            row["verdict"] = "too few"
        elif gap["p"] < level and abs(gap["value"]) >= least_gap:
            row["verdict"] = "weak" if gap["value"] < 0 else "strong"
        else:
            row["verdict"] = "even"
