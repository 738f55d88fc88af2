from __future__ import annotations

import numpy as np
import pytest

from tasks.alignment.cca import moments, solver
from tasks.alignment.features import Features
from tasks.alignment.fit import View, fit_space
from tasks.alignment.methods.cotraining import _ways
from tasks.alignment.plan import Plan
from tasks.alignment.problem import Problem
from tasks.metrics.retrieval import per_query, positions, summary

PLAN = {"dim": 16, "pca": 64}
SIDES = {"image": ("i1", "i2"), "text": ("t1", "t2")}
DIRECTIONS, NOISE = 8, 3.0


def planted(n: int, seed: int) -> dict[str, np.ndarray]:
    """Two encoders a side that see the same hidden directions, each under noise of its own, in 40 dimensions."""
    maps, draw = np.random.default_rng(99), np.random.default_rng(seed)
    hidden = draw.normal(size=(n, DIRECTIONS))
    return {
        name: (hidden @ maps.normal(size=(DIRECTIONS, 40)) + NOISE * draw.normal(size=(n, 40))).astype(np.float32)
        for names in SIDES.values()
        for name in names
    }


def views(given: int, alone: int, names: dict[str, tuple[str, ...]] = SIDES) -> tuple[View, View, np.ndarray]:
    """`given` pairs, then as many items of either side that have no partner at all."""
    z = planted(given + 2 * alone, 0)
    rows = [np.arange(given + alone), np.r_[np.arange(given), given + alone + np.arange(alone)]]
    left, right = (
        View(side, {name: z[name][row] for name in names[side]}, dict.fromkeys(names[side], False), row)
        for side, row in zip(names, rows, strict=True)
    )
    return left, right, np.stack([np.arange(given)] * 2, 1)


def found(space: object, names: dict[str, tuple[str, ...]] = SIDES, n: int = 300) -> float:
    """MRR of image → text on new pairs."""
    z = planted(n, 5)
    x, y = (space.project(side, {name: z[name] for name in names[side]}) for side in names)  # type: ignore[attr-defined]
    relevant = np.arange(n)[:, None]
    return summary(per_query(positions(x @ y.T, relevant), relevant))["MRR"]


def test_two_views_teach_each_other() -> None:
    """From 20 pairs and 600 unpaired items a side, new pairs rank better than by either view alone, with any method."""
    both = fit_space(*views(20, 600), Plan(method="cotraining", **PLAN)).space
    assert both.facts["chosen"]["rounds"] > 0
    for view in (0, 1):
        names = {side: (many[view],) for side, many in SIDES.items()}
        for method in ("cca", "soft"):
            assert found(both) > found(fit_space(*views(20, 600, names), Plan(method=method, **PLAN)).space, names)


def test_a_round_helps() -> None:
    """The heads after each round rank new pairs better than those of the given pairs alone."""
    values = {"rx": 3.0, "ry": 1.0, "p": 1.0}
    plan = Plan(method="cotraining", **PLAN)
    scores = [found(fit_space(*views(20, 600), plan, values=values | {"rounds": n}).space) for n in (0, 1, 2)]
    assert min(scores[1:]) > scores[0]


def test_the_heads_stand_on_what_both_views_lean_on() -> None:
    """CCA on the given pairs and on the barycentres of either view, made by loops of what a fit tells, is that fit."""
    left, right, pairs = views(20, 150)
    values = {"rx": 3.0, "ry": 1.0, "p": 1.0, "rounds": 2}
    fitted = fit_space(left, right, pairs, Plan(method="cotraining", **PLAN), values=values)
    heads = [fitted.space.heads[view.modality] for view in (left, right)]
    z = [head.features.apply(view.vectors) for head, view in zip(heads, (left, right), strict=True)]
    x, y, sure = [], [], []
    assert [(one.round, one.view, one.side) for one in fitted.leaning] == [(2, 1, 0), (2, 1, 1), (2, 2, 0), (2, 2, 1)]
    for one in fitted.leaning:
        assert one.items.tolist() == list(range(20, 170))
        for item, rows, weights in zip(one.items, one.near.rows, one.near.weight, strict=True):
            assert not set(rows.tolist()) & set(range(20))
            mean = sum(w * z[1 - one.side][row] for row, w in zip(rows, weights, strict=True))
            x.append(mean if one.side else z[0][item])
            y.append(z[1][item] if one.side else mean)
        sure += one.near.certainty.tolist()
    assert fitted.space.facts["pseudo_pairs"] == len(sure) == 600
    weight = np.r_[np.full(20, 2 * 15 * np.mean(sure)), sure] + 1e-9
    m = moments(np.r_[z[0][:20], x], np.r_[z[1][:20], y], np.stack([np.arange(620)] * 2, 1), weight)
    a, b = solver(m.xx, m.yy, rx=3.0, ry=1.0, p=1.0, dim=16)(m.xy)
    found = heads[0].map.arrays()["matrix"] @ heads[1].map.arrays()["matrix"].T
    assert np.linalg.norm(a @ b.T - found) < 1e-4 * np.linalg.norm(found)


def test_nothing_unpaired_is_said() -> None:
    """Without unpaired items no round is taken, and the choice says why."""
    facts = fit_space(*views(60, 0), Plan(method="cotraining", **PLAN)).space.facts
    assert facts["chosen"]["rounds"] == 0
    assert "unpaired" in facts["why"]


@pytest.mark.parametrize("kind", ["two encoders", "one and two", "one"])
def test_views_share_nothing(kind: str) -> None:
    """Two encoders of a side are one view each; a lone one is in both; lone ones on both sides lend odd and even parts.

    An encoder's own principal components are what its view sees, up to their mean.
    """
    z = planted(200, 1)
    names = {
        "two encoders": (("i1", "i2"), ("t1", "t2")),
        "one and two": (("i1",), ("t1", "t2")),
        "one": (("i1",), ("t1",)),
    }
    features = [
        Features.fit({name: z[name] for name in many}, cnn=dict.fromkeys(many, False), width=30) for many in names[kind]
    ]
    x, y = (one.apply({name: z[name] for name in many}) for one, many in zip(features, names[kind], strict=True))
    pairs = np.stack([np.arange(200)] * 2, 1)
    blocks = features[0].blocks(), features[1].blocks()
    problem = Problem(x, y, pairs, np.arange(200), Plan(**PLAN), blocks=blocks)
    for view in (0, 1):
        for way, whole, one, many in zip(_ways(problem, view), (x, y), features, names[kind], strict=True):
            if len(many) == 2:
                own = one.maps[many[view]].apply({name: z[name] for name in many}[many[view]])
                np.testing.assert_allclose(whole @ way, (own - own.mean(0)) / np.sqrt(2), atol=1e-5)
            elif kind == "one":
                np.testing.assert_array_equal(whole @ way, whole[:, view::2])
            else:
                np.testing.assert_array_equal(whole @ way, whole)


def test_heads_are_deterministic() -> None:
    """The same problem gives the same heads, bit for bit, and heads of other pairs have the same width."""
    left, right, pairs = views(40, 100)
    values = {"rx": 3.0, "ry": 1.0, "p": 1.0, "rounds": 2}
    one, other = (fit_space(left, right, pairs, Plan(method="cotraining", **PLAN), values=values) for _ in range(2))
    z = planted(9, 3)
    for side, names in SIDES.items():
        known = {name: z[name] for name in names}
        assert np.array_equal(one.space.project(side, known), other.space.project(side, known))
    assert one.refit(pairs[::-1], 10).dim == one.space.dim
