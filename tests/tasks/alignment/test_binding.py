from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from tasks.alignment.binding import bind
from tasks.alignment.fit import Fitted, View, fit_space
from tasks.alignment.methods.cca import CALM
from tasks.alignment.methods.rounds import ROUNDS
from tasks.alignment.plan import Plan
from tasks.alignment.space import JointSpace
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
PLAN = Plan(dim=16, pca=24, folds=2)
VALUES = {"rx": 1.0, "ry": 1.0, "p": 1.0}
BOUND = VALUES | {"method": "cca"}
CONCEPTS = 12
NONE = np.empty((0, 16), np.float32)


@dataclass
class World:
    """Items of three modalities about the same concepts: each encoder sees them mixed, beside much of its own."""

    seed: int = 0

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        self.mix = {name: generator.normal(size=(CONCEPTS, 32)) for name in ("sight", "words", "sound")}

    def seen(self, concepts: npt.NDArray[np.float64], modality: str, seed: int, noise: float = 1.0) -> Array:
        """Embeddings (n, 32) of items about `concepts` (n, c)."""
        generator = np.random.default_rng([seed, len(modality)])
        return normalise(concepts @ self.mix[modality] + noise * generator.normal(size=(len(concepts), 32)))


def view(modality: str, x: Array, first: int = 0) -> View:
    """Items of one encoder, each a group of its own."""
    return View(modality, {"e": x}, {"e": False}, first + np.arange(len(x)))


def same(n: int) -> npt.NDArray[np.int64]:
    """Row i belongs to row i."""
    return np.stack([np.arange(n)] * 2, 1)


def concepts(n: int, seed: int) -> npt.NDArray[np.float64]:
    """What n items are about."""
    return np.random.default_rng(seed).normal(size=(n, CONCEPTS))


@pytest.fixture(scope="module")
def world() -> World:
    """One world."""
    return World()


@pytest.fixture(scope="module")
def base(world: World) -> JointSpace:
    """Sight and words, fitted on pairs of their own."""
    c = concepts(400, 1)
    left, right = (view(name, world.seen(c, name, 2)) for name in ("sight", "words"))
    return fit_space(left, right, same(400), PLAN, values=VALUES).space


def bound(world: World, base: JointSpace, n: int = 300) -> Fitted:
    """Sounds, bound on n pairs with other words than those of the base."""
    c = concepts(n, 3)
    z = base.project("words", {"e": world.seen(c, "words", 4)})
    return bind(base, view("sound", world.seen(c, "sound", 4)), "words", z, same(n), NONE, PLAN, values=BOUND)


def hits(queries: Array, gallery: Array) -> float:
    """Share of the queries whose own item comes first, by cosine."""
    return float(((queries @ gallery.T).argmax(1) == np.arange(len(queries))).mean())


def test_the_others_stay_as_they_are(world: World, base: JointSpace) -> None:
    """Heads, banks and vectors of the other modalities are bit for bit those of the space without the new one."""
    made = bound(world, base).space
    assert tuple(made.heads) == (*base.heads, "sound")
    assert made.bound == {"sound": "words"}
    old, new = base.arrays(), made.arrays()
    assert all(np.array_equal(new[name], one) for name, one in old.items())
    x = world.seen(concepts(50, 9), "sight", 9)
    assert np.array_equal(made.project("sight", {"e": x}), base.project("sight", {"e": x}))
    assert np.array_equal(made.without(["sound"]).arrays()["sight.bank"], old["sight.bank"])
    again = JointSpace.load(new, made.config())
    assert again.bound == made.bound
    assert np.array_equal(again.project("sound", {"e": x}), made.project("sound", {"e": x}))


def test_what_no_pair_joins_meets_through_the_pivot(world: World, base: JointSpace) -> None:
    """Sight and sound without one pair between them: far above chance, and most of what 300 pairs would give."""
    made = bound(world, base).space
    c = concepts(200, 5)
    sight, sound = (world.seen(c, name, 6) for name in ("sight", "sound"))
    through = [made.project(name, {"e": x}) for name, x in (("sight", sight), ("sound", sound))]
    d = concepts(300, 7)
    left, right = (view(name, world.seen(d, name, 8)) for name in ("sight", "sound"))
    direct = fit_space(left, right, same(300), PLAN, values=VALUES).space
    straight = [direct.project(name, {"e": x}) for name, x in (("sight", sight), ("sound", sound))]
    for one, other in ((0, 1), (1, 0)):
        found = hits(through[one], through[other])
        assert found > 20 / 200
        assert found >= 0.6 * hits(straight[one], straight[other])


def test_the_bound_head_ranks_as_cca_does(world: World, base: JointSpace) -> None:
    """Sound and words rank about as well as in a space fitted on the same pairs alone."""
    made = bound(world, base).space
    c = concepts(300, 3)
    left, right = (view(name, world.seen(c, name, 4)) for name in ("sound", "words"))
    direct = fit_space(left, right, same(300), PLAN, values=VALUES).space
    d = concepts(200, 5)
    items = {name: {"e": world.seen(d, name, 6)} for name in ("sound", "words")}
    ranked = [
        hits(space.project("sound", items["sound"]), space.project("words", items["words"])) for space in (made, direct)
    ]
    assert ranked[0] >= 0.85 * ranked[1]


