from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tasks.alignment import methods
from tasks.alignment.fit import View, fit_space
from tasks.alignment.methods import cca
from tasks.alignment.methods.auto import choose_among
from tasks.alignment.methods.search import FEW, Key, Scored, best_of
from tasks.alignment.plan import HeadPlan, Plan
from tasks.alignment.problem import Choice, Fold, Problem
from tasks.metrics.retrieval import per_query, positions, summary

PLAN = {"dim": 16, "pca": 64, "heads": HeadPlan(steps=40, batch=64)}
DIRECTIONS, NOISE = 12, 3.0


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of n pairs that share twelve hidden directions under noise, in 60 and 50 dimensions."""
    maps = np.random.default_rng(99)
    a, b = maps.normal(size=(DIRECTIONS, 60)), maps.normal(size=(DIRECTIONS, 50))
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=(n, DIRECTIONS))
    x, y = (hidden @ one + NOISE * draw.normal(size=(n, one.shape[1])) for one in (a, b))
    return x.astype(np.float32), y.astype(np.float32)


def views(given: int, alone: int, seed: int = 0) -> tuple[View, View, np.ndarray]:
    """`given` pairs, then as many items of either side that have no partner at all."""
    x, y = planted(given + 2 * alone, seed)
    rows = [np.arange(given + alone), np.r_[np.arange(given), given + alone + np.arange(alone)]]
    left, right = (
        View(name, {name: z[row]}, {name: False}, row) for name, z, row in (("image", x, rows[0]), ("text", y, rows[1]))
    )
    return left, right, np.stack([np.arange(given)] * 2, 1)


def found(space: object, n: int = 300) -> float:
    """MRR of image → text on new pairs."""
    x, y = planted(n, 5)
    scores = space.project("image", {"image": x}) @ space.project("text", {"text": y}).T  # type: ignore[attr-defined]
    relevant = np.arange(n)[:, None]
    return summary(per_query(positions(scores, relevant), relevant))["MRR"]


def test_unpaired_items_help_where_pairs_are_few() -> None:
    """With 20 pairs and 600 unpaired items a side, soft pseudo-pairs rank new pairs better than CCA alone does."""
    left, right, pairs = views(20, 600)
    soft = fit_space(left, right, pairs, Plan(method="soft", **PLAN)).space
    plain = fit_space(left, right, pairs, Plan(method="cca", **PLAN)).space
    assert soft.facts["chosen"]["rounds"] > 0
    assert found(soft) > found(plain)


def test_rounds_that_hurt_are_refused() -> None:
    """Unpaired items of another world add nothing: no round is taken where none ranks held-out groups better."""
    left, right, pairs = views(400, 400)
    noise = np.random.default_rng(1)
    for view, name in ((left, "image"), (right, "text")):
        view.vectors[name][400:] = noise.normal(size=view.vectors[name][400:].shape) * 3
    space = fit_space(left, right, pairs, Plan(method="soft", **PLAN)).space
    scores = [one["rsum"] for one in space.facts["tried"] if "rounds" in one]
    assert space.facts["chosen"]["rounds"] == 0
    assert max(scores) == scores[0]


def test_auto_says_why_and_its_choice_can_be_given() -> None:
    """All methods for paired items are tried and named; the values it has chosen give the same heads again."""
    left, right, pairs = views(120, 0)
    space = fit_space(left, right, pairs, Plan(method="auto", **PLAN)).space
    assert {one["method"] for one in space.facts["tried"]} == set(methods.METHODS) - methods.UNPAIRED
    assert all(name in space.facts["why"] for name in set(methods.METHODS) - methods.UNPAIRED)
    again = fit_space(left, right, pairs, Plan(method="auto", **PLAN), values=space.facts["chosen"]).space
    assert np.array_equal(
        again.project("text", {"text": planted(5, 1)[1]}), space.project("text", {"text": planted(5, 1)[1]})
    )


@pytest.mark.parametrize(("gain", "taken"), [(4.0, "later"), (1.0, "first"), (-4.0, "first")])
def test_a_later_method_must_be_better_by_a_standard_error(gain: float, taken: str) -> None:
    """100 queries that differ by 20 around the gain: its standard error is 2, and a gain of 1 may be luck."""
    first = np.full(100, 300, np.float32)
    later = first + gain + 20 * np.tile([1, -1], 50).astype(np.float32)
    tried = [{"rsum": 300.0, "folds": 1}]
    both = {
        name: SimpleNamespace(choose=lambda _, held=held: Choice({}, tried, held=[held]))
        for name, held in (("first", first), ("later", later))
    }
    x, y = planted(100, 0)
    problem = Problem(x, y, np.stack([np.arange(100)] * 2, 1), np.arange(100), Plan(**PLAN))
    assert choose_among(both, problem).values["method"] == taken  # type: ignore[arg-type]


def test_a_method_far_behind_is_not_tried_on_all_folds() -> None:
    """Beside a rival that finds everything the first fold is enough; beside one that finds nothing all are judged."""
    x, y = planted(120, 0)
    for rival, folds in ((600.0, {1}), (0.0, {1, 9})):
        problem = Problem(x, y, np.stack([np.arange(120)] * 2, 1), np.arange(120), Plan(**PLAN))
        problem.rival[:] = [np.full(len(fold.queries), rival, np.float32) for fold in problem.folds]
        assert {one["folds"] for one in methods.asif.choose(problem).tried} <= folds
        assert max(one["folds"] for one in methods.asif.choose(problem).tried) == max(folds)


def test_auto_stops_at_its_budget_and_names_what_it_left() -> None:
    """With next to no time the first method alone is tried, and the others are named."""
    left, right, pairs = views(60, 30)
    space = fit_space(left, right, pairs, Plan(method="auto", seconds=1e-9, **PLAN)).space
    assert space.facts["method"] == "cca"
    assert "not tried" in space.facts["why"]
    assert "asif" in space.facts["why"]


@pytest.mark.parametrize("method", methods.METHODS)
def test_a_choice_is_made_on_held_out_groups(method: str) -> None:
    """The score of a fold is that of heads which have not seen its pairs: partners exchanged in it fall to chance."""
    x, y = planted(120, 2)
    pairs = np.stack([np.arange(120)] * 2, 1)
    whole = Problem(x, y, pairs, np.arange(120), Plan(method=method, **PLAN))
    fold = whole.folds[0]
    assert not set(fold.queries[:, 0].tolist()) & set(fold.train[:, 0].tolist())
    choice = methods.choose(whole)
    maps = methods.prepare(fold.inner, choice)(fold.train)
    assert fold.score(maps) > 3 * 100 * 2 * (1 + 5 + 10) / 40 / 2


@pytest.mark.parametrize("method", methods.METHODS)
def test_what_a_choice_holds_is_what_its_heads_rank(method: str) -> None:
    """Query by query a fold's figures are those of the chosen values' heads, fitted without it, however they came."""
    x, y = planted(120, 2)
    pairs = np.stack([np.arange(120)] * 2, 1)
    whole = Problem(x, y, pairs, np.arange(120), Plan(method=method, **PLAN))
    choice = methods.choose(whole)
    for fold, held in zip(whole.folds, choice.held, strict=True):
        np.testing.assert_allclose(held, fold.values(methods.prepare(fold.inner, choice)(fold.train)))


def test_few_pairs_are_scored_in_their_span() -> None:
    """With fewer pairs than dimensions a trial's score is that of the heads in all dimensions, for every value."""
    x, y = planted(60, 4)
    pairs = np.stack([np.arange(30)] * 2, 1)
    problem = Problem(x, y, pairs, np.arange(60), Plan(**PLAN))
    fold = problem.folds[0]
    assert 2 * len(fold.train) < min(x.shape[1], y.shape[1])
    for (rx, ry, p), values in list(cca.trials(fold, None))[::7]:
        heads = cca.prepare(fold.inner, Choice({"rx": rx, "ry": ry, "p": p}))(fold.train)
        np.testing.assert_allclose(values, fold.values(heads))


