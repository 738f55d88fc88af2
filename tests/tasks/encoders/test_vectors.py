from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks.encoders.protocol import EncoderError
from tasks.encoders.vectors import filled, unit

NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=NUMBERS))
def test_rows_become_units(vectors: np.ndarray) -> None:
    """Each row keeps its direction and gets length 1, however large or small; a row of zeros is refused."""
    if not (vectors != 0).any(axis=1).all():
        with pytest.raises(EncoderError, match="without a direction"):
            unit(vectors, "x")
        return
    units = unit(vectors, "x")
    lengths = np.linalg.norm(units.astype(np.float64), axis=1)
    assert np.abs(lengths - 1).max() < 1e-6
    scale = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    assert np.allclose(units * scale, vectors, rtol=1e-6, atol=1e-6 * scale.max())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_without_direction_are_counted(bad: float) -> None:
    """Rows that are not finite are refused, with the encoder's name and how many they are."""
    vectors = np.ones((3, 2), np.float32)
    vectors[1, 0] = bad
    with pytest.raises(EncoderError, match="builtin:x gave 1 of 3 vectors"):
        unit(vectors, "builtin:x")


@given(st.integers(0, 20), st.integers(1, 7))
def test_batches_are_filled(count: int, rows: int) -> None:
    """All batches have the same rows, in order; only copies of the last input are added."""
    flat = [int(one) for batch in filled(list(range(count)), rows) for one in batch]
    assert len(flat) % rows == 0
    assert flat[:count] == list(range(count))
    assert all(one == count - 1 for one in flat[count:])
    assert len(flat) - count < rows