def test_calm_values_know_of_no_covariance(world: World, base: JointSpace) -> None:
    """They stand where few pairs judge, and map x by U·√S·Vᵀ, with USVᵀ = xᵀz by NumPy; many pairs overrule them."""
    c = concepts(30, 3)
    x, z = world.seen(c, "sound", 4), base.project("words", {"e": world.seen(c, "words", 4)})
    made = bind(base, view("sound", x), "words", z, same(30), NONE, PLAN).space
    assert tuple(made.facts["bound"]["sound"]["chosen"][name] for name in ("rx", "ry", "p")) == CALM
    u, s, vt = np.linalg.svd(made.heads["sound"].features.apply({"e": x}).T @ z, full_matrices=False)
    right = (u * np.sqrt(s)) @ vt
    found = made.heads["sound"].map.arrays()["matrix"]
    np.testing.assert_allclose(found / np.linalg.norm(found), right / np.linalg.norm(right), atol=1e-4)
    more = concepts(300, 3)
    z = base.project("words", {"e": world.seen(more, "words", 4)})
    other = bind(base, view("sound", world.seen(more, "sound", 4)), "words", z, same(300), NONE, PLAN).space
    assert other.facts["bound"]["sound"]["chosen"]["rx"] < CALM[0]


def few(world: World, base: JointSpace, rest: Array) -> tuple[JointSpace, float]:
    """Sounds of which twelve are named, bound beside the other items `rest`, and how often a name finds its sound."""
    c, alone = concepts(12, 3), concepts(300, 11)
    x = np.concatenate([world.seen(c, "sound", 4), world.seen(alone, "sound", 13)])
    z = base.project("words", {"e": world.seen(c, "words", 4)})
    made = bind(base, view("sound", x), "words", z, same(12), rest, replace(PLAN, folds=3)).space
    d = concepts(200, 5)
    words, sound = (made.project(name, {"e": world.seen(d, name, 6)}) for name in ("words", "sound"))
    return made, hits(words, sound)


def test_the_other_modalities_refine_it_where_that_helps(world: World, base: JointSpace) -> None:
    """With few names, the sight of what is heard ranks new sounds better; what tells nothing of it is refused."""
    plain, alone = few(world, base, NONE)
    sight = base.project("sight", {"e": world.seen(concepts(300, 11), "sight", 12)})
    refined, better = few(world, base, sight)
    assert refined.facts["bound"]["sound"]["chosen"]["rounds"] > 0
    assert better > alone
    stranger = normalise(np.random.default_rng(0).normal(size=(300, 16)))
    refused, _ = few(world, base, stranger)
    about = refused.facts["bound"]["sound"]
    assert about["method"] == "cca"
    assert max(one["rounds"] for one in about["tried"] if "rounds" in one) == ROUNDS
    assert np.array_equal(refused.arrays()["sound.map.matrix"], plain.arrays()["sound.map.matrix"])


def test_shuffled_pairs_fall_to_chance(world: World, base: JointSpace) -> None:
    """A refit on pairs that belong to others ranks by chance: no more than its 99.99% bound of 200 tosses."""
    fitted = bound(world, base)
    control = fitted.refit(np.stack([np.arange(300), np.roll(np.arange(300), 7)], 1), 100)
    c = concepts(200, 5)
    sight, sound = (control.project(name, {"e": world.seen(c, name, 6)}) for name in ("sight", "sound"))
    assert hits(sight, sound) <= 6 / 200


def test_a_chain_of_pivots(world: World, base: JointSpace) -> None:
    """What was bound can be a pivot in turn."""
    first = bound(world, base).space
    c = concepts(300, 15)
    z = first.project("sound", {"e": world.seen(c, "sound", 16)})
    made = bind(
        first, view("more words", world.seen(c, "words", 17)), "sound", z, same(300), NONE, PLAN, values=BOUND
    ).space
    assert made.bound == {"sound": "words", "more words": "sound"}
    d = concepts(200, 5)
    one, other = (
        made.project(m, {"e": world.seen(d, of, 6)}) for m, of in (("sight", "sight"), ("more words", "words"))
    )
    assert hits(one, other) > 20 / 200


def test_too_few_pairs_are_said(world: World, base: JointSpace) -> None:
    """Three pairs, or pairs of one group, are no ground to bind on."""
    x = world.seen(concepts(6, 3), "sound", 4)
    z = base.project("words", {"e": world.seen(concepts(6, 3), "words", 4)})
    with pytest.raises(ValueError, match="3 pairs of sound and words in 3 groups are too few"):
        bind(base, view("sound", x), "words", z, same(3), NONE, PLAN)
    alike = View("sound", {"e": x}, {"e": False}, np.zeros(6, np.int64))
    with pytest.raises(ValueError, match="6 pairs of sound and words in 1 groups"):
        bind(base, alike, "words", z, same(6), NONE, PLAN)
