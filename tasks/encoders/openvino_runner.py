"""Runs an OpenVINO model on fixed batch shapes, both cores busy: one stream a core, each batch computed by one core."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array

_STATIC_BYTES = 200_000_000
"""A model up to this size is compiled for each batch shape (faster); a larger one once, or memory would multiply."""


def openvino() -> Any:
    """The module, with its telemetry off: OpenVINO sends at import unless its helper package is out of the way."""
    if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
        silent = types.ModuleType("openvino_telemetry")
        silent.Telemetry = _Silent  # type: ignore[attr-defined]  # a stand-in that has what OpenVINO calls
        utils = types.ModuleType("openvino_telemetry.utils")
        silent.utils = utils  # type: ignore[attr-defined]  # as above
        sys.modules["openvino_telemetry"] = silent
        sys.modules["openvino_telemetry.utils"] = utils
    return importlib.import_module("openvino")


class _Silent:
    """Takes every call of a telemetry client and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def keep_model(folder: Path, convert: Callable[[], Any]) -> Path:
    """Path of the model kept in `folder`; `convert()` makes it at the first call. Written whole or not at all."""
    path = folder / "model.xml"
    if path.exists():
        return path
    ov = openvino()
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    ov.save_model(convert(), str(fresh / "model.xml"), compress_to_fp16=False)
    try:
        fresh.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(fresh, ignore_errors=True)
        if not path.exists():
            raise
    return path


class Runner:
    """A compiled model. `run` takes batches of one shape and gives their outputs, in order."""

    def __init__(self, path: Path, *, dtype: str, threads: int) -> None:
        ov = openvino()
        self._core = ov.Core()
        self._model = self._core.read_model(str(path))
        self._static = path.with_suffix(".bin").stat().st_size <= _STATIC_BYTES
        self._threads = threads
        self._config = {
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32",
        }
        self._queues: dict[tuple[tuple[int, ...], ...], Any] = {}

    def run(self, batches: Sequence[tuple[npt.NDArray[Any], ...]]) -> list[Array]:
        """Outputs (rows, dim) float32 of batches whose inputs have the same shapes."""
        out: list[Array] = [np.empty((0, 0), np.float32)] * len(batches)
        if not batches:
            return out
        queue = self._queue(tuple(one.shape for one in batches[0]))

        def keep(request: Any, place: int) -> None:
            out[place] = request.get_output_tensor(0).data.astype(np.float32)  # a copy: the tensor is used again

        queue.set_callback(keep)
        for place, inputs in enumerate(batches):
            queue.start_async(dict(enumerate(inputs)), place)
        queue.wait_all()
        return out

    def _queue(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        key = shapes if self._static else ()
        if key not in self._queues:
            if self._static:
                self._model.reshape({place: list(shape) for place, shape in enumerate(shapes)})
            compiled = self._core.compile_model(self._model, "CPU", self._config)
            self._queues[key] = openvino().AsyncInferQueue(compiled, self._threads)
        return self._queues[key]
