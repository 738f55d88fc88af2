"""Runs an OpenVINO model on fixed batch shapes: one stream a core, each batch computed by one core alone.

So all cores are busy, and the bits of a vector depend neither on the number of cores nor on what runs beside it.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, EncoderError, Runtime


def openvino() -> Any:
    """The module, telemetry off: where the telemetry package cannot be imported, OpenVINO uses its own stub."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes its import fail
    return importlib.import_module("openvino")


def save(model: Any, folder: Path) -> None:
    """Write an `openvino.Model` as model.xml and model.bin, weights in full precision."""
    openvino().save_model(model, str(folder / "model.xml"), compress_to_fp16=False)


class OpenVinoRunner:
    """A compiled model. Compiled once for all shapes: a copy a shape would multiply the memory and be no faster."""

    def __init__(self, folder: Path, runtime: Runtime, *, threads: int, shape: tuple[int, ...] | None = None) -> None:
        """`shape` fixes that of the only input; without it shapes may change from batch to batch."""
        ov = openvino()
        config = {
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "bf16" if runtime.dtype == "bfloat16" else "f32",
        }
        try:
            core = ov.Core()
            model = core.read_model(str(folder / "model.xml"))
            if shape is not None:
                model.reshape(list(shape))
            compiled = core.compile_model(model, "CPU", config)
        except RuntimeError as error:
            cause = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise EncoderError(
                f"the converted model in {folder} cannot be read ({cause})", "delete that folder"
            ) from error
        self._compiled, self._threads = compiled, threads
        self._queue = self._fresh_queue()
        self._one_at_a_time = threading.Lock()

    def _fresh_queue(self) -> Any:
        queue = openvino().AsyncInferQueue(self._compiled, self._threads)
        queue.set_callback(_take)
        return queue

    def run(self, batches: Iterable[tuple[npt.NDArray[Any], ...]]) -> list[Array]:
        """Outputs `(rows, dim)` float32, one a batch, in order. A batch is the tuple of the model's inputs.

        Each is asked for when a core is free, so that the next ones are made while others are computed.
        """
        results: dict[int, Array] = {}
        with self._one_at_a_time:
            try:
                for place, inputs in enumerate(batches):
                    self._queue.start_async(dict(enumerate(inputs)), (results, place))
                self._queue.wait_all()
            except BaseException:
                for request in self._queue:
                    with suppress(RuntimeError):
                        request.wait()
                self._queue = self._fresh_queue()  # the old one would raise this error for ever
                raise
        return [results[place] for place in range(len(results))]


def _take(request: Any, wanted: tuple[dict[int, Array], int]) -> None:
    results, place = wanted
    results[place] = np.array(request.get_output_tensor(0).data, dtype=np.float32)  # the tensor is used again
