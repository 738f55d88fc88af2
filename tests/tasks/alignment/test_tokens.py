from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from safetensors.numpy import load, save

from tasks.alignment.fit import View, fit_space
from tasks.alignment.plan import HeadPlan, Plan
from tasks.alignment.space import JointSpace
from tasks.alignment.tokens import WIDTH, Tokens, beside
from tasks.metrics.retrieval import per_query, positions, summary

NAME = "a#tokens"
COUNT, DIM = 5, 24


def tokens(n: int, seed: int) -> np.ndarray:
    """Tokens (n, COUNT · DIM) float16 at unit length, item i with 1 + i modulo COUNT of them."""
    made = np.random.default_rng(seed).normal(0.3, 1, size=(n, COUNT, DIM))
    made[np.arange(COUNT) > np.arange(n)[:, None] % COUNT] = 0
    flat = made.reshape(n, -1)
    return (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(np.float16)


def planted(n: int, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Pairs that share a kind, which the vectors tell, and a detail, which one of five tokens of the left tells alone.

    The token that tells the detail bears a mark that depends on the kind, so that it has to be looked for.
    """
    maps, draw = np.random.default_rng(9), np.random.default_rng(seed)
    kinds, marks, details = maps.normal(size=(8, DIM)), maps.normal(size=(8, DIM)), maps.normal(size=(6, DIM))
    kind, detail = draw.integers(0, 8, n), draw.normal(size=(n, 6))
    told = draw.normal(size=(n, COUNT, 6)) @ details + marks[draw.integers(0, 8, (n, COUNT))] * 2
    told[:, 2] = detail @ details + marks[kind] * 2
    x = kinds[kind] + 0.3 * draw.normal(size=(n, DIM))
    y = np.concatenate([kinds[kind] + 0.3 * draw.normal(size=(n, DIM)), detail @ details], 1)
    flat = told.reshape(n, -1)
    left = {"a": x.astype(np.float32), NAME: (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(np.float16)}
    return left, {"b": y.astype(np.float32)}


def views(n: int, seed: int = 0) -> tuple[View, View, np.ndarray]:
    """A training set of them."""
    x, y = planted(n, seed)
    left = View("image", x, dict.fromkeys(x, False), np.arange(n), {NAME: COUNT})
    return left, View("text", y, {"b": False}, np.arange(n)), np.stack([np.arange(n)] * 2, 1)


def test_a_token_is_its_direction_on_the_axes_of_all() -> None:
    """Each token is scaled to unit length, centred, and projected; the axes are those of all training tokens."""
    x = tokens(40, 0)
    (made,) = Tokens.fit({NAME: x}, cnn={NAME: False}, counts={NAME: COUNT}).apply({NAME: x})
    assert (made.shape, made.dtype) == ((40, COUNT, WIDTH), np.float16)
    every = x.reshape(-1, DIM).astype(np.float64)
    there = every.any(1)
    unit = every[there] / np.linalg.norm(every[there], axis=1, keepdims=True)
    centred = unit - unit.mean(0)
    spread = np.linalg.svd(centred, compute_uv=False)
    flat = made.reshape(-1, WIDTH).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(flat[there][:, :DIM], axis=0), spread, rtol=2e-2)
    np.testing.assert_allclose(flat[there] @ flat[there].T, centred @ centred.T, atol=5e-3)
    assert not flat[~there].any()
    assert not flat[:, DIM:].any()


def test_blocks_change_nothing() -> None:
    """Many items at once, which are looked at in parts, give what they give alone."""
    x = tokens(2_500, 1)
    fitted = Tokens.fit({NAME: x}, cnn={NAME: True}, counts={NAME: COUNT})
    (whole,), (part,) = fitted.apply({NAME: x}), fitted.apply({NAME: x[2_000:2_003]})
    np.testing.assert_allclose(whole[2_000:2_003], part, atol=1e-3)


def test_attention_finds_what_the_vectors_do_not_tell() -> None:
    """A detail that one token tells alone is found by attention, and by no linear head."""
    x, y = planted(300, 5)
    scores = {}
    for shape in ("linear", "attention"):
        how = HeadPlan(shape=shape, steps=400, batch=256, rate=3e-3)  # type: ignore[arg-type]
        plan = Plan(method="heads", dim=16, pca=64, heads=how)
        space = fit_space(*views(1_500), plan, values={"rx": 0.3, "ry": 0.3, "p": 0.5, "steps": 400}).space
        relevant = np.arange(300)[:, None]
        found = positions(space.project("image", x) @ space.project("text", y).T, relevant)
        scores[shape] = summary(per_query(found, relevant))["MRR"]
    assert scores["attention"] > 1.5 * scores["linear"]


def test_attention_may_stop_half_way() -> None:
    """Held-out groups judge no step, half of the steps and all of them, from either start; the best is taken."""
    plan = Plan(method="heads", dim=16, pca=64, heads=HeadPlan(shape="attention", steps=40, batch=64))
    facts = fit_space(*views(200), plan).space.facts
    tried = [one for one in facts["tried"] if "steps" in one]
    assert {one["steps"] for one in tried} == {0, 20, 40}
    assert facts["chosen"]["steps"] == max(tried, key=lambda one: (one["rsum"], -one["steps"]))["steps"]


def test_a_space_with_tokens_survives_its_files() -> None:
    """Through safetensors and JSON come bit-equal projections; search learns that the tokens are needed, and where."""
    plan = Plan(method="heads", dim=16, pca=64, heads=HeadPlan(shape="attention", steps=5))
    made = fit_space(*views(200), plan, values={"rx": 0.3, "ry": 0.3, "p": 0.5, "steps": 5}).space
    again = JointSpace.load(load(save(made.arrays())), json.loads(json.dumps(made.config())))
    assert again.config() == made.config()
    assert again.heads["image"].encoders == ("a", NAME)
    assert again.heads["text"].encoders == ("b",)
    x, y = planted(1_500, 3)
    assert np.array_equal(again.project("image", x), made.project("image", x))
    assert np.array_equal(again.project("text", y), made.project("text", y))
    assert made.project("image", {name: one[:0] for name, one in x.items()}).shape == (0, made.dim)
    alone = made.project("image", {name: one[1_100:1_101] for name, one in x.items()})
    np.testing.assert_allclose(alone, made.project("image", x)[1_100:1_101], atol=1e-5)


def test_tokens_are_nothing_to_other_methods() -> None:
    """A closed form on items that have tokens is the one without them: features, heads and what search needs."""
    left, right, pairs = views(200)
    bare = replace(left, vectors={"a": left.vectors["a"]}, tokens={})
    plan = Plan(dim=16, pca=64)
    with_tokens, without = (fit_space(one, right, pairs, plan).space for one in (left, bare))
    assert with_tokens.config() == without.config()
    assert all(np.array_equal(one, without.arrays()[name]) for name, one in with_tokens.arrays().items())


def test_tokens_stand_behind_the_features() -> None:
    """Features first, then the tokens of each encoder in order."""
    x, parts = np.ones((2, 1), np.float32), [np.full((2, 2, 1), 2, np.float16), np.full((2, 1, 2), 3, np.float16)]
    assert beside(x, parts).tolist() == [[1, 2, 2, 3, 3]] * 2
