from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.encode import _BATCH_BYTES, _batches

MIB = 1 << 20


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 9))
def test_batches_are_bounded(sizes: list[int], most: int) -> None:
    """Every content is in one batch, in order; no batch holds more than `most`, nor more than the bound in bytes unless
    one file alone does; and none could take the first of the next.
    """
    pending = [(str(number), (), "", size * MIB) for number, size in enumerate(sizes)]
    batches = list(_batches(pending, most))
    assert [item for batch in batches for item in batch] == pending
    totals = [sum(item[3] for item in batch) for batch in batches]
    for batch, total in zip(batches, totals, strict=True):
        assert 1 <= len(batch) <= most
        assert total <= _BATCH_BYTES or len(batch) == 1
    for batch, total, after in zip(batches, totals, batches[1:], strict=False):
        assert len(batch) == most or total + after[0][3] > _BATCH_BYTES
