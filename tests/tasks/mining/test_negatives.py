from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.mining.negatives import Negatives, hard_negatives

Triples = list[tuple[int, int, float]]


def plain(
    similarity: np.ndarray,
    guide: np.ndarray,
    positives: list[int],
    groups: tuple[list[int], list[int]],
    window: tuple[int, int],
    max_score: float,
    margin: float,
    count: int,
) -> Triples:
    """Negatives by loops over every query and the whole order of its candidates."""
    found: Triples = []
    for i, row in enumerate(similarity.tolist()):
        others = [j for j in range(len(row)) if groups[1][j] != groups[0][i]]
        others.sort(key=lambda j: (-row[j], j))
        truth = float(guide[i, positives[i]])
        taken = 0
        for rank, j in enumerate(others):
            false = guide[i, j] > truth - abs(truth) * margin
            if window[0] <= rank < window[1] and row[j] <= max_score and not false and taken < count:
                found.append((i, j, row[j]))
                taken += 1
    return found


def triples(found: Negatives) -> Triples:
    """The columns as rows."""
    return list(zip(found.query.tolist(), found.negative.tolist(), found.score.tolist(), strict=True))


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 9),
    st.integers(1, 14),
    st.integers(0, 4),
    st.integers(1, 12),
    st.sampled_from([np.inf, 2.0, 0.0]),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.integers(1, 4),
    st.sampled_from(["itself", "another"]),
    st.sampled_from([1, 30, 2**23]),
)
def test_plain_loops_find_the_same(
    seed: int,
    n: int,
    m: int,
    range_min: int,
    width: int,
    max_score: float,
    margin: float,
    count: int,
    guide: str,
    cells: int,
) -> None:
    """Negatives are those of plain loops, in their order, for any window, bounds, guide and size of block.

    Small whole numbers: float32 rounds nothing, and ties are many.
    """
    generator = np.random.default_rng(seed)
    a, b, guide_a, guide_b = (generator.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (n, m, n, m))
    positives = generator.integers(0, m, n)
    groups = generator.integers(0, 4, n), generator.integers(0, 4, m)
    found = hard_negatives(
        a, b, positives, *groups, range_min=range_min, range_max=range_min + width, max_score=max_score,
        margin=margin, count=count, guide=(guide_a, guide_b) if guide == "another" else None, cells=cells,
    )  # fmt: skip
    judged = guide_a @ guide_b.T if guide == "another" else a @ b.T
    sides = (groups[0].tolist(), groups[1].tolist())
    window = (range_min, range_min + width)
    assert triples(found) == plain(a @ b.T, judged, positives.tolist(), sides, window, max_score, margin, count)
    assert [str(column.dtype) for column in found] == ["int64", "int64", "float32"]


def test_the_guard_by_hand() -> None:
    """With a positive at .8 and a margin of .05, a candidate at .77 is a false negative and one at .75 is none.

    .8 − .8·.05 = .76. A negative positive, −.2, moves the bound down to −.21 likewise.
    """
    query = np.array([[1.0, 0.0]], np.float32)
    cosines = np.array([0.8, 0.77, 0.75, 0.1], np.float32)
    gallery = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    groups = np.array([0]), np.array([0, 1, 2, 3])
    assert hard_negatives(query, gallery, np.array([0]), *groups).negative.tolist() == [2, 3]
    cosines = np.array([-0.2, -0.205, -0.22], np.float32)
    gallery = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    assert hard_negatives(query, gallery, np.array([0]), np.array([0]), np.arange(3)).negative.tolist() == [2]


@pytest.mark.parametrize("size", [1, 5, 40])
def test_a_group_gives_no_negatives_to_itself(size: int) -> None:
    """However many items share a query's group, none is its negative, and the next ones come in their place."""
    generator = np.random.default_rng(size)
    centres = generator.normal(size=(8, 16))
    x = np.repeat(centres, size, axis=0) + 0.1 * generator.normal(size=(8 * size, 16))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    groups = np.repeat(np.arange(8), size)
    found = hard_negatives(x, x, np.arange(len(x)), groups, groups, range_max=20, count=5)
    assert (groups[found.query] != groups[found.negative]).all()
    assert (np.bincount(found.query, minlength=len(x)) == 5).all()
