from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from safetensors.numpy import load, save

from tasks.alignment.fit import Fitted, View, fit_space
from tasks.alignment.maps import Linear, Named
from tasks.alignment.plan import Plan
from tasks.alignment.space import JointSpace
from tasks.retrieval.similarity import normalise

PLAN = Plan(dim=16, pca=40, bank=200)


class Planted:
    """Items of sixty classes, three kinds of vectors: noisy ones of both sides, and scores of the classes."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.words = normalise(draw.normal(size=(60, 20)).astype(np.float32))
        self._looks = draw.normal(size=(60, 30)).astype(np.float32)

    def vectors(self, count: int, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Vectors of `count` pairs; the scores know the class."""
        draw = np.random.default_rng(seed)
        which = draw.integers(60, size=count)
        own = self._looks[which] + 1.5 * draw.normal(size=(count, 30)).astype(np.float32)
        texts = self.words[which] + 0.1 * draw.normal(size=(count, 20)).astype(np.float32)
        scores = draw.normal(size=(count, 60)).astype(np.float32)
        scores[np.arange(count), which] += 4
        return {"net": normalise(own), "net-classes": normalise(scores)}, {"bert": normalise(texts)}

    def fitted(self, *, known: bool = True, blind: bool = False) -> Fitted:
        """A space on fifty pairs, with the names of the classes where they are known; `blind` scores are of others."""
        left, right = self.vectors(50, 1)
        left |= {"net-classes": np.roll(left["net-classes"], 1, 0)} if blind else {}
        rows = np.arange(50)
        one = View("image", left, dict.fromkeys(left, False), rows, classes=("net-classes",))
        other = View("text", right, {"bert": False}, rows, names={"bert": self.words} if known else {})
        return fit_space(replace(one, classes=one.classes if known else ()), other, np.stack([rows, rows], 1), PLAN)

    def rank(self, space: JointSpace) -> float:
        """Mean rank of the words of 200 new items among each other, 0 the best."""
        left, right = self.vectors(200, 2)
        scores = space.project("image", left) @ space.project("text", right).T
        return float((scores > np.diag(scores)[:, None]).sum(1).mean())


def test_names_help_where_pairs_are_few() -> None:
    """Fifty pairs of sixty classes teach little; a classifier that knows them all ranks new items far better."""
    planted = Planted()
    space = planted.fitted().space
    assert space.facts["chosen"]["names"] > 0
    assert isinstance(space.heads["image"].map, Named)
    assert planted.rank(space) < 0.8 * planted.rank(planted.fitted(known=False).space)


def test_classes_that_know_nothing_do_not_count() -> None:
    """Scores of other items bring nothing, and folds leave them out."""
    space = Planted().fitted(blind=True).space
    assert space.facts["chosen"]["names"] == 0
    assert isinstance(space.heads["image"].map, Linear)


def test_classes_without_known_names_are_features() -> None:
    """Scores whose names nobody knows are embeddings like others."""
    space = Planted().fitted(known=False).space
    assert "names" not in space.facts["chosen"]
    assert space.heads["image"].encoders == tuple(space.heads["image"].features.maps) == ("net", "net-classes")


def test_scores_alone_are_features() -> None:
    """Where a side has nothing but scores they are features, and no class is named."""
    planted, rows = Planted(), np.arange(50)
    left, right = planted.vectors(50, 1)
    only = {"net-classes": left["net-classes"]}
    one = View("image", only, {"net-classes": False}, rows, classes=("net-classes",))
    other = View("text", right, {"bert": False}, rows, names={"bert": planted.words})
    space = fit_space(one, other, np.stack([rows, rows], 1), PLAN).space
    assert space.heads["image"].encoders == ("net-classes",)
    assert "names" not in space.facts["chosen"]


def test_a_refit_knows_no_names() -> None:
    """A control is to fall to chance, so its heads are those of its pairs alone."""
    fitted = Planted().fitted()
    rows = np.arange(50)
    again = fitted.refit(np.stack([rows, np.roll(rows, 1)], 1), 50)
    assert isinstance(again.heads["image"].map, Linear)


def test_a_named_space_survives_its_files() -> None:
    """Through safetensors and JSON come bit-equal projections, and the encoders in order."""
    planted = Planted()
    made = planted.fitted().space
    again = JointSpace.load(load(save(made.arrays())), json.loads(json.dumps(made.config())))
    vectors, _ = planted.vectors(20, 3)
    assert np.array_equal(again.project("image", vectors), made.project("image", vectors))
    assert again.heads["image"].encoders == ("net", "net-classes")
    assert again.config() == made.config()
