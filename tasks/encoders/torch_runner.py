"""Runs a torch module on fixed batch shapes, on the CPU or a CUDA device."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, EncoderError, Runtime


class TorchRunner:
    """A module in evaluation mode in the runtime's dtype; its floating-point inputs are made by the module itself."""

    def __init__(self, module: Any, runtime: Runtime, *, threads: int) -> None:
        import torch

        if runtime.device == "cuda" and not torch.cuda.is_available():
            raise EncoderError(
                "torch cannot use the CUDA device that was found", "use --device cpu, or mend the driver"
            )
        if runtime.device == "cpu":
            torch.set_num_threads(threads)
        self._device = torch.device(runtime.device)
        dtype = torch.bfloat16 if runtime.dtype == "bfloat16" else torch.float32
        self._module = module.eval().to(device=self._device, dtype=dtype)
        self._one_at_a_time = threading.Lock()

    def run(self, batches: Iterable[tuple[npt.NDArray[Any], ...]]) -> list[Array]:
        """Outputs `(rows, dim)` float32, one a batch, in order. A batch is the tuple of the module's inputs."""
        import torch

        results: list[Array] = []
        with self._one_at_a_time, torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice of the frameworks to their developers
            for inputs in batches:
                tensors = [torch.from_numpy(np.ascontiguousarray(one)).to(self._device) for one in inputs]
                results.append(self._module(*tensors).float().cpu().numpy())
        return results
