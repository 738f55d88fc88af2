"""An image encoder around a runner: transform to the input size, fixed batches, unit vectors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tasks.encoders.keep import keep
from tasks.encoders.openvino_runner import OpenVinoRunner, openvino, save
from tasks.encoders.pictures import Pixels
from tasks.encoders.protocol import Array, Encoded, EncoderSpec, Runtime
from tasks.encoders.shapes import rows_of_images
from tasks.encoders.vectors import filled, finished


class Runs(Protocol):
    """Anything that maps batches of inputs to batches of raw vectors."""

    def run(self, batches: Sequence[tuple[npt.NDArray[Any], ...]]) -> list[Array]:
        """Outputs `(rows, dim)` float32 of each batch, in order; of a text's tokens `(rows, length, width)`."""


class Transform(Protocol):
    """From a decoded picture to the model's input; `height` and `width` are that input's size."""

    @property
    def height(self) -> int:
        """Rows of the input."""

    @property
    def width(self) -> int:
        """Columns of the input."""

    def __call__(self, pixels: Pixels) -> Pixels:
        """`(h, w, 3)` uint8 → `(height, width, 3)` uint8."""


@dataclass(frozen=True)
class ImageEncoder:
    """Implements `Encoder` for pictures. Inputs stay uint8 up to the model, which normalises them."""

    spec: EncoderSpec
    runtime: Runtime
    fingerprint: str
    prepare: Transform
    runner: Runs

    def transform(self, content: Any) -> Any:
        """Decoded picture `(h, w, 3)` uint8 → model input `(height, width, 3)` uint8."""
        return self.prepare(content)

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        """Model inputs → unit vectors; no picture is ever truncated."""
        if not inputs:
            return Encoded(np.empty((0, self.spec.dim), np.float32), np.zeros(0, np.bool_))
        batches = [(batch,) for batch in filled(inputs, rows_of_images(self.runtime))]
        vectors = np.concatenate(self.runner.run(batches))[: len(inputs)]
        return Encoded(finished(vectors, self.spec), np.zeros(len(inputs), np.bool_))


def load_image_encoder(
    spec: EncoderSpec,
    runtime: Runtime,
    fingerprint: str,
    models_dir: Path,
    threads: int,
    *,
    prepare: Transform,
    module: Callable[[], Any],
) -> ImageEncoder:
    """The encoder around a torch module, `(n, height, width, 3)` uint8 → `(n, dim)`.

    On OpenVINO `module()` is called once, converted and kept in `models_dir/<fingerprint>`; torch is not needed again.
    """
    runner: Runs
    if runtime.name == "openvino":
        shape = (rows_of_images(runtime), prepare.height, prepare.width, 3)
        folder = keep(models_dir / fingerprint, lambda fresh: _convert(module(), shape, fresh))
        runner = OpenVinoRunner(folder, runtime, threads=threads, shape=shape)
    else:
        from tasks.encoders.torch_runner import TorchRunner

        runner = TorchRunner(module(), runtime, threads=threads)
    return ImageEncoder(spec, runtime, fingerprint, prepare, runner)


@contextmanager
def _silent() -> Iterator[None]:
    """Tracing warns of every shape it takes as fixed, which is what we want, and reads attributes that log advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _convert(module: Any, shape: tuple[int, ...], folder: Path) -> None:
    import torch

    with torch.inference_mode(), _silent():
        model = openvino().convert_model(module.eval().float(), example_input=torch.zeros(shape, dtype=torch.uint8))
    model.reshape([-1, *shape[1:]])
    save(model, folder)
