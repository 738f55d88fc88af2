from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.scratch import Parted, Scratch
from tests.storage.rows import unit

ROWS = 20


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, ROWS), max_size=4), st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25))))
def test_ranges_are_those_of_the_array(cuts: list[int], parts: list[tuple[int, int]]) -> None:
    """However it was written, and whichever ranges are read in whatever order, they are the array's own."""
    vectors = unit(ROWS, 3)
    with Scratch(Path(tempfile.gettempdir()), 3) as scratch:
        for part in np.split(vectors, sorted(cuts)):
            scratch.append(part)
        assert len(scratch) == ROWS
        for start, stop in parts:
            assert np.array_equal(scratch[start:stop], vectors[start:stop])


def test_nothing_is_left(tmp_path: Path) -> None:
    """The file has no name while it is in use, so that nothing is left of it, not even by a kill."""
    with Scratch(tmp_path / "new", 2) as scratch:
        scratch.append(np.ones((4, 2), np.float32))
        assert list((tmp_path / "new").iterdir()) == []
    with Scratch(tmp_path, 2) as empty:
        assert empty[:5].shape == (0, 2)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 4), max_size=30), max_size=6))
def test_parts_hold_their_rows_in_order(batches: list[list[int]]) -> None:
    """Whatever comes when, and in however many writes, a part gives its own rows, as they came."""
    schema = pa.schema({"number": pa.int64(), "name": pa.string()})
    expected: list[list[tuple[int, str]]] = [[] for _ in range(5)]
    with pytest.MonkeyPatch.context() as patch, Parted(Path(tempfile.gettempdir()), schema, 5) as aside:
        patch.setattr("storage.scratch._HELD", 20)
        done = 0
        for parts in batches:
            rows = [(number, f"n{number}") for number in range(done, done + len(parts))]
            aside.add(np.array(parts, np.int64), {"number": [n for n, _ in rows], "name": [name for _, name in rows]})
            for part, row in zip(parts, rows, strict=True):
                expected[part].append(row)
            done += len(parts)
        for _ in range(2):
            assert [list(zip(*(c.to_pylist() for c in one.columns), strict=True)) for one in aside] == expected
