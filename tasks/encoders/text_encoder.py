"""A text encoder around a runner: tokens in length buckets, fixed batches, unit vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Encoded, EncoderSpec, Runtime
from tasks.encoders.runners import Runs
from tasks.encoders.shapes import rows_of_texts
from tasks.encoders.tokens import Tokens, batches
from tasks.encoders.vectors import finished

_TOKENISED = 512  # texts at a time, while the runner works on those before


@dataclass(frozen=True)
class TextEncoder:
    """Implements `Encoder` for texts. The runner takes (ids, lengths) and gives pooled vectors, or tokens."""

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
        if not inputs:
            return Encoded(np.empty((0, self.spec.dim), np.float32), np.zeros(0, np.bool_))
        cut: list[npt.NDArray[np.bool_]] = []
        places: list[list[int]] = []

        def ids() -> Iterator[list[int]]:
            for start in range(0, len(inputs), _TOKENISED):
                some, over = self.tokens(inputs[start : start + _TOKENISED])
                cut.append(over)
                yield from some

        def made() -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
            for rows, batch in batches(
                ids(),
                self.tokens.buckets,
                lambda length: rows_of_texts(length, self.runtime),
                self.tokens.pad,
                whole=self.runtime.name != "openvino",  # its bits do not depend on the rows (measured, held by a test)
            ):
                places.append(rows)
                yield batch

        count = self.spec.tokens
        raws = self.runner.run(made())
        vectors = np.zeros((len(inputs), *((count, self.spec.dim // count) if count else (self.spec.dim,))), np.float32)
        for rows, raw in zip(places, raws, strict=True):
            part = raw[: len(rows), : vectors.shape[1]]
            vectors[rows, : part.shape[1]] = part
        return Encoded(finished(vectors, self.spec), np.concatenate(cut))
