"""Runs a torch module on fixed batch shapes, on CPU or GPU, in the runtime's dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, Runtime


class TorchRunner:
    """A module in evaluation mode; `run` takes batches of one shape and gives their outputs, in order."""

    def __init__(self, module: Any, runtime: Runtime, *, threads: int) -> None:
        import torch

        if runtime.device == "cpu":
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = runtime.device
        self._dtype = torch.bfloat16 if runtime.dtype == "bfloat16" else torch.float32
        self._module = module.to(self._device).eval()

    def run(self, batches: Sequence[tuple[npt.NDArray[Any], ...]]) -> list[Array]:
        """Outputs (rows, dim) float32."""
        torch = self._torch
        out: list[Array] = []
        with torch.inference_mode(), torch.autocast(
            self._device, dtype=torch.bfloat16, enabled=self._dtype is torch.bfloat16
        ):
            for inputs in batches:
                tensors = [torch.from_numpy(np.ascontiguousarray(one)).to(self._device) for one in inputs]
                out.append(self._module(*tensors).float().cpu().numpy())
        return out
