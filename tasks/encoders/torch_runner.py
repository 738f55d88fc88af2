"""Runs a torch module on fixed batch shapes, on the CPU or a CUDA device."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Sequence
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
        self._copies = torch.cuda.Stream() if runtime.device == "cuda" else None  # type: ignore[no-untyped-call]
        dtype = torch.bfloat16 if runtime.dtype == "bfloat16" else torch.float32
        self._module = module.eval().to(device=self._device, dtype=dtype)
        self._one_at_a_time = threading.Lock()

    def run(self, batches: Iterable[tuple[npt.NDArray[Any], ...]]) -> list[Array]:
        """Outputs `(rows, dim)` float32, one a batch, in order. A batch is the tuple of the module's inputs.

        On CUDA a batch is copied from pinned memory while the one before it is computed, and results are fetched when
        all are under way. A batch that its memory does not hold is computed in halves.
        """
        import torch

        with self._one_at_a_time, torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice of the frameworks to their developers
            made = [self._computed([self._sent(one) for one in inputs]) for inputs in batches]
            return [one.cpu().numpy() for one in made]

    def _sent(self, one: npt.NDArray[Any]) -> Any:
        """An input on the device."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(one))
        if self._copies is None:
            return tensor
        with torch.cuda.stream(self._copies):
            sent = tensor.pin_memory().to(self._device, non_blocking=True)
        work = torch.cuda.current_stream()
        work.wait_stream(self._copies)
        sent.record_stream(work)  # its memory is not given away before the work on it is done
        return sent

    def _computed(self, tensors: Sequence[Any]) -> Any:
        """The output of a batch, float32, on the device. Raises `torch.OutOfMemoryError` where one row is too much."""
        import torch

        rows = len(tensors[0])
        try:
            return self._module(*tensors).float()
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
        # not before the error is gone: it holds what was computed so far
        halves = zip(*(one.split((rows + 1) // 2) for one in tensors), strict=True)
        return torch.cat([self._computed(half) for half in halves])
