from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.alignment.lineage import SIZE, changed_share, mean_shift, pair_sketch

_pairs = st.sets(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=20)


def sketch(pairs: set[tuple[str, str]]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The sketch of a set of pairs, in an order of its own."""
    listed = list(pairs)
    return pair_sketch(*(np.array([pair[side] for pair in listed], dtype=np.str_) for side in (0, 1)))


@given(_pairs, _pairs)
def test_small_sets_are_compared_exactly(one: set[tuple[str, str]], other: set[tuple[str, str]]) -> None:
    """For sets below the sketch's size the share is the Jaccard distance, whatever the order."""
    union = len(one | other)
    expected = 1 - len(one & other) / union if union else 0.0
    assert changed_share(sketch(one), sketch(other)) == pytest.approx(expected)


def test_large_sets_are_compared_within_the_stated_error() -> None:
    """60,000 pairs of which a tenth was replaced: distance 2·6,000 / 66,000, within four standard errors."""
    numbers = np.arange(66_000).astype(str)
    before, now = (pair_sketch(part, part) for part in (numbers[:60_000], numbers[6_000:]))
    expected = 12_000 / 66_000
    error = np.sqrt(expected * (1 - expected) / SIZE)
    assert changed_share(before, now) == pytest.approx(expected, abs=4 * error)


def test_the_shift_is_a_share_of_the_variance() -> None:
    """Unit vectors about two means: the squared distance of the means over one minus the first one's square."""
    assert mean_shift(np.array([0.6, 0.0]), np.array([0.6, 0.0])) == 0
    assert mean_shift(np.array([0.6, 0.0]), np.array([0.0, 0.0])) == pytest.approx(0.36 / 0.64)
