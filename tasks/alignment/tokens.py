"""Token features: each encoder's tokens normalised, centred and rotated to a few principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tasks.alignment.features import principal_axes, signed_sqrt
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]
Raw = npt.NDArray[Any]
"""Tokens as they come from a table: float16."""
WIDTH = 128
"""Components of a token."""
_SAMPLE = 2_048  # items whose tokens the components are found on
_BLOCK = 1_024  # items at once: tokens are many


@dataclass(frozen=True)
class TokenMap:
    """One encoder's map of each of its `count` tokens; a token of zeros is none, and stays so."""

    cnn: bool
    count: int
    mean: Array
    axes: Array

    @classmethod
    def fit(cls, x: Raw, *, cnn: bool, count: int, width: int = WIDTH) -> Self:
        """Fit on tokens (n, count · d) of training items, or on some of these, spread evenly."""
        some = np.unique(np.linspace(0, len(x) - 1, _SAMPLE).round().astype(np.int64))
        tokens = _directions(x[some], cnn=cnn, count=count)
        tokens = tokens[tokens.any(1)]
        mean = tokens.mean(0, dtype=np.float64).astype(np.float32)
        axes = principal_axes(tokens - mean, width)[0]
        return cls(cnn, count, mean, np.pad(axes, ((0, 0), (0, width - axes.shape[1]))))

    def apply(self, x: Raw) -> Half:
        """Tokens (n, count · d) → (n, count, width) in half precision."""
        out = np.empty((len(x), self.count, self.axes.shape[1]), np.float16)
        for start in range(0, len(x), _BLOCK):
            part = _directions(x[start : start + _BLOCK], cnn=self.cnn, count=self.count)
            made = np.where(part.any(1, keepdims=True), (part - self.mean) @ self.axes, 0)
            out[start : start + _BLOCK] = made.reshape(-1, *out.shape[1:])
        return out


@dataclass(frozen=True)
class Tokens:
    """The token maps of all encoders of one modality, side by side."""

    maps: Mapping[str, TokenMap]

    @classmethod
    def fit(cls, vectors: Mapping[str, Raw], *, cnn: Mapping[str, bool], counts: Mapping[str, int]) -> Self:
        """Fit on the training tokens {encoder: (n, count · d)} of the encoders that `counts` names."""
        return cls({name: TokenMap.fit(vectors[name], cnn=cnn[name], count=n) for name, n in counts.items()})

    def apply(self, vectors: Mapping[str, Raw]) -> list[Half]:
        """Tokens {encoder: (n, count · d)} → (n, count, width) of each encoder, in half precision."""
        return [one.apply(vectors[name]) for name, one in self.maps.items()]

    def arrays(self) -> dict[str, Array]:
        """All arrays by name."""
        out: dict[str, Array] = {}
        for place, one in enumerate(self.maps.values()):
            out |= {f"encoder{place}.mean": one.mean, f"encoder{place}.axes": one.axes}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], encoders: Mapping[str, tuple[bool, int]]) -> Self:
        """The inverse of `arrays`, given by encoder, in order: whether it is a CNN, and the number of its tokens."""
        return cls(
            {
                name: TokenMap(cnn, count, arrays[f"encoder{place}.mean"], arrays[f"encoder{place}.axes"])
                for place, (name, (cnn, count)) in enumerate(encoders.items())
            }
        )


def beside(x: Array, tokens: Sequence[Half | Array]) -> Array:
    """Features (n, width) and behind them the tokens (n, t, w) of each encoder: (n, width + Σ t·w)."""
    return np.concatenate(
        [x, *(one.reshape(len(one), one.shape[1] * one.shape[2]) for one in tokens)], 1, dtype=np.float32
    )


def _directions(x: Raw, *, cnn: bool, count: int) -> Array:
    """Tokens (n, count · d) → (n · count, d) of unit length, or zero."""
    tokens = x.reshape(len(x) * count, x.shape[1] // count).astype(np.float32)
    return normalise(signed_sqrt(tokens) if cnn else tokens)
