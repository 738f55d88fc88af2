"""An image encoder around a runner: transform to squares, fixed batches, unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, Encoded, EncoderSpec, Runtime
from tasks.encoders.shapes import shapes
from tasks.encoders.vectors import filled, unit

Pixels = npt.NDArray[np.uint8]


class Runs(Protocol):
    """Anything that maps batches of inputs to batches of raw vectors."""

    def run(self, batches: Sequence[tuple[npt.NDArray[Any], ...]]) -> list[Array]:
        """Outputs (rows, dim) of each batch."""


@dataclass(frozen=True)
class ImageEncoder:
    """Implements `Encoder` for pictures; `square` makes a (side, side, 3) uint8 input of a decoded picture."""

    spec: EncoderSpec
    runtime: Runtime
    fingerprint: str
    square: Callable[[Pixels], Pixels]
    runner: Runs

    def transform(self, content: Any) -> Any:
        """Decoded picture (h, w, 3) uint8 → model input (side, side, 3) uint8."""
        return self.square(content)

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        """Model inputs → unit vectors; no picture is ever truncated."""
        ((rows, _),) = shapes(self.spec.modality, self.runtime)
        raw = self.runner.run([(batch,) for batch in filled(inputs, rows)])
        vectors = np.concatenate(raw)[: len(inputs)]
        return Encoded(unit(vectors, self.spec.name), np.zeros(len(inputs), np.bool_))
