from __future__ import annotations

import numpy as np
import pytest

from tasks.alignment.fit import View, hidden_folds
from tasks.alignment.plan import Plan
from tasks.mining.pairs import Matches, mutual_neighbours
from tasks.mining.precision import Hidden, Precision
from tests.tasks.alignment.test_methods import planted

VALUES = {"rx": 3.0, "ry": 3.0, "p": 1.0}


@pytest.mark.parametrize("score", ["cosine", "csls"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_estimate_is_near_the_truth(score: str, seed: int) -> None:
    """Where all unpaired items have a partner among them, the estimate is within ten points of the true precision."""
    given, alone = 150, 300
    x, y = planted(given + alone, seed)
    shuffled = np.random.default_rng(seed).permutation(alone)
    sides = (("image", x), ("text", np.r_[y[:given], y[given:][shuffled]]))
    left, right = (View(name, {name: z}, {name: False}, np.arange(given + alone)) for name, z in sides)
    pairs = np.stack([np.arange(given)] * 2, 1)

    def mine(fold: Hidden, rows: np.ndarray, columns: np.ndarray) -> Matches:
        return mutual_neighbours(fold.x[rows], fold.y[columns], score=score)  # type: ignore[arg-type]

    folds = list(hidden_folds(left, right, pairs, Plan(dim=16), VALUES))
    estimate = Precision.estimate(folds, pairs, mine)
    found = mine(folds[0], given + np.arange(alone), given + np.arange(alone))
    true = float((shuffled[found.right] == found.left).mean())
    assert estimate.value is not None
    assert estimate.judged > 50
    assert abs(estimate.value - true) < 0.1


def test_only_matches_of_hidden_items_are_judged() -> None:
    """One hidden pair found, one hidden item matched wrongly, two unpaired matched: two of three ends are right."""
    x = np.eye(5, dtype=np.float32)
    fold = Hidden(x, x, np.array([[4, 4]]), np.array([[0, 0], [1, 1]]))
    places = Matches(np.array([0, 1, 3]), np.array([0, 2, 3]), np.ones(3, np.float32), np.ones(3, np.float32))
    known = np.array([[0, 0], [1, 1], [4, 4]])
    asked: list[list[int]] = []

    def mine(_fold: Hidden, rows: np.ndarray, columns: np.ndarray) -> Matches:
        asked.extend([rows.tolist(), columns.tolist()])
        return places

    assert Precision.estimate([fold], known, mine) == (2, 3)
    assert asked == [[0, 1, 2, 3]] * 2


def test_nothing_judged_is_no_estimate() -> None:
    """Without a judged match there is neither a value nor an interval."""
    assert Precision(0, 0).value is None
    assert Precision(0, 0).interval() is None
