from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.alignment.comparison import agreement_of, cross_validated, only, ranked
from tasks.alignment.fit import View, fit_space
from tasks.alignment.outer import folds_of, hit_rates, hit_totals, outside, some_pairs
from tasks.alignment.plan import Plan
from tests.tasks.alignment.test_fit import views

PLAN = Plan(method="ridge", dim=16, pca=48, folds=2, bank=100)


def by_loops(x: np.ndarray, y: np.ndarray, terms: np.ndarray, right: list[set[int]]) -> list[list[bool]]:
    """Hits at 1, 5 and 10 of each query, from sorted lists."""
    out = []
    for i in range(len(x)):
        scores = [2 * float(x[i] @ y[j]) - float(terms[j]) for j in range(len(y))]
        order = sorted(range(len(y)), key=lambda j: (-scores[j], j in right[i]))
        out.append([bool(set(order[:k]) & right[i]) for k in (1, 5, 10)])
    return out


def test_hits_are_counted_by_group_and_direction() -> None:
    """Totals are those of sorted lists, several partners of one item among them, in both directions."""
    left, right, pairs = views(120)
    left, right = replace(left, groups=left.groups // 2), replace(right, groups=right.groups // 2)
    space = fit_space(left, right, pairs, PLAN).space
    some = np.concatenate([pairs[:30], np.stack([pairs[:30:2, 0], pairs[1:30:2, 1]], 1)])
    totals = hit_totals(space, left, right, some, 60)
    x, y = space.project("image", {"a": left.vectors["a"][:30]}), space.project("text", {"b": right.vectors["b"][:30]})
    partners = [{i} | ({i + 1} if i % 2 == 0 else set()) for i in range(30)]
    owners = [{j} | ({j - 1} if j % 2 else set()) for j in range(30)]
    ways = (by_loops(x, y, space.hubness(y, "image"), partners), by_loops(y, x, space.hubness(x, "text"), owners))
    for group in range(60):
        members = [i for i in range(30) if i // 2 == group]
        expected = []
        for way in ways:
            expected += [sum(way[i][place] for i in members) for place in range(3)] + [len(members)]
        assert totals[group].tolist() == expected


def test_held_out_groups_are_not_seen() -> None:
    """Whatever the held-out items of a fold hold, their heads stay the same; each group is held out once."""
    left, right, pairs = views(90)
    fold_of = folds_of(left.groups, 90, 3, 0)
    assert np.bincount(fold_of).tolist() == [30, 30, 30]
    held = fold_of == 1
    noise = np.random.default_rng(0).normal(size=left.vectors["a"].shape).astype(np.float32)
    spoilt = replace(left, vectors={"a": np.where(held[:, None], noise, left.vectors["a"])})
    found = []
    for view in (left, spoilt):
        x, rows = outside(view, held)
        y, _ = outside(right, held)
        assert not set(x.groups) & set(np.flatnonzero(held))
        known = rows[pairs[~held]]
        found.append(fit_space(x, y, known, PLAN).space.arrays())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_the_better_encoder_and_all_of_them_win() -> None:
    """An encoder of pure noise is surely worse than one that shares something, which agrees with the texts beyond
    chance before any training; every pair is ranked once.
    """
    left, right, pairs = views(240)
    noise = np.random.default_rng(1).normal(size=(240, 40)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    both = View("image", {"a": left.vectors["a"], "n": noise}, {"a": False, "n": False}, left.groups)
    totals = [cross_validated(only(both, [name]), right, pairs, PLAN, folds=3)[0] for name in ("n", "a")]
    assert all((one[:, [3, 7]] == 1).all() for one in totals)
    rows = ranked(totals)
    assert [row["place"] for row in rows] == [1, 0]
    assert rows[0]["rsum"] == pytest.approx(100 * hit_rates(totals[1].sum(0)).sum())
    assert rows[0]["interval"][0] < rows[0]["rsum"] < rows[0]["interval"][1]
    assert (rows[0]["verdict"], rows[1]["verdict"]) == ("best", "worse")
    assert rows[1]["behind_interval"][0] <= rows[1]["behind"] <= rows[1]["behind_interval"][1]
    shared = agreement_of(only(both, ["a"]), right, pairs, 48)
    chance = agreement_of(only(both, ["n"]), right, pairs, 48)
    assert shared.low > shared.chance
    assert chance.low < chance.chance < chance.high
    assert shared.items == 240


def test_some_pairs_are_whole_groups_and_the_unpaired_stay() -> None:
    """Of more pairs some are drawn by group: they join the same items as before, the others' items go, and an item
    without any pair stays.
    """
    left, right, pairs = views(60)
    left, right = replace(left, groups=left.groups // 2), replace(right, groups=right.groups // 2)
    pairs = pairs[10:]  # five groups have none
    x, y, some = some_pairs(left, right, pairs, 20, 0)
    assert len(some) == 20
    assert len(x) == len(y) == 20 + 10
    assert np.bincount(x.groups[some[:, 0]])[np.unique(x.groups[some[:, 0]])].tolist() == [2] * 10
    before = {(one.tobytes(), other.tobytes()) for one, other in zip(
        left.vectors["a"][pairs[:, 0]], right.vectors["b"][pairs[:, 1]], strict=True)}  # fmt: skip
    for one, other in zip(x.vectors["a"][some[:, 0]], y.vectors["b"][some[:, 1]], strict=True):
        assert (one.tobytes(), other.tobytes()) in before
    assert some_pairs(left, right, pairs, 50, 0)[2] is pairs


def test_too_few_groups_are_refused() -> None:
    """Five groups cannot give three parts of two."""
    left, right, pairs = views(5)
    with pytest.raises(ValueError, match="5 groups"):
        cross_validated(left, right, pairs, PLAN, folds=3)
