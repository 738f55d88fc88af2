"""The learning curve: how the ranking grows with the number of known pairs, and what more of them would bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.alignment.fit import View, fit_space
from tasks.alignment.outer import folds_of, hit_rates, hit_totals, left_out, nested
from tasks.alignment.plan import Plan
from tasks.metrics.bootstrap import group_weights, interval, resampled_totals

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

CEILING = 600.0
"""The largest rsum."""

LEAST = 12
"""Pairs below which nothing is fitted."""

_POWERS = np.arange(0.02, 2.5, 0.01)
_FAR = 2.0  # times the largest number that was measured: further out no law is trusted
_SPREAD = 4.0  # the least ratio of the largest to the smallest number of pairs


@dataclass(frozen=True)
class Measured:
    """Totals (seeds, sizes, groups, 8) of hits (see `outer`), at these mean numbers of training pairs (sizes,)."""

    pairs: Values
    totals: Values


def sizes_up_to(most: int, count: int = 6) -> list[int]:
    """At most `count` numbers of pairs up to `most`, evenly on a logarithmic scale, over a factor of 16 where it is.

    >>> sizes_up_to(800), sizes_up_to(20)
    ([50, 87, 152, 264, 459, 800], [12, 13, 15, 16, 18, 20])
    """
    least = max(LEAST, most // 16)
    return [int(size) for size in np.unique(np.geomspace(min(least, most), most, count).round())]


def fits_of(seeds: int, sizes: int, folds: int) -> int:
    """How many fits a curve takes."""
    return seeds * sizes * folds


def measure(
    left: View,
    right: View,
    pairs: Indices,
    plan: Plan,
    *,
    seeds: int = 3,
    folds: int = 3,
    advance: Callable[[int], object] = int,
    go_on: Callable[[], bool] = lambda: True,
) -> Measured:
    """Figures on held-out groups of heads fitted on nested random subsets of the pairs, for several seeds.

    A seed draws the folds and the subsets. A fold's queries and galleries are the same at all sizes, and so are the
    items behind the features: the pairs that are left out count as items whose partner nobody knows. No further seed is
    begun once `go_on` says no; `advance` is told of each fit. Raises `ValueError` when there are too few pairs.
    """
    n_groups = int(max(left.groups.max(), right.groups.max())) + 1
    owner = left.groups[pairs[:, 0]]
    most = min(
        int((folds_of(owner, n_groups, folds, plan.seed + seed)[owner] != fold).sum())
        for seed in range(seeds)
        for fold in range(folds)
    )
    if most < 2 * LEAST:
        raise ValueError(f"{len(pairs)} pairs are too few for a learning curve")
    sizes = sizes_up_to(most)
    totals: list[Values] = []
    counts: list[list[int]] = []
    for number in range(seeds):
        if totals and not go_on():
            break
        seed = plan.seed + number
        fold_of = folds_of(owner, n_groups, folds, seed)
        here = np.zeros((len(sizes), n_groups, 8))
        for fold in range(folds):
            held = fold_of == fold
            x, y, moved = left_out(left, right, pairs, held)
            inside = np.flatnonzero(~held[owner])
            subsets = nested(owner[inside], sizes, np.random.default_rng([seed, fold]))
            for place, subset in enumerate(subsets):
                space = fit_space(x, y, moved[inside[subset]], plan).space
                here[place] += hit_totals(space, left, right, pairs[held[owner]], n_groups)
                advance(1)
            counts.append([len(subset) for subset in subsets])
        totals.append(here)
    return Measured(np.mean(counts, axis=0), np.stack(totals))


@dataclass(frozen=True)
class Law:
    """y(n) = a − b·n^−c, one of each draw (draws,); b ≥ 0, a ≤ the ceiling."""

    a: Values
    b: Values
    c: Values

    def at(self, n: float) -> Values:
        """Its values for n pairs: (draws,)."""
        return np.asarray(self.a - self.b * n**-self.c)


def fit_law(n: Values, y: Values, ceiling: float = CEILING) -> Law:
    """The least-squares law through y (draws, sizes) at n (sizes,): for each c of a grid, a and b in closed form.

    >>> law = fit_law(np.array([10.0, 40, 160, 640]), 500 - 900 * np.array([[10.0, 40, 160, 640]]) ** -0.5)
    >>> [round(float(one[0]), 2) for one in (law.a, law.b, law.c)]
    [500.0, 900.0, 0.5]
    """
    best = np.full(len(y), np.inf)
    out = np.zeros((3, len(y)))
    centre = y.mean(1)
    for c in _POWERS:
        x = n**-c
        middle = x - x.mean()
        b = np.maximum(-(y @ middle) / (middle @ middle), 0)
        a = centre + b * x.mean()
        over = a > ceiling
        if over.any():
            b = np.where(over, np.maximum((ceiling - y) @ x / (x @ x), 0), b)
            a = np.where(over, ceiling, a)
        error = ((y - (a[:, None] - b[:, None] * x)) ** 2).sum(1)
        better = error < best
        best = np.where(better, error, best)
        out = np.where(better, np.stack([a, b, np.full(len(y), c)]), out)
    return Law(*out)


@dataclass(frozen=True)
class Outlook:
    """What `more` pairs beside `now` would bring in rsum, by the law; why it cannot be told, where it cannot.

    `ceiling` is the law's a, left out where the figures do not determine it. `miss` is how far the law through all
    sizes but the largest misses the largest.
    """

    now: int
    more: int
    gain: float | None
    gain_interval: tuple[float, float] | None
    ceiling: float | None
    ceiling_interval: tuple[float, float] | None
    law: tuple[float, float, float] | None
    miss: float | None
    cannot_tell: str | None

    def figures(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def resampled_curves(measured: Measured, draws: int, seed: int) -> Values:
    """Hit rates (draws, sizes, 6) where seeds and groups are drawn anew, the same groups for all sizes."""
    seeds, sizes = measured.totals.shape[:2]
    there = np.flatnonzero(measured.totals.any((0, 1, 3)))
    weights = group_weights(len(there), draws, seed)
    chosen = group_weights(seeds, draws, seed + 1)
    drawn = np.zeros((draws, sizes, 8))
    for place, one in enumerate(measured.totals):
        flat = one[:, there].transpose(1, 0, 2).reshape(len(there), sizes * 8)
        drawn += chosen[:, place, None, None] * resampled_totals(flat, weights).reshape(draws, sizes, 8)
    return hit_rates(drawn)


def rsums(rates: Values) -> Values:
    """Hit rates (…, 6) → rsum (…), 0 to 600."""
    return np.asarray(100 * rates.sum(-1))


def points(measured: Measured, drawn: Values, confidence: float = 0.95) -> list[dict[str, Any]]:
    """The measured curve, a size a row: rsum with interval, hit_rate@1 and @10 as means of both directions."""
    rates = hit_rates(measured.totals.sum((0, 2)))
    spans = [interval(rsums(drawn[:, place]), confidence) for place in range(len(measured.pairs))]
    return [
        {
            "pairs": float(n),
            "rsum": float(rsums(one)),
            "interval": list(span),
            "hit_rate@1": float((one[0] + one[3]) / 2),
            "hit_rate@10": float((one[2] + one[5]) / 2),
        }
        for n, one, span in zip(measured.pairs, rates, spans, strict=True)
    ]


def outlook(measured: Measured, drawn: Values, *, now: int, more: int, confidence: float = 0.95) -> Outlook:
    """Extrapolate the rsum by a saturating power law; the interval is that over the draws of seeds and groups.

    Nothing is told where the sizes are too few or too close, the figures do not surely rise, the way is too far, or the
    law misses the largest size, when it is fitted on the others, by more than the gain that it foretells.
    """
    n, y = measured.pairs, rsums(hit_rates(measured.totals.sum((0, 2))))[None]
    curves = rsums(drawn)
    reason = _unfit(n, curves, now + more, confidence)
    if reason is not None:
        return Outlook(now, more, None, None, None, None, None, None, reason)
    law, laws = fit_law(n, y), fit_law(n, curves)
    gain = float((law.at(now + more) - law.at(now))[0])
    span = interval(laws.at(now + more) - laws.at(now), confidence)
    misses = fit_law(n[:-1], curves[:, :-1]).at(float(n[-1])) - curves[:, -1]
    miss = float((fit_law(n[:-1], y[:, :-1]).at(float(n[-1])) - y[:, -1])[0])
    low, high = interval(misses, confidence)
    if (low > 0 or high < 0) and abs(miss) > gain:
        reason = f"fitted on the smaller sizes, the law misses the largest by {miss:+.1f}, more than the gain"
        return Outlook(now, more, None, None, None, None, None, miss, reason)
    a, b, c = (float(one[0]) for one in (law.a, law.b, law.c))
    top = interval(laws.a, confidence)
    known = top[1] < CEILING and top[1] - top[0] <= 100  # else any height fits
    return Outlook(now, more, gain, span, a if known else None, top if known else None, (a, b, c), miss, None)


def _unfit(n: Values, curves: Values, wanted: int, confidence: float) -> str | None:
    """Why no law can be fitted."""
    if len(n) < 4 or n[-1] < _SPREAD * n[0]:
        return f"{len(n)} sizes from {n[0]:.0f} to {n[-1]:.0f} pairs are too few or too close to show a trend"
    if wanted > _FAR * n[-1]:
        return f"{wanted:,} pairs are more than {_FAR:.0f} times the {n[-1]:,.0f} that heads were fitted on"
    if interval(curves[:, -1] - curves[:, 0], confidence)[0] <= 0:
        return "the figures do not surely rise with the number of pairs"
    return None