def test_the_walk_over_the_ridges_loses_nothing_to_the_grid() -> None:
    """With many pairs a few of the ridges are tried; the values found rank within 1% of the best of the whole grid."""
    x, y = planted(FEW, 3)
    pairs = np.stack([np.arange(FEW)] * 2, 1)
    problem = Problem(x, y, pairs, np.arange(FEW), Plan(**PLAN))
    walked, grid = cca.choose(problem), best_of(problem, cca.NAMES, cca.trials)
    assert len(walked.tried) < len(grid.tried) / 2
    best, *_ = sorted((one["rsum"] for one in grid.tried if one["folds"] > 1), reverse=True)
    assert next(one["rsum"] for one in walked.tried if walked.values.items() <= one.items()) > 0.99 * best


@pytest.mark.parametrize(("gain", "winner"), [(0.3, (0.0,)), (0.33, (1.0,))])
def test_what_stands_gives_way_only_to_what_is_surely_better(gain: float, winner: tuple[float, ...]) -> None:
    """By hand, of 40 pairs: gains of mean g and deviation 1 are g·√40 standard errors, 1.90 and 2.09; two are asked."""
    x, y = planted(40, 3)
    problem = Problem(x, y, np.stack([np.arange(40)] * 2, 1), np.arange(40), Plan(folds=2, **PLAN))

    def trials(fold: Fold, only: set[Key] | None) -> Scored:
        scores = {(0.0,): np.zeros(20), (1.0,): gain + np.tile([-1.0, 1.0], 10)}
        for key in only or [(1.0,)]:
            yield key, scores[key].astype(np.float32)

    choice = best_of(problem, ("value",), trials, start=(0.0,))
    assert tuple(choice.values.values()) == winner
    assert {one["folds"] for one in choice.tried} == {len(problem.folds)}
    assert best_of(problem, ("value",), trials).values == {"value": 1.0}
