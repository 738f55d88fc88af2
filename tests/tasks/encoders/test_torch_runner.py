from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.encoders.torch_runner import TorchRunner
from tests.tasks.encoders.parts import TORCH


class Narrow(torch.nn.Module):
    """Adds its two inputs up; its memory holds so many rows, as a device's would."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.seen: list[int] = []

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(one))
        if len(one) > self.most:
            raise torch.OutOfMemoryError("no room")
        return one.float() + other


def test_a_batch_beyond_the_memory_is_computed_in_halves() -> None:
    """Rows stay in order, whatever their number; a batch that fits is computed whole."""
    module = Narrow(3)
    batches = [tuple(np.arange(rows * 2).reshape(rows, 2) * sign for sign in (1, 3)) for rows in (7, 3, 1)]
    found = TorchRunner(module, TORCH, threads=1).run(batches)
    assert [one.dtype for one in found] == [np.float32] * 3
    assert all(np.array_equal(one, batch[0] * 4) for one, batch in zip(found, batches, strict=True))
    assert module.seen == [7, 4, 2, 2, 3, 3, 1]


def test_a_row_beyond_the_memory_is_an_error() -> None:
    """Nothing smaller than a row is tried."""
    module = Narrow(0)
    with pytest.raises(torch.OutOfMemoryError):
        TorchRunner(module, TORCH, threads=1).run([(np.ones((2, 2)), np.ones((2, 2)))])
    assert module.seen == [2, 1]
