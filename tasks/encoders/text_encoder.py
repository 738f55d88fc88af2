"""A text encoder around a runner: tokens in length buckets, fixed batches, unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.encoders.image_encoder import Runs
from tasks.encoders.protocol import Encoded, EncoderSpec, Runtime
from tasks.encoders.shapes import shapes
from tasks.encoders.tokens import Tokens, batches
from tasks.encoders.vectors import unit


@dataclass(frozen=True)
class TextEncoder:
    """Implements `Encoder` for texts. The runner takes (ids, lengths) and gives pooled vectors."""

    spec: EncoderSpec
    runtime: Runtime
    fingerprint: str
    tokens: Tokens
    runner: Runs

    def transform(self, content: Any) -> Any:
        """A text stays as it is."""
        return content

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        """Texts → unit vectors, and which were cut at the encoder's token limit."""
        rows_of = {length: rows for rows, length in shapes(self.spec.modality, self.runtime)}
        ids, cut = self.tokens(inputs)
        vectors = np.empty((len(inputs), self.spec.dim), np.float32)
        for places, made in batches(ids, rows_of, self.tokens.pad_id):
            vectors[places] = np.concatenate(self.runner.run(made))[: len(places)]
        return Encoded(unit(vectors, self.spec.name), cut)
