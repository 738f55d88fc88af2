"""An image encoder around a runner: transform to the input size, fixed batches, unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tasks.encoders.pictures import Pixels
from tasks.encoders.protocol import Encoded, EncoderSpec, Runtime
from tasks.encoders.runners import Runs, load_runner
from tasks.encoders.shapes import rows_of_images
from tasks.encoders.vectors import filled, finished


class Transform(Protocol):
    """From a decoded picture to the model's input; `height` and `width` are that input's size."""

    @property
    def height(self) -> int:
        """Rows of the input."""

    @property
    def width(self) -> int:
        """Columns of the input."""

    @property
    def shorter_side(self) -> int:
        """Pixels of a picture's shorter side that it makes use of."""

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

    @property
    def transform(self) -> Transform:
        """Decoded picture `(h, w, 3)` uint8 → model input `(height, width, 3)` uint8."""
        return self.prepare

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        """Model inputs → unit vectors; no picture is ever truncated."""
        if not inputs:
            return Encoded(np.empty((0, self.spec.dim), np.float32), np.zeros(0, np.bool_))
        batches = ((batch,) for batch in filled(inputs, rows_of_images(self.runtime)))
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
    example = np.zeros((rows_of_images(runtime), prepare.height, prepare.width, 3), np.uint8)
    runner = load_runner(module, runtime, models_dir / fingerprint, threads, example=example)
    return ImageEncoder(spec, runtime, fingerprint, prepare, runner)
