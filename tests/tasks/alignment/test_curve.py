from __future__ import annotations

import numpy as np
import pytest

from tasks.alignment.curve import (
    Measured,
    fit_law,
    measure,
    outlook,
    points,
    resampled_curves,
    rsums,
)
from tasks.alignment.outer import hit_rates, nested
from tasks.alignment.plan import Plan
from tests.tasks.alignment.test_fit import views

SIZES = np.array([50.0, 90, 160, 280, 480, 800])
A, B, C = 560.0, 3_000.0, 0.5


def planted(groups: int, seeds: int, seed: int, a: float = A, b: float = B, c: float = C) -> Measured:
    """Hits of one query a group and direction whose rates at each size follow a − b·n^−c, with luck of their own."""
    draw = np.random.default_rng(seed)
    rate = (a - b * SIZES**-c) / 600
    totals = np.ones((seeds, len(SIZES), groups, 8))
    luck = draw.random((groups, 6))  # a query is hard or easy at all sizes
    for number in range(seeds):
        again = draw.random((groups, 6))
        for place, p in enumerate(rate):
            hits = np.where(draw.random((groups, 6)) < 0.7, luck, again) < p
            totals[number, place][:, [0, 1, 2, 4, 5, 6]] = hits
    return Measured(SIZES, totals)


def test_a_law_without_noise_is_recovered() -> None:
    """Its constants come back to a step of the grid, and the gain of 100 pairs to a hundredth."""
    y = A - B * SIZES[None] ** -0.473
    law = fit_law(SIZES, y)
    assert law.c[0] == pytest.approx(0.473, abs=0.01)
    assert law.a[0] == pytest.approx(A, rel=0.01)
    assert (law.at(900) - law.at(800))[0] == pytest.approx(B * (800**-0.473 - 900**-0.473), rel=0.01)


def test_the_law_is_the_least_squares_one() -> None:
    """No triple near it fits better, inside its bounds: b is not below zero and a not above the ceiling."""
    draw = np.random.default_rng(0)
    for y in (A - B * SIZES**-0.4 + draw.normal(size=6) * 5, 640 - 900 * SIZES**-0.2, 300 - 0.1 * SIZES):
        law = fit_law(SIZES, y[None])
        a, b, c = law.a[0], law.b[0], law.c[0]
        error = ((y - law.a[0] + law.b[0] * SIZES**-c) ** 2).sum()
        assert b >= 0
        assert a <= 600
        for da, db in draw.normal(size=(300, 2)):
            other, slope = min(a + da, 600), max(b + db, 0)
            assert ((y - other + slope * SIZES**-c) ** 2).sum() >= error - 1e-9


def test_the_gain_of_more_pairs_is_foretold() -> None:
    """On planted laws the interval holds the true gain in nearly all of 40 tries, and the mean gain is near it; in
    about one try of twenty luck speaks against the law, and nothing is told.
    """
    true = B * (800**-C - 900**-C)
    found = []
    for seed in range(40):
        measured = planted(1_000, 3, seed)
        told = outlook(measured, resampled_curves(measured, 200, seed), now=800, more=100)
        if told.gain is not None and told.gain_interval is not None:
            found.append((told.gain, told.gain_interval[0] <= true <= told.gain_interval[1]))
    assert len(found) >= 35
    assert np.mean([held for _, held in found]) >= 0.85
    assert np.mean([gain for gain, _ in found]) == pytest.approx(true, rel=0.15)


def test_what_cannot_be_told_is_not_told() -> None:
    """Flat figures, few or close sizes, a far way and a curve of another form give a reason and no gain."""
    flat = planted(200, 2, 0, b=0.0)
    rising = planted(500, 2, 1)
    few = Measured(SIZES[:3], rising.totals[:, :3])
    near = Measured(SIZES[2:], rising.totals[:, 2:])
    step = planted(2_000, 2, 2)
    step.totals[:, -1, :, :] = 1.0  # the largest size leaps to 600
    for measured, more, part in (
        (flat, 100, "do not surely rise"),
        (few, 10, "too few or too close"),
        (near, 900, "more than 2 times"),
        (step, 100, "misses the largest"),
    ):
        told = outlook(measured, resampled_curves(measured, 200, 0), now=800, more=more)
        assert part in (told.cannot_tell or "")
        assert told.gain is None


def test_subsets_are_nested_and_keep_groups_whole() -> None:
    """Each subset holds the one before, has the pairs asked for and less than one group more, and cuts no group."""
    owner = np.random.default_rng(0).integers(0, 30, 100)
    largest = np.bincount(owner).max()
    before: set[int] = set()
    for size, rows in zip([10, 25, 60, 100], nested(owner, [10, 25, 60, 100], np.random.default_rng(1)), strict=True):
        assert before <= set(rows.tolist())
        assert size <= len(rows) < size + largest
        assert not set(owner[rows]) & set(np.delete(owner, rows))
        before = set(rows.tolist())


def test_the_curve_of_planted_pairs_rises() -> None:
    """Every group is a query at every size and seed, more pairs rank better, and figures are those of the totals."""
    left, right, pairs = views(240)
    fits: list[int] = []
    measured = measure(left, right, pairs, Plan(method="ridge", dim=16, pca=48, folds=2), seeds=2, advance=fits.append)
    assert measured.totals.shape == (2, 6, 240, 8)
    assert sum(fits) == 2 * 6 * 3
    assert (measured.totals[..., 3] == 1).all()
    assert (measured.totals[..., 7] == 1).all()
    drawn = resampled_curves(measured, 200, 0)
    rows = points(measured, drawn)
    assert rows[-1]["pairs"] == 160
    assert rows[-1]["rsum"] > rows[0]["rsum"] + 30
    assert rows[0]["rsum"] == pytest.approx(float(rsums(hit_rates(measured.totals[:, 0].sum((0, 1))))))
    assert rows[0]["interval"][0] < rows[0]["rsum"] < rows[0]["interval"][1]


def test_a_budget_ends_between_seeds() -> None:
    """The first seed is measured whole whatever the budget says; few pairs are refused."""
    left, right, pairs = views(60)
    plan = Plan(method="procrustes", dim=8, pca=24, folds=2)
    assert len(measure(left, right, pairs, plan, seeds=3, go_on=lambda: False).totals) == 1
    with pytest.raises(ValueError, match="20 pairs are too few"):
        measure(left, right, pairs[:20], plan)
