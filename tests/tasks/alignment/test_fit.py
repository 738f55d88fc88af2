from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tasks.alignment.fit import View, bank_rows, fit_space, shuffled_pairs
from tasks.alignment.methods import NAMES
from tasks.alignment.plan import HeadPlan, Plan
from tasks.alignment.problem import Problem
from tasks.alignment.space import JointSpace
from tasks.metrics.retrieval import CUTS, chance_hit_rate, per_query, positions, summary

PLAN = Plan(dim=16, pca=48, bank=200)


def planted(n: int, seed: int, *, noise: float = 1.0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Embeddings of n pairs that share eight hidden directions under noise of their own, in 40 and 30 dimensions."""
    maps = np.random.default_rng(99)
    a, b = maps.normal(size=(8, 40)), maps.normal(size=(8, 30))
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=(n, 8))
    x = hidden @ a + noise * draw.normal(size=(n, 40)) * 3
    y = hidden @ b + noise * draw.normal(size=(n, 30)) * 3
    unit = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in (x, y)]
    return {"a": unit[0]}, {"b": unit[1]}


def views(n: int, seed: int = 0) -> tuple[View, View, np.ndarray]:
    """Both sides of a planted training set, each pair a group."""
    x, y = planted(n, seed)
    pairs = np.stack([np.arange(n)] * 2, 1)
    return View("image", x, {"a": False}, np.arange(n)), View("text", y, {"b": False}, np.arange(n)), pairs


def hit_rates(space: JointSpace, n: int = 200, seed: int = 5) -> dict[str, float]:
    """Metrics of image → text on new pairs of the same kind."""
    x, y = planted(n, seed)
    scores = space.project("image", x) @ space.project("text", y).T
    relevant = np.arange(n)[:, None]
    return summary(per_query(positions(scores, relevant), relevant))


@pytest.mark.parametrize("method", NAMES)
def test_each_method_finds_what_is_shared(method: str) -> None:
    """On new pairs every method ranks many times better than chance."""
    left, right, pairs = views(400)
    plan = Plan(method=method, dim=16, pca=48, heads=HeadPlan(steps=60))
    space = fit_space(left, right, pairs, plan).space
    assert hit_rates(space)["hit_rate@10"] > 4 * chance_hit_rate(10, 200, 1)


def test_chosen_values_beat_careless_ones() -> None:
    """With few noisy pairs the cross-validated regularisation ranks new pairs better than hardly any."""
    left, right, pairs = views(60)
    chosen = fit_space(left, right, pairs, PLAN).space
    careless = fit_space(left, right, pairs, PLAN, values={"rx": 1e-6, "ry": 1e-6, "p": 0.0}).space
    assert hit_rates(chosen)["hit_rate@10"] > hit_rates(careless)["hit_rate@10"]


def test_a_shuffled_control_falls_to_chance() -> None:
    """Heads refitted on shuffled pairs rank new pairs no better than chance, within four standard errors."""
    left, right, pairs = views(400)
    fitted = fit_space(left, right, pairs, PLAN)
    rates = [hit_rates(fitted.refit(shuffled_pairs(pairs, left.groups, s), 100), n=400, seed=6) for s in range(6)]
    for k in CUTS:
        chance = chance_hit_rate(k, 400, 1)
        mean = np.mean([one[f"hit_rate@{k}"] for one in rates])
        assert abs(mean - chance) < 4 * np.sqrt(chance * (1 - chance) / 400)


def test_shuffling_moves_every_pair() -> None:
    """No left item keeps a partner, none stays within its group, and every left item stays as often as before."""
    groups = np.repeat(np.arange(20), 2)
    pairs = np.stack([np.repeat(np.arange(40), 3), np.arange(120)], 1)
    out = shuffled_pairs(pairs, groups, 3)
    assert np.array_equal(np.sort(out[:, 1]), np.arange(120))
    assert np.array_equal(np.bincount(out[:, 0]), np.full(40, 3))
    assert (groups[out[:, 0]] != groups[pairs[:, 0]]).all()


def test_a_refit_on_the_same_pairs_is_the_fit() -> None:
    """Refitting on the given pairs gives the same heads."""
    left, right, pairs = views(100)
    fitted = fit_space(left, right, pairs, PLAN)
    again = fitted.refit(pairs, PLAN.bank)
    for name, head in fitted.space.heads.items():
        for one, other in zip(again.heads[name].map.arrays().values(), head.map.arrays().values(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_same_seed_gives_the_same_space() -> None:
    """Two fits are bit-equal; with one thread instead of two the heads agree to 1e-5."""
    left, right, pairs = views(150)
    with threadpool_limits(2):
        spaces = [fit_space(left, right, pairs, PLAN).space for _ in range(2)]
    assert all(
        np.array_equal(a, b) for a, b in zip(spaces[0].arrays().values(), spaces[1].arrays().values(), strict=True)
    )
    values = spaces[0].facts["chosen"]
    with threadpool_limits(1):
        single = fit_space(left, right, pairs, PLAN, values=values).space
    x, _ = planted(50, 9)
    np.testing.assert_allclose(single.project("image", x), spaces[0].project("image", x), atol=1e-5)


def test_several_encoders_of_a_modality_help() -> None:
    """A second view with noise of its own ranks better than the first alone, and an encoder's order is kept."""
    left, right, pairs = views(300)
    other, _ = planted(300, 0, noise=0.5)
    both = View("image", {"a": left.vectors["a"], "c": other["a"]}, {"a": False, "c": False}, left.groups)
    space = fit_space(both, right, pairs, PLAN).space
    assert space.heads["image"].encoders == ("a", "c")
    x, y = planted(200, 5)
    z, _ = planted(200, 5, noise=0.5)
    relevant = np.arange(200)[:, None]
    scores = space.project("image", {"c": z["a"], "a": x["a"]}) @ space.project("text", y).T
    joined = summary(per_query(positions(scores, relevant), relevant))["MRR"]
    assert joined > hit_rates(fit_space(left, right, pairs, PLAN).space)["MRR"]


def test_folds_cut_no_group() -> None:
    """No group stands in the training part and the held-out part of one fold: the moments leave all of it out."""
    pairs = np.stack([np.repeat(np.arange(30), 2), np.arange(60)], 1)
    groups = np.arange(30) // 3
    x, y = planted(30, 0)[0]["a"], planted(60, 0)[1]["b"]
    for fold in Problem(x, y, pairs, groups, PLAN).folds:
        held = {tuple(row) for row in fold.rows.x.tolist()}
        names = {int(groups[i]) for i in range(30) if tuple(x[i].tolist()) in held}
        train = pairs[~np.isin(groups[pairs[:, 0]], list(names))]
        laid = x[train[:, 0]].astype(np.float64)
        np.testing.assert_allclose(fold.moments.xx, laid.T @ laid / len(train), atol=1e-7)
        assert not {tuple(row) for row in fold.rows.bank_x.tolist()} & held


def test_too_few_pairs_are_refused() -> None:
    """Three pairs are no training set, and an unknown method is named."""
    left, right, pairs = views(10)
    with pytest.raises(ValueError, match="too few"):
        fit_space(left, right, pairs[:3], PLAN)
    with pytest.raises(ValueError, match="no method 'magic'"):
        fit_space(left, right, pairs, Plan(method="magic"))


def test_four_pairs_give_a_space() -> None:
    """The least training set is fitted, finite and of unit length."""
    left, right, pairs = views(4)
    space = fit_space(left, right, pairs, PLAN).space
    z = space.project("text", planted(20, 1)[1])
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)


def test_banks_are_bounded_and_seeded() -> None:
    """A bank holds each item once, at most its bound, and the same ones under one seed."""
    assert bank_rows(50, 100, 0).tolist() == list(range(50))
    drawn = bank_rows(50, 10, 0)
    assert len(set(drawn.tolist())) == 10
    assert drawn.tolist() == bank_rows(50, 10, 0).tolist()


def test_unpaired_items_are_queries_of_a_bank() -> None:
    """An item without a pair is a query as any other: the bank of a side holds all its training items."""
    left, right, pairs = views(150)
    space = fit_space(left, right, pairs[pairs[:, 0] < 40], PLAN).space
    for view in (left, right):
        np.testing.assert_array_equal(space.banks[view.modality], space.project(view.modality, view.vectors))
