from __future__ import annotations

import numpy as np
import pytest

from tasks.mining.suggestions import guesses, suggest


def unit(n: int, d: int, seed: int) -> np.ndarray:
    """Random unit vectors."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def gains_by_loops(x: np.ndarray, known: np.ndarray, chosen: list[int]) -> dict[int, float]:
    """What each item that is left would add to the share of all that is covered, the whole cover summed anew."""

    def covered(rows: list[int]) -> float:
        total = 0.0
        for j in range(len(x)):
            near = [float(x[j] @ x[i]) for i in rows] + [float(x[j] @ one) for one in known]
            total += max([0.0, *near])
        return total / len(x)

    return {i: covered([*chosen, i]) - covered(chosen) for i in range(len(x)) if i not in chosen}


@pytest.mark.parametrize(("known", "cells"), [(0, 2**20), (7, 2**20), (7, 64)])
def test_it_is_the_plain_greedy_choice(known: int, cells: int) -> None:
    """Looking again only where it may matter, in blocks of any size, takes in each round what adds most of all (two
    items that cover only each other add the same).
    """
    x, others = unit(40, 6, 0), unit(known, 6, 1)
    found = suggest(x, others, 8, cells=cells)
    assert len(found.rows) == 8
    for place, (row, gain) in enumerate(zip(found.rows.tolist(), found.gain, strict=True)):
        gains = gains_by_loops(x, others, found.rows[:place].tolist())
        assert gain == pytest.approx(gains[row], abs=1e-6)
        assert gain == pytest.approx(max(gains.values()), abs=1e-6)


def test_it_is_diverse_and_leaves_out_what_is_known() -> None:
    """Of five heaps, two of them known, each other one gives one item, the largest heap first."""
    centres = np.eye(5, 8, dtype=np.float32)
    x = np.repeat(centres, [3, 4, 9, 6, 2], axis=0) + 0.01 * unit(24, 8, 3)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    heap = np.repeat(np.arange(5), [3, 4, 9, 6, 2])
    rows = suggest(x, centres[:2], 3).rows
    assert heap[rows].tolist() == [2, 3, 4]


def test_it_ends_when_all_is_covered() -> None:
    """Of three copies of two things two are chosen, however many are wanted; of nothing, none."""
    x = np.tile(np.eye(2, dtype=np.float32), (3, 1))
    assert suggest(x, x[:0], 5).rows.tolist() == [0, 1]
    assert suggest(x, x[:1], 5).rows.tolist() == [1]
    assert len(suggest(x[:0], x, 5).rows) == 0


def test_guesses_are_the_best_under_the_hubness_correction() -> None:
    """They are those of sorted lists, and the lead is that of the first over the second."""
    queries, gallery = unit(20, 5, 4), unit(30, 5, 5)
    terms = np.random.default_rng(6).random(30).astype(np.float32)
    rows, lead = guesses(queries, gallery, terms, 3)
    for i in range(20):
        scores = [2 * float(queries[i] @ gallery[j]) - float(terms[j]) for j in range(30)]
        order = sorted(range(30), key=lambda j: -scores[j])
        assert rows[i].tolist() == order[:3]
        assert lead[i] == pytest.approx(scores[order[0]] - scores[order[1]], abs=1e-5)
    assert guesses(queries, gallery[:1], terms[:1], 3)[1].tolist() == [0.0] * 20
