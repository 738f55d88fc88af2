from __future__ import annotations

import numpy as np

from storage.memory import Peak, resident


def test_the_peak_is_that_of_the_block() -> None:
    """100 MB held for a moment inside the block are in its peak; a later block does not see them."""
    with Peak() as first:
        held = np.ones(100_000_000, np.uint8)
        touched = int(held[::4096].sum())
        del held
    before = resident()
    with Peak() as second:
        pass
    assert touched
    assert first.bytes >= before + 50_000_000
    assert second.bytes < first.bytes
