from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.mining.duplicates import Near, clusters, leaks, near_duplicates


def rows_of(found: Near) -> list[tuple[int, int, float]]:
    """The columns as rows."""
    return list(zip(found.left.tolist(), found.right.tolist(), found.score.tolist(), strict=True))


def joined(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Sizes of the components with two or more items, the largest first, by walking along the pairs."""
    sizes, seen = [], set()
    for start in range(n):
        if start in seen:
            continue
        reached, todo = {start}, [start]
        while todo:
            here = todo.pop()
            for pair in pairs:
                if here in pair:
                    todo += [end for end in pair if end not in reached]
                    reached |= set(pair)
        seen |= reached
        sizes.append(len(reached))
    return sorted((size for size in sizes if size > 1), reverse=True)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(0, 25), st.sampled_from([3.0, 6.0]), st.sampled_from([1, 100, 2**23]))
def test_plain_loops_find_the_same(seed: int, n: int, threshold: float, cells: int) -> None:
    """All pairs from the threshold on, each once, the nearest first; components by walking along them.

    Small whole numbers instead of unit vectors: float32 rounds nothing, and many products lie on the threshold.
    """
    x = np.random.default_rng(seed).integers(-2, 3, (n, 3)).astype(np.float32)
    found = near_duplicates(x, threshold, k=n, cells=cells)
    products = (x @ x.T).tolist()
    expected = [
        (i, j, products[i][j]) for i in range(n) for j in range(i + 1, n) if products[i][j] >= threshold
    ]  # fmt: skip
    assert rows_of(found) == sorted(expected, key=lambda row: (-row[2], row[0], row[1]))
    assert clusters(found, n).tolist() == joined(n, [(i, j) for i, j, _ in expected])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.0, 3.0]))
def test_a_leak_is_the_nearest_training_item(seed: int, n: int, m: int, threshold: float) -> None:
    """Each held-out item whose nearest training item reaches the threshold is named once, with that one."""
    generator = np.random.default_rng(seed)
    held, train = (generator.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (n, m))
    expected = []
    for i in range(n):
        best = max(range(m), key=lambda j: (float(held[i] @ train[j]), -j), default=None)
        if best is not None and held[i] @ train[best] >= threshold:
            expected.append((i, best, float(held[i] @ train[best])))
    found = leaks(held, train, threshold)
    assert rows_of(found) == sorted(expected, key=lambda row: (-row[2], row[0], row[1]))


def test_many_copies_stay_one_component() -> None:
    """A thousand copies of one item are one component, and no more than `k` pairs each."""
    x = np.repeat(np.eye(3, dtype=np.float32)[:1], 1_000, axis=0)
    found = near_duplicates(x, 0.97, k=10)
    assert clusters(found, 1_000).tolist() == [1_000]
    assert len(found.left) <= 10 * 1_000


def test_unlike_items_are_no_duplicates() -> None:
    """Random unit vectors have no near-duplicates; each shaken copy is found with its original."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 64))
    x[200:] = x[:200] + 0.05 * generator.normal(size=(200, 64))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    assert len(near_duplicates(x[:200], 0.97).left) == 0
    found = near_duplicates(x, 0.97)
    assert sorted(zip(found.left.tolist(), found.right.tolist(), strict=True)) == [(i, i + 200) for i in range(200)]
    assert clusters(found, 400).tolist() == [2] * 200
