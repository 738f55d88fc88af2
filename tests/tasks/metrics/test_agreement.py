from __future__ import annotations

import numpy as np
import pytest

from tasks.metrics.agreement import agreement, mutual_knn


def unit(*shape: int, seed: int) -> np.ndarray:
    """Random unit vectors."""
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def by_loops(x: np.ndarray, y: np.ndarray, k: int) -> list[float]:
    """Share of common neighbours, item by item, from sorted lists."""
    out = []
    for i in range(len(x)):
        lists = []
        for z in (x, y):
            others = [j for j in range(len(z)) if j != i]
            lists.append(set(sorted(others, key=lambda j: (-float(z[i] @ z[j]), j))[:k]))
        out.append(len(lists[0] & lists[1]) / k)
    return out


@pytest.mark.parametrize("k", [1, 4, 10])
def test_it_is_what_loops_find(k: int) -> None:
    """Each item's share of common neighbours is that of two sorted lists."""
    x = unit(40, 6, seed=0)
    y = unit(40, 9, seed=1)
    y[:, :6] += 2 * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    assert mutual_knn(x, y, k).tolist() == by_loops(x, y, k)


def test_items_that_are_all_the_same_are_no_neighbours_of_themselves() -> None:
    """Among copies, too, an item's k neighbours are others: the lower rows."""
    x = np.ones((6, 1), np.float32)
    assert mutual_knn(x, x, 2).tolist() == by_loops(x, x, 2) == [1.0] * 6


def test_a_rotation_changes_nothing_and_independence_is_chance() -> None:
    """Rotated vectors agree wholly; independent ones as often as chance says, which their interval holds."""
    x = unit(400, 8, seed=2)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0].astype(np.float32)
    assert agreement(x, x @ turn).value > 0.99
    alone = agreement(x, unit(400, 8, seed=4))
    assert alone.chance == 10 / 399
    assert alone.low < alone.chance < alone.high
    assert alone.low < alone.value < alone.high


def test_few_items_have_few_neighbours() -> None:
    """The number of neighbours is a quarter of the others at most; of four items nothing is said."""
    x = unit(9, 3, seed=5)
    assert (agreement(x, x).k, agreement(x, x).items) == (2, 9)
    with pytest.raises(ValueError, match="4 pairs"):
        agreement(x[:4], x[:4])
